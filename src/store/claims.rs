//! The tasks in flight.

use rusqlite::{OptionalExtension, Row, params};

use super::{Process, Store, StoreError, to_text};
use crate::task::{Claim, Task, TaskId};

impl Store {
    /// Notes a claim, before the work on it starts. `process` is `None` where nobody works it yet: a person claimed it
    /// by hand. The claim replaces an earlier one of the same task.
    pub fn note_claim(&self, claim: &Claim, api_url: &str, process: Option<Process>) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO claims (api_url, task_id, task_type, attempt, priority, params, worker_id,
                     process, claimed_at, deadline) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    api_url,
                    claim.task.id.0,
                    claim.task.task_type,
                    claim.task.attempt,
                    claim.task.priority,
                    claim.task.params.to_string(),
                    claim.worker_id,
                    process.map(Process::as_i64),
                    to_text(claim.claimed_at),
                    to_text(claim.deadline),
                ])
                .map(drop)
        })
    }

    /// The claim that was noted for a task, if it is in flight.
    pub fn claim(&self, api_url: &str, id: TaskId) -> Result<Option<Claim>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT task_id, task_type, params, attempt, priority, worker_id, claimed_at, deadline
                     FROM claims WHERE api_url = ?1 AND task_id = ?2",
                )?
                .query_row(params![api_url, id.0], read_claim)
                .optional()
        })
    }
}

fn read_claim(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        task: Task {
            id: TaskId(row.get(0)?),
            task_type: row.get(1)?,
            params: super::results::json_column(row, 2)?,
            attempt: row.get(3)?,
            priority: row.get(4)?,
        },
        worker_id: row.get(5)?,
        claimed_at: super::results::time_column(row, 6)?,
        deadline: super::results::time_column(row, 7)?,
    })
}
