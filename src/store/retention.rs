//! Retention: removes old rows, so that the file does not grow forever. SQLite reuses the freed pages.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::liveness::{Lock, lock_of};
use super::{Process, Store, StoreError, rollups, to_text};

/// Number of rows checked in a step, so that other writers wait for a few milliseconds at most.
const STEP: usize = 200;

/// How long ended processes, and crashes of tasks that did not come back, are kept.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// A pass through the results finished before a given time, oldest first.
#[derive(Debug)]
pub struct Pruning {
    before: Timestamp,
    /// Finish time and row id of the last result checked.
    seen: (String, i64),
}

impl Pruning {
    /// Starts a pass that prunes results finished before `before`.
    #[must_use]
    pub fn new(before: Timestamp) -> Self {
        Self { before, seen: (String::new(), 0) }
    }
}

impl Store {
    /// Runs one step: deletes those of the next results that are settled. They still count in the rollups. True if
    /// there may be more.
    pub fn prune(&self, pruning: &mut Pruning) -> Result<bool, StoreError> {
        let Pruning { before, seen } = pruning;
        let (old, more) = self.transaction(|transaction| {
            rollups::catch_up(transaction)?;
            let old = finished_before(transaction, *before, seen)?;
            for (row, ..) in old.iter().filter(|(.., settled)| *settled) {
                transaction.prepare_cached("DELETE FROM results WHERE rowid = ?1")?.execute([row])?;
            }
            rollups::all_counted(transaction)?;
            let more = old.len() == STEP || rollups::forget_workers(transaction, *before)?;
            Ok((old, more))
        })?;
        if let Some((row, finished_at, _)) = old.into_iter().last() {
            *seen = (finished_at, row);
        }
        Ok(more)
    }

    /// Deletes processes older than `process` that ended long ago and left no work, and crash counts of tasks not seen
    /// since.
    pub fn forget_ended(&self, process: &Process, now: Timestamp) -> Result<(), StoreError> {
        let before = to_text(now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN));
        self.transaction(|transaction| {
            for number in idle_since(transaction, process, &before)? {
                if lock_of(&self.home, number) != Lock::Held {
                    transaction.execute("DELETE FROM workers WHERE process = ?1", [number])?;
                }
            }
            let sql = "DELETE FROM deaths WHERE last_at < ?1 AND NOT EXISTS
                     (SELECT 1 FROM claims WHERE claims.api_url = deaths.api_url AND claims.task_id = deaths.task_id)";
            transaction.execute(sql, [&before]).map(drop)
        })
    }
}

/// Returns the next results after the last one checked: row id, finish time, and whether it is settled.
fn finished_before(
    transaction: &Transaction<'_>,
    before: Timestamp,
    (finished_at, row): &(String, i64),
) -> rusqlite::Result<Vec<(i64, String, bool)>> {
    transaction
        .prepare_cached(
            "SELECT rowid, finished_at, reported_at IS NOT NULL FROM results
             WHERE finished_at < ?1 AND (finished_at, rowid) > (?2, ?3) ORDER BY finished_at, rowid LIMIT ?4",
        )?
        .query_map(params![to_text(before), finished_at, row, STEP], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// Returns processes that have not polled since `before` and have neither claims nor unreported results. One that was
/// only suspended may be among them.
fn idle_since(transaction: &Transaction<'_>, process: &Process, before: &str) -> rusqlite::Result<Vec<i64>> {
    transaction
        .prepare(
            "SELECT process FROM workers
             WHERE process < ?1 AND coalesce(stopped_at, last_poll_at, started_at) < ?2
               AND process NOT IN (SELECT process FROM claims WHERE process IS NOT NULL)
               AND worker_id NOT IN (SELECT worker_id FROM results WHERE reported_at IS NULL)
             LIMIT ?3",
        )?
        .query_map(params![process.number(), before, STEP], |row| row.get(0))?
        .collect()
}
