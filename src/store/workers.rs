//! Worker processes on this results file, and which types each does not claim for now.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::liveness::{AliveLock, living};
use super::{Store, StoreError, time_column, to_text};
use crate::clock::Timestamp;
use crate::file_changes::WatchedFile;
use crate::os_error;
use crate::sqlite::DatabaseError;

/// A worker process: a row of `workers`, and a lock that shows that it is alive. Dropping it releases the lock.
pub struct Process {
    number: i64,
    mark: String,
    alive: AliveLock,
}

impl Process {
    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// Restores its lock if somebody removed it. Returns whether it was in place.
    pub fn keep_lock(&self) -> bool {
        // If this fails, it is soon tried again.
        self.alive.keep().unwrap_or(false)
    }

    /// Returns the file of its lock.
    pub(crate) fn lock_file(&self) -> WatchedFile {
        WatchedFile { path: self.alive.path().to_owned(), writes: false }
    }

    /// Returns the mark in its handlers' environment, by which orphans are recognised.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// Number of attempts of a process, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Attempts that succeeded.
    pub completed: u64,
    /// Attempts that ran and failed.
    pub failed: u64,
}

/// Why a type is not claimed. Each cause ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its handler snoozed it.
    Snoozed,
    /// Its circuit breaker is open.
    CircuitOpen,
}

/// A time during which a worker does not claim a type.
#[derive(Debug, Clone, Copy)]
pub struct ClaimingPause<'a> {
    /// Why.
    pub cause: Cause,
    /// Its end.
    pub until: Timestamp,
    /// The reason for users.
    pub reason: &'a str,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Snoozed => "snoozed",
            Self::CircuitOpen => "paused",
        }
    }
}

/// A live worker, and its state for one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorker {
    /// Its worker id.
    pub worker_id: String,
    /// Number of its tasks in flight, of all types.
    pub in_flight: u64,
    /// Until when it does not claim the type, and why.
    pub unclaimed: Vec<(Timestamp, String)>,
}

