//! SQL for tasks.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, Row, ToSql, params};
use serde_json::json;

use super::claims::Candidate;
use super::types;
use crate::server::error as server;
use crate::server::large_calls::LARGE;
use crate::server::storage::{
    ClaimOrder, ClaimedTask, Cursor, Filter, JsonText, NewTask, STATUSES, SortBy, TaskDetails, TaskSummary, Time,
};

/// The columns that decide what a worker may do with a task.
pub(super) struct TaskState {
    pub(super) type_id: i64,
    pub(super) status: String,
    pub(super) attempts: i64,
    pub(super) claimed_by: Option<String>,
}

impl TaskState {
    /// Whether that is the current attempt, and `worker_id` has claimed it.
    pub(super) fn is_held(&self, worker_id: &str, attempt: i64) -> bool {
        self.status == "claimed" && self.attempts == attempt && self.claimed_by.as_deref() == Some(worker_id)
    }
}

/// How an attempt ended.
pub(super) struct Ending<'a> {
    /// The task's new status.
    pub(super) status: &'a str,
    pub(super) result: Option<String>,
    pub(super) error_message: Option<String>,
}

impl ClaimOrder {
    /// Returns the column that it goes by.
    fn column(self) -> &'static str {
        match self.by {
            SortBy::Id => "id",
            SortBy::Priority => "priority",
            SortBy::Attempts => "attempts",
        }
    }
}

pub(super) const SUMMARY: &str = "tasks.id, task_types.name, status, priority, progress, attempts, claimed_by, claimed_at, \
                       completed_at, tasks.created_at";

const FIRST_EXPIRY: &str = "SELECT min(expires_at) FROM tasks WHERE status = 'claimed' AND type_id = ?1";

const REMOVE_ENDED: &str = "DELETE FROM tasks WHERE id = (\
                            SELECT id FROM tasks WHERE completed_at < ?1 ORDER BY completed_at LIMIT 1) \
                            RETURNING id, type_id, status";

fn expired_sql(order: ClaimOrder) -> String {
    let key = order.column();
    format!(
        "SELECT id, {key}, expires_at FROM tasks WHERE status = 'claimed' AND type_id = ?1 AND expires_at <= ?3 \
         ORDER BY expires_at, id LIMIT ?2"
    )
}

fn pending_sql(order: ClaimOrder) -> String {
    let key = order.column();
    let direction = if order.descending { "DESC" } else { "ASC" };
    format!(
        "SELECT id, {key}, NULL FROM tasks WHERE status = 'pending' AND type_id = ?1 \
         ORDER BY {key} {direction}, id {direction} LIMIT ?2"
    )
}

/// Returns the SQL for the pending tasks with the highest value up to `?3`, the oldest first.
fn highest_sql(order: ClaimOrder) -> String {
    let (key, of_type) = (order.column(), "FROM tasks WHERE status = 'pending' AND type_id = ?1");
    format!(
        "SELECT id, {key}, NULL {of_type} AND {key} = (SELECT max({key}) {of_type} AND {key} <= ?3) \
         ORDER BY id LIMIT ?2"
    )
}

/// Inserts a task with a unique key; returns its id.
pub(super) fn insert(connection: &Connection, task: &NewTask<'_>) -> Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (type_id, params, priority, dedupe_key, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert(params![task.type_id, task.params, task.priority, task.dedupe_key, Time::now()])
}

