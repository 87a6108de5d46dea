//! Unreported results: which of them a process reports, why some were refused, and how they are settled.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::claims::end_claim;
use super::liveness::living;
use super::results::{COLUMNS, read_result};
use super::rollups::LostResult;
use super::workers::live_pid;
use super::{Process, ResultId, Store, StoreError, StoredResult, optional_time_column, to_text};
use crate::task::{TaskId, TaskResult};

/// Summary of the unreported results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreported {
    /// Number of unreported results, of every TaskManager.
    pub count: u64,
    /// When the oldest was finished.
    pub oldest: Option<Timestamp>,
    /// How many of them the TaskManager refused when they were last sent.
    pub refused: u64,
    /// The last refused one, and why.
    pub last_refused: Option<(TaskId, String)>,
}

impl Store {
    /// Takes the unreported results for the TaskManager at `api_url` that no live process but `process` will report,
    /// oldest first. They are on disk even if their process died before its sync.
    pub fn take_unreported(&self, api_url: &str, process: &Process) -> Result<Vec<StoredResult>, StoreError> {
        self.sync()?;
        let sql =
            format!("SELECT {COLUMNS}, process FROM results WHERE reported_at IS NULL AND api_url = ?1 ORDER BY rowid");
        self.transaction(|transaction| {
            let unreported = transaction
                .prepare_cached(&sql)?
                .query_map([api_url], |row| Ok((read_result(row)?, row.get(19)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let taken = self.abandoned(transaction, unreported, process)?;
            for stored in &taken {
                transaction
                    .prepare_cached("UPDATE results SET process = ?1 WHERE rowid = ?2")?
                    .execute([process.number(), stored.id.0])?;
            }
            Ok(taken)
        })
    }

    /// Selects those of `unreported`, each with its process, that no live process but `process` will report. If the
    /// process is unknown, because the task was worked by hand or stored by an older version, any process with the same
    /// worker id counts.
    fn abandoned(
        &self,
        connection: &Connection,
        unreported: Vec<(StoredResult, Option<i64>)>,
        process: &Process,
    ) -> rusqlite::Result<Vec<StoredResult>> {
        let owners = unreported.iter().filter_map(|(_, owner)| *owner).filter(|owner| *owner != process.number());
        let living = living(connection, &self.home, owners);
        let (mut namesakes, mut abandoned) = (HashMap::new(), Vec::new());
        for (stored, owner) in unreported {
            let worker_id = &stored.result.worker_id;
            let is_anothers = match (owner, namesakes.get(worker_id)) {
                (Some(owner), _) => living.contains(&owner),
                (None, Some(is_live)) => *is_live,
                (None, None) => {
                    let is_live = live_pid(connection, &self.home, worker_id, Some(process))?.is_some();
                    namesakes.insert(worker_id.clone(), is_live);
                    is_live
                }
            };
            if !is_anothers {
                abandoned.push(stored);
            }
        }
        Ok(abandoned)
    }

    /// Notes why the TaskManager refuses a report, for people who ask why it is not reported.
    pub fn refused(&self, id: ResultId, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        self.write(move |connection| note(connection, id, &reason))
    }

    /// Marks results as confirmed or, if the third value says so, as lost, in one transaction. Also removes claims that
    /// their tasks got meanwhile. If a power failure undoes this, the tasks are looked up and the results marked again.
    pub fn settle_all<'r>(
        &self,
        results: impl Iterator<Item = (ResultId, &'r TaskResult, bool)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let settled: Vec<Settled> = results.map(|(id, result, lost)| Settled::new(id, result, lost, now)).collect();
        self.write(move |connection| settled.iter().try_for_each(|it| it.mark(connection)))
    }

    /// Returns a summary of the unreported results, of every TaskManager.
    pub fn unreported(&self) -> Result<Unreported, StoreError> {
        self.with(|connection| {
            let mut found = connection.query_row(
                "SELECT count(*), min(finished_at), (SELECT count(*) FROM refused_reports)
                 FROM results WHERE reported_at IS NULL",
                [],
                |row| {
                    let (count, oldest, refused) = (row.get(0)?, optional_time_column(row, 1)?, row.get(2)?);
                    Ok(Unreported { count, oldest, refused, last_refused: None })
                },
            )?;
            found.last_refused = connection
                .query_row(
                    "SELECT task_id, refused_reports.error FROM refused_reports JOIN results ON results.rowid = result
                     ORDER BY result DESC LIMIT 1",
                    [],
                    |row| Ok((TaskId(row.get(0)?), row.get(1)?)),
                )
                .optional()?;
            Ok(found)
        })
    }
}

pub(super) fn note(connection: &Connection, id: ResultId, reason: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO refused_reports
             SELECT rowid, ?2 FROM results WHERE rowid = ?1 AND reported_at IS NULL",
        )?
        .execute(params![id.0, reason])
        .map(drop)
}

/// The data for settling a result.
pub(super) struct Settled {
    id: ResultId,
    task_id: TaskId,
    attempt: u32,
    api_url: String,
    at: Timestamp,
    lost: Option<LostResult>,
}

impl Settled {
    pub(super) fn new(id: ResultId, result: &TaskResult, lost: bool, at: Timestamp) -> Self {
        let lost = lost.then(|| LostResult::new(id, result));
        Self { id, task_id: result.task_id, attempt: result.attempt, api_url: result.api_url.clone(), at, lost }
    }

    /// Marks the result as confirmed or lost.
    pub(super) fn mark(&self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(lost) = &self.lost
            && connection
                .prepare_cached("UPDATE results SET status = 'lost' WHERE rowid = ?1 AND status <> 'lost'")?
                .execute([self.id.0])?
                > 0
        {
            lost.count(connection)?;
        }
        connection
            .prepare_cached("UPDATE results SET reported_at = ?2, attempt = ?3 WHERE rowid = ?1")?
            .execute(params![self.id.0, to_text(self.at), self.attempt])?;
        end_claim(connection, &self.api_url, self.task_id, self.attempt).map(drop)
    }
}
