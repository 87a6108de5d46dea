//! Claims of tasks in flight, and taking over those of dead processes.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::liveness::living;
use super::results::has_result;
use super::{Process, Store, StoreError, json_column, time_column, to_text};
use crate::task::{Claim, Task, TaskId};

/// The columns that [`read_claim`] reads.
const COLUMNS: &str = "task_id, task_type, params, attempt, priority, worker_id, claimed_at, deadline";

impl Store {
    /// Notes a claim before its task runs. `process` is `None` if nobody works it yet, because a person claimed it by
    /// hand. Replaces an earlier claim of the same task. A power failure may lose the note: the TaskManager still knows
    /// the claim. Returns the task's crash count, as [`Store::crash_count`] does.
    pub fn note_claim(&self, claim: &Claim, api_url: &str, process: Option<&Process>) -> Result<u32, StoreError> {
        // One for each claim.
        self.note_claims(&[claim], api_url, process).map(|counts| counts.into_iter().sum())
    }

    /// Notes several claims as [`Store::note_claim`] does, in one transaction. Returns the crash count of each task.
    pub fn note_claims(
        &self,
        claims: &[&Claim],
        api_url: &str,
        process: Option<&Process>,
    ) -> Result<Vec<u32>, StoreError> {
        let rows: Vec<ClaimRow> = claims.iter().map(|claim| ClaimRow::new(claim, api_url, process, true)).collect();
        let note = |connection: &Connection, row: &ClaimRow| {
            row.insert(connection, "OR REPLACE")?;
            crash_count(connection, &row.api_url, row.task_id)
        };
        let noted = self.write(move |connection| rows.iter().map(|row| note(connection, row)).collect());
        let crash_counts = noted?;
        self.check_results_in_place().map(|()| crash_counts)
    }

    /// Notes a claim for `process` that only the TaskManager knows. False if the task is in flight already, in any
    /// process, or there is a result of that attempt.
    pub fn adopt_claim(&self, claim: &Claim, api_url: &str, process: &Process) -> Result<bool, StoreError> {
        let row = ClaimRow::new(claim, api_url, Some(process), false);
        self.write(move |connection| {
            let is_new = !has_result(connection, &row.api_url, row.task_id, row.attempt)?;
            Ok(is_new && row.insert(connection, "OR IGNORE")? == 1)
        })
    }

    /// Returns the noted claim of a task that is in flight.
    pub fn claim(&self, api_url: &str, id: TaskId) -> Result<Option<Claim>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM claims WHERE api_url = ?1 AND task_id = ?2");
        self.with(|connection| {
            connection.prepare_cached(&sql)?.query_row(params![api_url, id.0], read_claim).optional()
        })
    }

    /// Removes a lost claim.
    pub fn forget_claim(&self, claim: &Claim, api_url: &str) -> Result<(), StoreError> {
        self.forget_attempt(claim.task.id, claim.task.attempt, api_url)
    }

    /// Removes the claim of an attempt that is no longer in flight.
    pub fn forget_attempt(&self, id: TaskId, attempt: u32, api_url: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM claims WHERE api_url = ?1 AND task_id = ?2 AND attempt = ?3";
        self.execute(sql, params![api_url, id.0, attempt])
    }

    /// Notes whether a task in flight is running. If it is not, the death of its process does not count as a crash of
    /// the task.
    pub fn set_running(&self, api_url: &str, id: TaskId, attempt: u32, is_running: bool) -> Result<(), StoreError> {
        let sql = "UPDATE claims SET running = ?4 WHERE api_url = ?1 AND task_id = ?2 AND attempt = ?3";
        self.execute(sql, params![api_url, id.0, attempt, is_running])
    }

    /// Takes over the tasks of `types` that dead processes had in flight, and returns their claims, oldest first. Those
    /// that were running count for [`Store::crash_count`]. Tasks of live processes are not touched.
    pub fn take_over(&self, process: &Process, api_url: &str, types: &[&str]) -> Result<Vec<Claim>, StoreError> {
        self.transaction(|transaction| {
            let mut claims = owned_claims(transaction, api_url)?;
            claims
                .retain(|(owner, claim)| *owner != process.number() && types.contains(&claim.task.task_type.as_str()));
            let living = living(transaction, &self.home, claims.iter().map(|(owner, _)| *owner));
            claims.retain(|(owner, _)| !living.contains(owner));
            for (_, claim) in &claims {
                move_claim(transaction, api_url, claim, process)?;
            }
            Ok(claims.into_iter().map(|(_, claim)| claim).collect())
        })
    }

    /// Returns how often a worker process died while it ran this task.
    pub fn crash_count(&self, api_url: &str, id: TaskId) -> Result<u32, StoreError> {
        self.with(|connection| crash_count(connection, api_url, id))
    }
}

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

fn crash_count(connection: &Connection, api_url: &str, id: TaskId) -> rusqlite::Result<u32> {
    let mut statement = connection.prepare_cached("SELECT count FROM deaths WHERE api_url = ?1 AND task_id = ?2")?;
    Ok(statement.query_row(params![api_url, id.0], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Returns all claims, of every TaskManager.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Claim>> {
    connection.prepare(&format!("SELECT {COLUMNS} FROM claims"))?.query_map([], read_claim)?.collect()
}

fn owned_claims(transaction: &Transaction<'_>, api_url: &str) -> rusqlite::Result<Vec<(i64, Claim)>> {
    transaction
        .prepare(&format!(
            "SELECT {COLUMNS}, process FROM claims WHERE api_url = ?1 AND process IS NOT NULL ORDER BY claimed_at"
        ))?
        .query_map([api_url], |row| Ok((row.get(8)?, read_claim(row)?)))?
        .collect()
}

/// Moves a claim to another process. It is not running: if the new process dies before it runs, that is not a crash of
/// the task.
fn move_claim(transaction: &Transaction<'_>, api_url: &str, claim: &Claim, to: &Process) -> rusqlite::Result<()> {
    let task = params![api_url, claim.task.id.0];
    transaction
        .prepare_cached(
            "INSERT INTO deaths (api_url, task_id, count, last_at)
             SELECT api_url, task_id, 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM claims
             WHERE api_url = ?1 AND task_id = ?2 AND running
             ON CONFLICT DO UPDATE SET count = count + 1, last_at = excluded.last_at",
        )?
        .execute(task)?;
    transaction
        .prepare_cached("UPDATE claims SET process = ?3, running = 0 WHERE api_url = ?1 AND task_id = ?2")?
        .execute(params![api_url, claim.task.id.0, to.number()])?;
    Ok(())
}

fn read_claim(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        task: Task {
            id: TaskId(row.get(0)?),
            task_type: row.get(1)?,
            params: json_column(row, 2)?,
            attempt: row.get(3)?,
            priority: row.get(4)?,
        },
        worker_id: row.get(5)?,
        claimed_at: time_column(row, 6)?,
        deadline: time_column(row, 7)?.into(),
    })
}