impl Store {
    /// Registers a new worker process, which also proves that the file can be written. Refuses a worker id that a live
    /// process on this results file uses: the TaskManager could not distinguish the two.
    pub fn start_process(&self, worker_id: &str, api_url: &str, now: Timestamp) -> Result<Process, StoreError> {
        // 62 bits, so that it also fits into a resource limit of the handlers.
        let mark = format!("{:016x}", crate::random_id::random_id() >> 2);
        let started = self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if let Some(pid) = live_pid(&transaction, &self.home, worker_id, None)? {
                return Ok(Err(StoreError::WorkerIdInUse { worker_id: worker_id.to_owned(), pid }));
            }
            transaction.execute(
                "INSERT INTO workers (worker_id, api_url, pid, mark, started_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![worker_id, api_url, std::process::id(), mark, to_text(now)],
            )?;
            let number = transaction.last_insert_rowid();
            // Taken before others can see the row: they must never find it without its lock.
            let alive = match AliveLock::take(&self.home, number) {
                Ok(alive) => alive,
                Err(error) => {
                    let reason = format!("cannot lock the file of this process: {}", os_error::message(&error));
                    return Ok(Err(self.failed(DatabaseError::mendable(reason))));
                }
            };
            transaction.commit()?;
            Ok(Ok(Process { number, mark, alive }))
        });
        started?
    }

    /// Whether a process has worked for the TaskManager at `api_url` under that worker id, and none does so now, for
    /// any TaskManager.
    pub fn is_dead_worker(&self, worker_id: &str, api_url: &str) -> Result<bool, StoreError> {
        self.with(|connection| {
            let was_here = connection
                .prepare_cached("SELECT 1 FROM workers WHERE worker_id = ?1 AND api_url = ?2")?
                .exists([worker_id, api_url])?;
            Ok(was_here && live_pid(connection, &self.home, worker_id, None)?.is_none())
        })
    }

    /// Whether a live process on this results file uses that worker id.
    pub fn is_live_worker(&self, worker_id: &str) -> Result<bool, StoreError> {
        self.with(|connection| Ok(live_pid(connection, &self.home, worker_id, None)?.is_some()))
    }

    /// Whether other processes than `process` have worked for the TaskManager at `api_url`.
    pub fn had_other_workers(&self, process: &Process, api_url: &str) -> Result<bool, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM workers WHERE api_url = ?1 AND process <> ?2")?
                .exists(params![api_url, process.number])
        })
    }

    /// Whether another process that worked for the TaskManager at `api_url` was alive after `since`, by its noted
    /// polls, and has not exited cleanly. It may still be alive.
    pub fn may_have_just_died(&self, process: &Process, api_url: &str, since: Timestamp) -> Result<bool, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT 1 FROM workers WHERE api_url = ?1 AND process <> ?2 AND stopped_at IS NULL
                     AND coalesce(last_poll_at, started_at) >= ?3",
                )?
                .exists(params![api_url, process.number, to_text(since)])
        })
    }

    /// Whether the process whose handlers carry `mark` is alive; `None` if it is not a process of this results file.
    pub fn is_mark_alive(&self, mark: &str) -> Result<Option<bool>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT process FROM workers WHERE mark = ?1")?;
            let process = statement.query_row([mark], |row| row.get(0)).optional()?;
            Ok(process.map(|process| !living(connection, &self.home, [process]).is_empty()))
        })
    }

    /// Notes a process's last poll and its counters.
    pub fn note_poll(&self, process: &Process, counters: Counters, now: Timestamp) -> Result<(), StoreError> {
        self.update_process("last_poll_at", process, counters, now)
    }

    /// Notes that a process has exited cleanly.
    pub fn stop_process(&self, process: &Process, counters: Counters, now: Timestamp) -> Result<(), StoreError> {
        self.update_process("stopped_at", process, counters, now)
    }

    /// Notes that a worker does not claim a type for a time. The note lasts only as long as its process.
    pub fn note_unclaimed(&self, worker_id: &str, task_type: &str, pause: ClaimingPause<'_>) -> Result<(), StoreError> {
        let ClaimingPause { cause, until, reason } = pause;
        let (worker_id, task_type, reason) = (worker_id.to_owned(), task_type.to_owned(), reason.to_owned());
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO unclaimed_types (process, task_type, cause, until, reason)
                     SELECT max(process), ?2, ?3, ?4, ?5 FROM workers WHERE worker_id = ?1 HAVING max(process) NOTNULL",
                )?
                .execute(params![worker_id, task_type, cause.as_str(), to_text(until), reason])
                .map(drop)
        })
    }

    /// Notes that a worker claims a type again.
    pub fn note_claimable(&self, worker_id: &str, task_type: &str, cause: Cause) -> Result<(), StoreError> {
        let (worker_id, task_type) = (worker_id.to_owned(), task_type.to_owned());
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM unclaimed_types WHERE task_type = ?2 AND cause = ?3
                     AND process IN (SELECT process FROM workers WHERE worker_id = ?1)",
                )?
                .execute(params![worker_id, task_type, cause.as_str()])
                .map(drop)
        })
    }

    /// Returns the live workers of the TaskManager at `api_url`, and their state for a type.
    pub fn live_workers(&self, api_url: &str, task_type: &str) -> Result<Vec<LiveWorker>, StoreError> {
        self.with(|connection| {
            let workers: Vec<(i64, String)> = connection
                .prepare("SELECT process, worker_id FROM workers WHERE api_url = ?1 AND stopped_at IS NULL")?
                .query_map([api_url], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let living = living(connection, &self.home, workers.iter().map(|(process, _)| *process));
            let mut of_type = connection.prepare(
                "SELECT until, reason FROM unclaimed_types WHERE process = ?1 AND task_type = ?2 COLLATE NOCASE",
            )?;
            let mut found = Vec::new();
            for (process, worker_id) in workers.into_iter().filter(|(process, _)| living.contains(process)) {
                let in_flight = "SELECT count(*) FROM claims WHERE process = ?1";
                let in_flight = connection.query_row(in_flight, [process], |row| row.get(0))?;
                let unclaimed = of_type
                    .query_map(params![process, task_type], |row| Ok((time_column(row, 0)?, row.get(1)?)))?
                    .collect::<rusqlite::Result<_>>()?;
                found.push(LiveWorker { worker_id, in_flight, unclaimed });
            }
            Ok(found)
        })
    }

    fn update_process(
        &self,
        time_column: &str,
        process: &Process,
        counters: Counters,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE workers SET {time_column} = ?2, tasks_completed = ?3, tasks_failed = ?4 WHERE process = ?1"
        );
        self.execute(&sql, params![process.number(), to_text(now), counters.completed, counters.failed])
    }
}

/// Returns the pid of a live process with that worker id, other than `except`.
pub(super) fn live_pid(
    connection: &Connection,
    results: &Path,
    worker_id: &str,
    except: Option<&Process>,
) -> rusqlite::Result<Option<u32>> {
    let pids: HashMap<i64, u32> = connection
        .prepare_cached("SELECT process, pid FROM workers WHERE worker_id = ?1 AND stopped_at IS NULL")?
        .query_map([worker_id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let others = pids.keys().copied().filter(|number| except.is_none_or(|except| except.number != *number));
    Ok(living(connection, results, others).first().and_then(|number| pids.get(number)).copied())
}
