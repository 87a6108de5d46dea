//! Results: one row for each attempt.

use std::collections::HashMap;
use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};
use serde::Serialize;

use super::ideas::{self, Idea};
use super::liveness::living;
use super::rows::ResultRow;
use super::workers::live_pid;
use super::{Process, Store, StoreError, to_text};
use super::{json_column, optional_time_column, time_column};
use crate::failpoint;
use crate::sqlite::DatabaseError;
use crate::task::{Failure, Outcome, Task, TaskId, TaskResult};

/// Row id of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultId(pub(crate) i64);

/// Status of a row of `results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Completed,
    Failed,
    /// The claim was lost before the result was reported; the result is kept all the same.
    Lost,
}

impl Status {
    /// Returns the status of an outcome whose claim holds.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        if outcome.failure.is_none() { Self::Completed } else { Self::Failed }
    }

    /// Returns the name used in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// A stored result.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    pub id: ResultId,
    /// The result.
    pub result: TaskResult,
    pub status: Status,
    /// When the TaskManager confirmed it, or said that the claim was lost; `None` until then.
    pub reported_at: Option<Timestamp>,
    /// Why the TaskManager last refused its report; `None` once it is reported.
    pub report_error: Option<String>,
}

/// Which results to read.
#[derive(Debug, Clone, Default)]
pub struct ResultFilter {
    /// Only results of this task.
    pub task_id: Option<TaskId>,
    /// Only results of this type.
    pub task_type: Option<String>,
    /// Only failures.
    pub failed: bool,
    /// Only results finished at this time or later.
    pub since: Option<Timestamp>,
}

/// Maximum number of results read at a time, and their maximum length in bytes.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

const COLUMNS: &str = "rowid, task_id, task_type, attempt, worker_id, api_url, status, params, data, message, error, \
                       error_type, retryable, claimed_at, started_at, finished_at, reported_at, metadata, \
                       (SELECT refused_reports.error FROM refused_reports WHERE result = results.rowid)";

impl Store {
    /// Stores the result of an attempt as unreported, with its ideas, and removes its claim, in one transaction that is
    /// on disk when this returns. If ideas have a database of their own, they are written there first. Adds the row ids
    /// of the ideas to the result.
    pub fn finish(&self, result: &mut TaskResult) -> Result<ResultId, StoreError> {
        let ideas = ideas::ideas_of(result).map_err(|error| self.failed(DatabaseError::mendable(error)))?;
        let id = if ideas.is_empty() {
            self.insert(result, &ideas)?
        } else {
            // If it cannot be stored it gets no row ids: it may be stored later, unchanged.
            let mut stored = result.clone();
            let id = match &self.ideas {
                Some(elsewhere) => {
                    let rows = elsewhere.keep(&ideas, result.finished_at)?;
                    failpoint::reach("ideas");
                    ideas::fill(&mut stored.outcome.data, &ideas, &rows);
                    self.insert(&mut stored, &[])?
                }
                None => self.insert(&mut stored, &ideas)?,
            };
            *result = stored;
            id
        };
        self.sync()?;
        self.check_results_in_place()?;
        Ok(id)
    }

