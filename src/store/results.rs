//! Results: one row for each attempt.

use std::convert::Infallible;
use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde::Serialize;
use serde_json::json;

use super::claims::end_claim;
use super::ideas::{self, Idea};
use super::{Store, StoreError, json_column, optional_time_column, rollups, time_column, to_text};
use crate::failpoint;
use crate::sqlite::DatabaseError;
use crate::task::{Failure, Outcome, Task, TaskId, TaskResult};

/// Row id of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultId(pub(crate) i64);

/// Status of a row of `results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultStatus {
    Completed,
    Failed,
    /// The claim was lost before the result was reported; the result is kept all the same.
    Lost,
}

impl ResultStatus {
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
    pub status: ResultStatus,
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

/// Number of results added to the rollups at once: that costs a fiftieth of adding each by itself.
const COUNT_EVERY: i64 = 256;

pub(super) const COLUMNS: &str = "rowid, task_id, task_type, attempt, worker_id, api_url, status, params, data, message, error, \
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
        self.sync_results().map(|()| id)
    }

    /// Stores results that have no ideas as unreported, and removes their claims, in one transaction. They survive a
    /// power failure once [`Store::sync_results`] has returned.
    pub fn insert_all<'r>(&self, results: impl Iterator<Item = &'r TaskResult>) -> Result<Vec<ResultId>, StoreError> {
        let rows: Vec<ResultRow> = results.map(ResultRow::new).collect();
        self.write(move |connection| rows.iter().map(|row| row.insert(connection)).collect())
    }

    /// Returns when all results stored by this process are on disk.
    pub fn sync_results(&self) -> Result<(), StoreError> {
        self.sync()?;
        self.check_results_in_place()
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
    pub fn stderr_tail(&self, id: ResultId) -> Result<String, StoreError> {
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

    /// Returns the results of a task of the TaskManager at `api_url`, oldest first. A task with the same id of another
    /// TaskManager is a different task.
    pub fn attempts(&self, api_url: &str, id: TaskId) -> Result<Vec<StoredResult>, StoreError> {
        let filter = ResultFilter { task_id: Some(id), ..ResultFilter::default() };
        let mut found = Vec::new();
        let Ok(()) = self.for_each_result(&filter, |stored| {
            found.extend((stored.result.api_url == api_url).then_some(stored));
            Ok::<(), Infallible>(())
        })?;
        Ok(found)
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

/// A new row of `results`, and the stderr tail.
pub(super) struct ResultRow {
    task_id: TaskId,
    task_type: String,
    attempt: u32,
    worker_id: String,
    api_url: String,
    status: ResultStatus,
    params: String,
    data: Option<String>,
    message: Option<String>,
    failure: Option<Failure>,
    claimed_at: String,
    started_at: String,
    finished_at: String,
    duration_ms: i64,
    metadata: Option<String>,
    stderr_tail: String,
}

impl ResultRow {
    pub(super) fn new(result: &TaskResult) -> Self {
        let outcome = &result.outcome;
        Self {
            task_id: result.task_id,
            task_type: result.task_type.clone(),
            attempt: result.attempt,
            worker_id: result.worker_id.clone(),
            api_url: result.api_url.clone(),
            status: ResultStatus::of(outcome),
            params: result.params.to_string(),
            data: (!outcome.data.is_null()).then(|| outcome.data.to_string()),
            message: outcome.message.clone(),
            failure: outcome.failure.clone(),
            claimed_at: to_text(result.claimed_at),
            started_at: to_text(result.started_at),
            finished_at: to_text(result.finished_at),
            duration_ms: result.duration_ms(),
            metadata: (!outcome.metadata.is_empty()).then(|| json!(outcome.metadata).to_string()),
            stderr_tail: outcome.stderr_tail.clone(),
        }
    }

    /// Inserts the row, and removes the task's claim and crash count.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<ResultId> {
        self.insert_row(connection)?;
        let id = ResultId(connection.last_insert_rowid());
        end_claim(connection, &self.api_url, self.task_id, self.attempt)?;
        connection
            .prepare_cached("DELETE FROM deaths WHERE api_url = ?1 AND task_id = ?2")?
            .execute(params![self.api_url, self.task_id.0])?;
        // Most handlers print nothing: no row is needed.
        if !self.stderr_tail.is_empty() {
            connection
                .prepare_cached("INSERT OR REPLACE INTO last_words (result, text) VALUES (?1, ?2)")?
                .execute(params![id.0, self.stderr_tail])?;
        }
        if id.0 % COUNT_EVERY == 0 {
            rollups::catch_up(connection)?;
        }
        Ok(id)
    }

    fn insert_row(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let failure = self.failure.as_ref();
        connection
            .prepare_cached(
                "INSERT INTO results (task_id, task_type, attempt, worker_id, api_url, status, params, data, message,
                 error, error_type, retryable, claimed_at, started_at, finished_at, duration_ms, metadata, process)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 (SELECT process FROM claims WHERE api_url = ?5 AND task_id = ?1))",
            )?
            .execute(params![
                self.task_id.0,
                self.task_type,
                self.attempt,
                self.worker_id,
                self.api_url,
                self.status.as_str(),
                self.params,
                self.data,
                self.message,
                failure.map(|failure| &failure.error),
                failure.map(|failure| failure.error_type.as_str()),
                failure.map(|failure| failure.retryable),
                self.claimed_at,
                self.started_at,
                self.finished_at,
                self.duration_ms,
                self.metadata,
            ])
    }
}

pub(super) fn has_result(connection: &Connection, api_url: &str, id: TaskId, attempt: u32) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM results WHERE task_id = ?1 AND api_url = ?2 AND attempt = ?3")?
        .exists(params![id.0, api_url, attempt])
}

pub(super) fn read_result(row: &Row<'_>) -> rusqlite::Result<StoredResult> {
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
        "lost" => ResultStatus::Lost,
        "failed" => ResultStatus::Failed,
        _ => ResultStatus::Completed,
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
