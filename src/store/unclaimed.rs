//! Which types live workers do not claim for a while, and why: for whoever asks why a task waits.

use rusqlite::params;

use super::columns::time_column;
use super::liveness::living;
use super::{Store, StoreError, to_text};
use crate::clock::Timestamp;

/// Why a type is not claimed; one cause does not end the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its handler wants no tasks.
    Snoozed,
    /// Its circuit breaker is open.
    Paused,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Snoozed => "snoozed",
            Self::Paused => "paused",
        }
    }
}

/// A worker that lives, and what of a type it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorker {
    /// Its worker id.
    pub worker_id: String,
    /// The tasks that it has in flight, of all types.
    pub in_flight: u64,
    /// Until when it does not claim the type, and why.
    pub unclaimed: Vec<(Timestamp, String)>,
}

impl Store {
    /// Notes that a worker does not claim a type before `until`. The note is its process's: nobody goes by it later.
    pub fn note_unclaimed(
        &self,
        worker_id: &str,
        task_type: &str,
        cause: Cause,
        (until, reason): (Timestamp, &str),
    ) -> Result<(), StoreError> {
        self.write(|connection| {
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
        self.write(|connection| {
            connection
                .prepare_cached(
                    "DELETE FROM unclaimed_types WHERE task_type = ?2 AND cause = ?3
                     AND process IN (SELECT process FROM workers WHERE worker_id = ?1)",
                )?
                .execute(params![worker_id, task_type, cause.as_str()])
                .map(drop)
        })
    }

    /// The workers of the TaskManager at `api_url` that live, and how it is with a type there.
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
}