    fn insert(&self, result: &mut TaskResult, ideas: &[Idea]) -> Result<ResultId, StoreError> {
        if ideas.is_empty() {
            let row = ResultRow::new(result);
            return self.write(move |connection| row.insert(connection));
        }
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            match ideas::keep(&transaction, ideas, result.finished_at) {
                Ok(rows) => ideas::fill(&mut result.outcome.data, ideas, &rows),
                Err(error) => return self.ideas_refused(error).map(Err),
            }
            failpoint::reach("ideas");
            let id = ResultRow::new(result).insert(&transaction)?;
            transaction.commit()?;
            Ok(Ok(id))
        })?
    }

    /// Takes the unreported results for the TaskManager at `api_url` that no live process but `process` will report,
    /// oldest first. They are on disk even if their process died before its sync.
    pub fn take_unreported(&self, api_url: &str, process: &Process) -> Result<Vec<StoredResult>, StoreError> {
        self.sync()?;
        let sql =
            format!("SELECT {COLUMNS}, process FROM results WHERE reported_at IS NULL AND api_url = ?1 ORDER BY rowid");
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let unreported = transaction
                .prepare_cached(&sql)?
                .query_map([api_url], |row| Ok((read_result(row)?, row.get(19)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let taken = self.abandoned(&transaction, unreported, process)?;
            for stored in &taken {
                transaction
                    .prepare_cached("UPDATE results SET process = ?1 WHERE rowid = ?2")?
                    .execute([process.number(), stored.id.0])?;
            }
            transaction.commit()?;
            Ok(taken)
        })
    }

    /// Selects those of `unreported`, each with its process, that no live process but `process` will report. If the
    /// process is unknown, because the task was worked by hand or stored by an older version, any process with the same
    /// worker id counts.
    fn abandoned(
        &self,
        connection: &rusqlite::Connection,
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

    /// Returns the failure of an earlier attempt at `task` with the same params that the next attempt need not repeat:
    /// the params were refused, or the task kept crashing its workers. After any other failure the task runs again. A
    /// task that was put back by hand starts over at attempt 1, and earlier failures are ignored.
    pub fn lasting_failure(&self, task: &Task, api_url: &str) -> Result<Option<Failure>, StoreError> {
        if task.attempt <= 1 {
            return Ok(None);
        }
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT error, error_type FROM results
                     WHERE task_id = ?1 AND api_url = ?2 AND task_type = ?3 AND params = ?4 AND attempt < ?5
                       AND error IS NOT NULL AND error_type IN ('validation', 'worker_died') AND rowid >= coalesce(
                         (SELECT max(rowid) FROM results WHERE task_id = ?1 AND api_url = ?2 AND attempt = 1), 0)
                     ORDER BY rowid DESC LIMIT 1",
                )?
                .query_row(params![task.id.0, api_url, task.task_type, task.params.to_string(), task.attempt], |row| {
                    let error_type: String = row.get(1)?;
                    Ok(Failure { error: row.get(0)?, error_type: error_type.as_str().into(), retryable: false })
                })
                .optional()
        })
    }

    /// Whether there is a result of that attempt.
    pub fn has_result(&self, api_url: &str, id: TaskId, attempt: u32) -> Result<bool, StoreError> {
        self.with(|connection| has_result(connection, api_url, id, attempt))
    }

    /// Returns the stderr tail of a result if its failure does not contain it; empty if there is none. Results are read
    /// without it.
    pub fn last_words(&self, id: ResultId) -> Result<String, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT text FROM last_words WHERE result = ?1")?;
            Ok(statement.query_row([id.0], |row| row.get(0)).optional()?.unwrap_or_default())
        })
    }

    /// Calls `each` with the results that pass `filter`, oldest first, until it returns an error. They are read in
    /// pages, so that a slow `each` does not block writers or let the log grow.
    pub fn for_each_result<E>(
        &self,
        filter: &ResultFilter,
        mut each: impl FnMut(StoredResult) -> Result<(), E>,
    ) -> Result<Result<(), E>, StoreError> {
        let last: i64 = self.with(|connection| {
            connection.query_row("SELECT coalesce(max(rowid), 0) FROM results", [], |row| row.get(0))
        })?;
        let mut from = 0;
        while from < last {
            let page = self.page(filter, from..last)?;
            from = page.last().map_or(last, |stored| stored.id.0);
            for stored in page {
                if let Err(stopped) = each(stored) {
                    return Ok(Err(stopped));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Returns the first results in `rows`, excluding its start and including its end, that pass `filter`.
    fn page(&self, filter: &ResultFilter, rows: Range<i64>) -> Result<Vec<StoredResult>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM results WHERE {} ORDER BY rowid LIMIT {PAGE_ROWS}", filter.sql());
        let since = filter.since.map(to_text);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![
                rows.start,
                rows.end,
                filter.task_id.map(|id| id.0),
                filter.task_type,
                since
            ])?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while let Some(row) = found.next()?.filter(|_| bytes < PAGE_BYTES) {
                bytes += row.get_ref(7)?.as_bytes()?.len() + row.get_ref(8)?.as_bytes_or_null()?.map_or(0, <[u8]>::len);
                page.push(read_result(row)?);
            }
            Ok(page)
        })
    }
}

impl ResultFilter {
    /// Returns the SQL for only the conditions that are set, so that an index can be used. The parameters keep their
    /// numbers.
    fn sql(&self) -> String {
        let mut conditions = vec!["rowid > ?1 AND rowid <= ?2"];
        conditions.extend(self.task_id.map(|_| "task_id = ?3"));
        conditions.extend(self.task_type.as_ref().map(|_| "task_type = ?4"));
        conditions.extend(self.failed.then_some("error IS NOT NULL"));
        conditions.push(if self.since.is_some() { "finished_at >= ?5" } else { "?5 IS NULL" });
        conditions.join(" AND ")
    }
}

pub(super) fn has_result(
    connection: &rusqlite::Connection,
    api_url: &str,
    id: TaskId,
    attempt: u32,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM results WHERE task_id = ?1 AND api_url = ?2 AND attempt = ?3")?
        .exists(params![id.0, api_url, attempt])
}

fn read_result(row: &Row<'_>) -> rusqlite::Result<StoredResult> {
    let status: String = row.get(6)?;
    let result = TaskResult {
        task_id: TaskId(row.get(1)?),
        task_type: row.get(2)?,
        attempt: row.get(3)?,
        worker_id: row.get(4)?,
        api_url: row.get(5)?,
        params: json_column(row, 7)?,
        outcome: Outcome {
            failure: read_failure(row)?,
            data: json_column(row, 8)?,
            message: row.get(9)?,
            metadata: json_column(row, 17)?.as_object().cloned().unwrap_or_default(),
            not_before: None,
            stderr_tail: String::new(),
        },
        claimed_at: time_column(row, 13)?,
        started_at: time_column(row, 14)?,
        finished_at: time_column(row, 15)?,
    };
    let status = match status.as_str() {
        "lost" => Status::Lost,
        "failed" => Status::Failed,
        _ => Status::Completed,
    };
    let (id, reported_at, report_error) = (ResultId(row.get(0)?), optional_time_column(row, 16)?, row.get(18)?);
    Ok(StoredResult { id, result, status, reported_at, report_error })
}

fn read_failure(row: &Row<'_>) -> rusqlite::Result<Option<Failure>> {
    let Some(error) = row.get(10)? else { return Ok(None) };
    let error_type: Option<String> = row.get(11)?;
    let error_type = error_type.as_deref().unwrap_or("handler").into();
    Ok(Some(Failure { error, error_type, retryable: row.get::<_, Option<bool>>(12)?.unwrap_or(false) }))
}
