//! New rows of `claims` and `results`, built before they are handed to the writer thread.

use rusqlite::{Connection, params};
use serde_json::json;

use super::{Process, ResultId, Status, rollups, to_text};
use crate::task::{Claim, Failure, TaskId, TaskResult};

/// Number of results added to the rollups at once: that costs a fiftieth of adding each by itself.
const COUNT_EVERY: i64 = 256;

/// A new row of `claims`.
pub(super) struct ClaimRow {
    pub(super) api_url: String,
    pub(super) task_id: TaskId,
    task_type: String,
    pub(super) attempt: u32,
    priority: i64,
    params: String,
    worker_id: String,
    process: Option<i64>,
    is_running: bool,
    claimed_at: String,
    deadline: String,
}

impl ClaimRow {
    pub(super) fn new(claim: &Claim, api_url: &str, process: Option<&Process>, is_running: bool) -> Self {
        let Claim { task, worker_id, claimed_at, deadline } = claim;
        Self {
            api_url: api_url.to_owned(),
            task_id: task.id,
            task_type: task.task_type.clone(),
            attempt: task.attempt,
            priority: task.priority,
            params: task.params.to_string(),
            worker_id: worker_id.clone(),
            process: process.map(Process::number),
            is_running,
            claimed_at: to_text(*claimed_at),
            deadline: to_text(deadline.time),
        }
    }

    /// Inserts the row; `or` is the SQL conflict clause. Returns the number of rows inserted.
    pub(super) fn insert(&self, connection: &Connection, or: &str) -> rusqlite::Result<usize> {
        connection
            .prepare_cached(&format!(
                "INSERT {or} INTO claims (api_url, task_id, task_type, attempt, priority, params, worker_id, process,
                 running, claimed_at, deadline) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ))?
            .execute(params![
                self.api_url,
                self.task_id.0,
                self.task_type,
                self.attempt,
                self.priority,
                self.params,
                self.worker_id,
                self.process,
                self.is_running,
                self.claimed_at,
                self.deadline,
            ])
    }
}

/// Removes the noted claim of an attempt that has ended, or that of an earlier attempt if its answer came late and its
/// note replaced the later one.
pub(super) fn end_claim(connection: &Connection, api_url: &str, id: TaskId, attempt: u32) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM claims WHERE api_url = ?1 AND task_id = ?2 AND attempt <= ?3")?
        .execute(params![api_url, id.0, attempt])
}

/// A new row of `results`, and the stderr tail.
pub(super) struct ResultRow {
    task_id: TaskId,
    task_type: String,
    attempt: u32,
    worker_id: String,
    api_url: String,
    status: Status,
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
            status: Status::of(outcome),
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
