//! What is taken out of the file again, so that it does not grow for ever. Freed pages are used again.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};

use super::liveness::is_alive;
use super::{Process, Store, StoreError, rollups, to_text};

/// So many rows are taken out at a time: who else writes waits for a few milliseconds at most.
const STEP: usize = 200;

/// How long ended processes, and deaths over a task that did not come back, are remembered.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

impl Store {
    /// Takes out some of the results that were finished before `before` and are settled; their numbers stay in the
    /// rollups. True where there may be more.
    pub fn prune(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let pruned = transaction
                .prepare_cached(
                    "DELETE FROM results WHERE rowid IN (
                         SELECT rowid FROM results WHERE finished_at < ?1 AND reported_at IS NOT NULL
                         ORDER BY finished_at LIMIT ?2)",
                )?
                .execute(params![to_text(before), STEP])?;
            let more = pruned == STEP || rollups::forget_workers(&transaction, before)?;
            transaction.commit()?;
            Ok(more)
        })
    }

    /// Takes out what nobody will ask for: older processes than `process` that ended long ago and left nothing to be
    /// done, and deaths over tasks that nobody has had in hand since.
    pub fn forget_ended(&self, process: &Process, now: Timestamp) -> Result<(), StoreError> {
        let before = to_text(now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN));
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for number in idle_since(&transaction, process, &before)? {
                if !is_alive(&self.path, number) {
                    transaction.execute("DELETE FROM workers WHERE process = ?1", [number])?;
                }
            }
            transaction.execute(
                "DELETE FROM deaths WHERE last_at < ?1 AND NOT EXISTS
                     (SELECT 1 FROM claims WHERE claims.api_url = deaths.api_url AND claims.task_id = deaths.task_id)",
                [before],
            )?;
            transaction.commit()
        })
    }
}

/// Processes that have not polled since `before`, and have neither a claim nor a result that waits. One that was only
/// stopped may be among them.
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