/// Returns the id and the status of the task with that key.
pub(super) fn by_key(connection: &Connection, dedupe_key: &str) -> Result<Option<(i64, String)>> {
    connection
        .prepare_cached("SELECT id, status FROM tasks WHERE dedupe_key = ?1")?
        .query_row([dedupe_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Returns the tasks of that type whose claims have expired by `now`, at most `most`, those that expired first.
pub(super) fn expired(
    connection: &Connection,
    type_id: i64,
    order: ClaimOrder,
    now: Time,
    most: usize,
) -> Result<Vec<Candidate>> {
    let mut statement = connection.prepare_cached(&expired_sql(order))?;
    statement.query_map(params![type_id, most, now], |row| candidate(row, type_id))?.collect()
}

/// Returns when the first claim of that type expires.
pub(super) fn first_expiry(connection: &Connection, type_id: i64) -> Result<Option<Time>> {
    connection.prepare_cached(FIRST_EXPIRY)?.query_row([type_id], |row| row.get(0))
}

/// Sets the expiry of claims that were made by servers that did not store it.
pub(super) fn add_missing_expiries(connection: &Connection, claim_timeout: Duration) -> Result<()> {
    let missing = "FROM tasks WHERE status = 'claimed' AND expires_at IS NULL";
    let mut statement = connection.prepare(&format!("SELECT id, claimed_at {missing}"))?;
    let claims: Vec<(i64, Time)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_>>()?;
    for (id, claimed_at) in claims {
        set_expiry(connection, id, claimed_at.later_by(claim_timeout))?;
    }
    Ok(())
}

pub(super) fn set_expiry(connection: &Connection, id: i64, expires_at: Time) -> Result<usize> {
    connection.prepare_cached("UPDATE tasks SET expires_at = ?2 WHERE id = ?1")?.execute(params![id, expires_at])
}

/// Shifts the times of all claims by `by` microseconds, forward or back.
pub(super) fn shift_claims(connection: &Connection, by: i64) -> Result<usize> {
    connection.execute(
        "UPDATE tasks SET claimed_at = claimed_at + ?1, expires_at = expires_at + ?1 WHERE status = 'claimed'",
        [by],
    )
}

/// Returns the pending tasks of that type that are first in `order`, at most `most`.
pub(super) fn pending(connection: &Connection, type_id: i64, order: ClaimOrder, most: usize) -> Result<Vec<Candidate>> {
    if order.is_highest_first() {
        return highest(connection, type_id, order, most);
    }
    let mut statement = connection.prepare_cached(&pending_sql(order))?;
    statement.query_map(params![type_id, most], |row| candidate(row, type_id))?.collect()
}

/// Returns those with the highest values, the oldest of each value first. No index has this order, read forwards or
/// backwards: the tasks of each value are read in turn.
fn highest(connection: &Connection, type_id: i64, order: ClaimOrder, most: usize) -> Result<Vec<Candidate>> {
    let mut statement = connection.prepare_cached(&highest_sql(order))?;
    let (mut found, mut next) = (Vec::new(), Some(i64::MAX));
    while let Some(highest) = next
        && found.len() < most
    {
        let values = params![type_id, most - found.len(), highest];
        let of_value: Vec<_> = statement.query_map(values, |row| candidate(row, type_id))?.collect::<Result<_>>()?;
        next = of_value.first().and_then(|first: &Candidate| first.key.checked_sub(1));
        found.extend(of_value);
    }
    Ok(found)
}

fn candidate(row: &Row<'_>, type_id: i64) -> Result<Candidate> {
    Ok(Candidate { id: row.get(0)?, type_id, key: row.get(1)?, expired_at: row.get(2)? })
}

/// Returns a task as its next claim returns it; `None` if `has_room` says no to the length of its long fields, which are
/// not read before.
pub(super) fn to_claim(
    connection: &Connection,
    id: i64,
    mut has_room: impl FnMut(usize) -> server::Result<bool>,
) -> server::Result<Option<ClaimedTask>> {
    let mut statement = connection.prepare_cached(
        "SELECT task_types.name, iif(octet_length(params) <= ?2, params, NULL), attempts + 1, priority, \
         octet_length(params) + coalesce(octet_length(result), 0) \
         FROM tasks JOIN task_types ON task_types.id = type_id WHERE tasks.id = ?1",
    )?;
    let mut found = statement.query_and_then(params![id, LARGE], |row| {
        if !has_room(row.get(4)?)? {
            return Ok(None);
        }
        let params = match row.get(1)? {
            Some(params) => params,
            None => long_params(connection, id)?,
        };
        let (task_type, attempts, priority) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Some(ClaimedTask { id, task_type, params, attempts, priority, expires_in: None }))
    })?;
    found.next().transpose().map(Option::flatten)
}

fn long_params(connection: &Connection, id: i64) -> Result<JsonText> {
    connection.prepare_cached("SELECT params FROM tasks WHERE id = ?1")?.query_row([id], |row| row.get(0))
}

/// Claims the task for `worker_id` until `expires_at`: a new attempt, without progress. `RETURNING` would make SQLite copy
/// each page that changes, to undo a part of the statement.
pub(super) fn claim(connection: &Connection, id: i64, worker_id: &str, now: Time, expires_at: Time) -> Result<usize> {
    connection
        .prepare_cached(
            "UPDATE tasks SET status = 'claimed', attempts = attempts + 1, progress = 0, claimed_by = ?2, \
             claimed_at = ?3, expires_at = ?4 WHERE id = ?1",
        )?
        .execute(params![id, worker_id, now, expires_at])
}

pub(super) fn state(connection: &Connection, id: i64) -> Result<Option<TaskState>> {
    connection
        .prepare_cached("SELECT type_id, status, attempts, claimed_by FROM tasks WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(TaskState { type_id: row.get(0)?, status: row.get(1)?, attempts: row.get(2)?, claimed_by: row.get(3)? })
        })
        .optional()
}

pub(super) fn set_progress(connection: &Connection, id: i64, progress: i64) -> Result<usize> {
    connection.prepare_cached("UPDATE tasks SET progress = ?2 WHERE id = ?1")?.execute([id, progress])
}

/// Ends the attempt. A pending task has no worker; a completed one has progress 100, whatever was reported last.
pub(super) fn end(connection: &Connection, id: i64, ending: &Ending<'_>) -> Result<usize> {
    connection
        .prepare_cached(
            "UPDATE tasks SET status = ?2, result = ?3, error_message = ?4, \
             progress = iif(?2 = 'completed', 100, progress), \
             claimed_by = iif(?2 = 'pending', NULL, claimed_by), \
             claimed_at = iif(?2 = 'pending', NULL, claimed_at), expires_at = NULL, \
             completed_at = iif(?2 = 'pending', NULL, ?5) WHERE id = ?1",
        )?
        .execute(params![id, ending.status, ending.result, ending.error_message, Time::now()])
}

/// Returns the task's error.
pub(super) fn error_message(connection: &Connection, id: i64) -> Result<Option<String>> {
    connection.prepare_cached("SELECT error_message FROM tasks WHERE id = ?1")?.query_row([id], |row| row.get(0))
}

/// Makes a failed task pending, without attempts. Its error stays until it ends again.
pub(super) fn retry(connection: &Connection, id: i64) -> Result<usize> {
    connection
        .prepare_cached(
            "UPDATE tasks SET status = 'pending', attempts = 0, progress = 0, claimed_by = NULL, claimed_at = NULL, \
             completed_at = NULL WHERE id = ?1",
        )?
        .execute([id])
}

/// Deletes the task that ended first, if that was before `time`; returns its id, type and status.
pub(super) fn remove_ended(connection: &Connection, time: Time) -> Result<Option<(i64, i64, String)>> {
    connection
        .prepare_cached(REMOVE_ENDED)?
        .query_row([time], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

pub(super) fn by_id(connection: &Connection, id: i64) -> Result<Option<TaskDetails>> {
    let sql = format!(
        "SELECT {SUMMARY}, error_message, params, result FROM tasks JOIN task_types ON task_types.id = type_id \
         WHERE tasks.id = ?1"
    );
    let read = |row: &Row<'_>| {
        Ok(TaskDetails {
            summary: summary(row)?,
            error_message: row.get(10)?,
            params: row.get(11)?,
            result: row.get(12)?,
        })
    };
    connection.prepare_cached(&sql)?.query_row([id], read).optional()
}

/// Returns the length of the long fields of these tasks, in bytes, without reading them.
pub(super) fn length(connection: &Connection, ids: &[i64]) -> Result<usize> {
    let sql = "SELECT coalesce(sum(octet_length(params) + coalesce(octet_length(result), 0)), 0) \
               FROM json_each(?1) CROSS JOIN tasks ON tasks.id = value";
    connection.prepare_cached(sql)?.query_row([json!(ids).to_string()], |row| row.get(0))
}

/// Returns the tasks that pass `filter`, newest first.
pub(super) fn list(connection: &Connection, filter: &Filter) -> Result<Vec<TaskSummary>> {
    summaries(connection, &list_ids(connection, filter)?)
}

/// Returns the ids of the tasks that pass `filter`, newest first.
pub(super) fn list_ids(connection: &Connection, filter: &Filter) -> Result<Vec<i64>> {
    let mut ids = match (&filter.task_type, filter.status) {
        (None, None) => {
            let (low, high) = filter.cursor.range(None);
            let sql = format!("{} OFFSET ?4", ids_sql(filter.cursor, None));
            ids(connection, &sql, params![low, high, filter.limit, filter.offset])?
        }
        (pattern, _) => ids_of_types(connection, filter, pattern.as_deref().unwrap_or("%"))?,
    };
    ids.sort_unstable_by(|one, other| other.cmp(one));
    Ok(ids)
}

/// Returns the tasks with these ids, without those that no longer exist.
pub(super) fn summaries(connection: &Connection, ids: &[i64]) -> Result<Vec<TaskSummary>> {
    let sql = format!("SELECT {SUMMARY} FROM tasks JOIN task_types ON task_types.id = type_id WHERE tasks.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    ids.iter().filter_map(|id| statement.query_row([id], summary).optional().transpose()).collect()
}

/// Merges the nearest tasks of each type matching `pattern`, and of each status: an index has each of these in order,
/// but none has all of them.
fn ids_of_types(connection: &Connection, filter: &Filter, pattern: &str) -> Result<Vec<i64>> {
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    let most = filter.limit.saturating_add(filter.offset);
    let mut found: Vec<i64> = Vec::new();
    let nearest = |found: &mut Vec<i64>| {
        // Stable, since that merges sorted runs.
        found.sort_by_key(|id| id.abs_diff(filter.cursor.id()));
        found.truncate(count(most));
    };
    for type_id in types::like(connection, pattern)? {
        for status in STATUSES.iter().filter(|status| filter.status.is_none_or(|wanted| wanted == **status)) {
            // If there are enough, only those nearer than the farthest of them count.
            let is_full = found.len() >= count(most);
            if is_full {
                nearest(&mut found);
            }
            let (low, high) = filter.cursor.range(found.last().copied().filter(|_| is_full));
            found.extend(ids(connection, &ids_sql(filter.cursor, Some(status)), params![low, high, most, type_id])?);
        }
    }
    nearest(&mut found);
    Ok(found.into_iter().skip(count(filter.offset)).collect())
}

impl Cursor {
    /// Returns the ids between which tasks past this cursor are, as far as `farthest`; both ends are excluded.
    fn range(self, farthest: Option<i64>) -> (i64, i64) {
        match self {
            Self::Before(id) => (farthest.unwrap_or(i64::MIN), id),
            Self::After(id) => (id, farthest.unwrap_or(i64::MAX)),
        }
    }
}

/// Returns the SQL for the ids past that cursor, the nearest first; with a status, for those of one type. Each combination
/// has its own statement: one for all could not use the indexes.
fn ids_sql(cursor: Cursor, status: Option<&str>) -> String {
    let of_type = status.map_or_else(String::new, |status| format!("type_id = ?4 AND status = '{status}' AND"));
    let order = match cursor {
        Cursor::Before(_) => "DESC",
        Cursor::After(_) => "ASC",
    };
    format!("SELECT id FROM tasks WHERE {of_type} id > ?1 AND id < ?2 ORDER BY id {order} LIMIT ?3")
}

fn ids(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
}

pub(super) fn summary(row: &Row<'_>) -> Result<TaskSummary> {
    Ok(TaskSummary {
        id: row.get(0)?,
        task_type: row.get(1)?,
        status: row.get(2)?,
        priority: row.get(3)?,
        progress: row.get(4)?,
        attempts: row.get(5)?,
        claimed_by: row.get(6)?,
        claimed_at: row.get(7)?,
        completed_at: row.get(8)?,
        created_at: row.get(9)?,
    })
}

#[cfg(test)]
mod tests;
