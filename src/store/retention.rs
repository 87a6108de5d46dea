//! What is taken out of the file again, so that it does not grow for ever. Freed pages are used again.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};

use super::liveness::{Lock, lock_of};
use super::{Process, Store, StoreError, rollups, to_text};

/// So many rows are looked at in a step: who else writes waits for a few milliseconds at most.
const STEP: usize = 200;

/// How long ended processes, and deaths over a task that did not come back, are remembered.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// One passage through the results that were finished before some time, oldest first.
#[derive(Debug)]
pub struct Pruning {
    before: Timestamp,
    /// The end and the row of the last result that was looked at.
    seen: (String, i64),
}

impl Pruning {
    /// Is to take out what was finished before `before`.
    #[must_use]
    pub fn new(before: Timestamp) -> Self {
        Self { before, seen: (String::new(), 0) }
    }
}

impl Store {
    /// Goes one step on: takes out what is settled of the next results. Their numbers stay in the rollups. True where
    /// there may be more.
    pub fn prune(&self, pruning: &mut Pruning) -> Result<bool, StoreError> {
        let Pruning { before, seen } = pruning;
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            rollups::catch_up(&transaction)?;
            let old = finished_before(&transaction, *before, seen)?;
            for (row, ..) in old.iter().filter(|(.., settled)| *settled) {
                transaction.prepare_cached("DELETE FROM results WHERE rowid = ?1")?.execute([row])?;
            }
            rollups::all_counted(&transaction)?;
            let more = old.len() == STEP || rollups::forget_workers(&transaction, *before)?;
            transaction.commit()?;
            if let Some((row, finished_at, _)) = old.into_iter().last() {
                *seen = (finished_at, row);
            }
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
                if lock_of(&self.home, number) != Lock::Held {
                    transaction.execute("DELETE FROM workers WHERE process = ?1", [number])?;
                }
            }
            transaction.execute(
                "DELETE FROM deaths WHERE last_at < ?1 AND NOT EXISTS
                     (SELECT 1 FROM claims WHERE claims.api_url = deaths.api_url AND claims.task_id = deaths.task_id)",
                [&before],
            )?;
            transaction.commit()
        })
    }
}

/// The next results after the one that was seen last: their rows, their ends, and whether they are settled.
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
