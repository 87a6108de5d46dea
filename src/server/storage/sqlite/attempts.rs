//! SQL for past attempts, which are no longer in their task's row because another followed. A task that completes at
//! its first attempt has none, so it costs nothing.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use crate::headline::in_one_line;
use crate::server::storage::{AttemptEnd, PastAttempt, Time};

/// Maximum number of past attempts of a task: one whose workers keep dying is claimed again and again.
const MOST: i64 = 50;

/// Maximum characters kept of an error, its most telling line first.
const LONGEST_ERROR: usize = 4_000;

impl AttemptEnd {
    const ALL: [Self; 3] = [Self::Failed, Self::Expired, Self::Retried];

    fn sql(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Retried => "put back",
        }
    }

    fn of(text: &str) -> Self {
        // The table holds no other values.
        Self::ALL.into_iter().find(|it| it.sql() == text).unwrap_or(Self::Failed)
    }
}

/// Copies the last attempt from the task's row, which the next attempt overwrites.
pub(super) fn archive(connection: &Connection, task_id: i64, end: AttemptEnd, error: Option<&str>) -> Result<()> {
    let error = error.map(|error| in_one_line(error).chars().take(LONGEST_ERROR).collect::<String>());
    connection
        .prepare_cached(
            "INSERT INTO past_attempts (task_id, attempt, worker_id, claimed_at, ended_at, left_at, fate, error) \
             SELECT id, attempts, claimed_by, claimed_at, completed_at, ?2, ?3, ?4 FROM tasks \
             WHERE id = ?1",
        )?
        .execute(params![task_id, Time::now(), end.sql(), error])?;
    connection
        .prepare_cached(
            "DELETE FROM past_attempts WHERE task_id = ?1 AND id <= (\
             SELECT id FROM past_attempts WHERE task_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute([task_id, MOST])?;
    Ok(())
}

/// Deletes a task's past attempts.
pub(super) fn remove(connection: &Connection, task_id: i64) -> Result<()> {
    connection.prepare_cached("DELETE FROM past_attempts WHERE task_id = ?1")?.execute([task_id])?;
    Ok(())
}

/// Returns how a worker's past attempt ended. Attempts of a retried task are counted from 1 again: then it is
/// the last one with that number.
pub(super) fn end(connection: &Connection, task_id: i64, attempt: i64, worker_id: &str) -> Result<Option<AttemptEnd>> {
    connection
        .prepare_cached(
            "SELECT fate FROM past_attempts WHERE task_id = ?1 AND attempt = ?2 AND worker_id = ?3 \
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![task_id, attempt, worker_id], |row| row.get::<_, String>(0))
        .optional()
        .map(|end| end.map(|end| AttemptEnd::of(&end)))
}

/// Returns a task's past attempts, newest first.
pub(super) fn of_task(connection: &Connection, task_id: i64) -> Result<Vec<PastAttempt>> {
    connection
        .prepare_cached(
            "SELECT attempt, worker_id, claimed_at, ended_at, left_at, fate, error FROM past_attempts \
             WHERE task_id = ?1 ORDER BY id DESC",
        )?
        .query_map([task_id], read)?
        .collect()
}

fn read(row: &Row<'_>) -> Result<PastAttempt> {
    let end: String = row.get(5)?;
    Ok(PastAttempt {
        attempt: row.get(0)?,
        worker_id: row.get(1)?,
        claimed_at: row.get(2)?,
        ended_at: row.get(3)?,
        left_at: row.get(4)?,
        end: AttemptEnd::of(&end),
        error: row.get(6)?,
    })
}
