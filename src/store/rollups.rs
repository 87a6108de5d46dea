//! Hourly rollups: counts and durations by task type and by worker, so that statistics need not read all results.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::histogram::Histogram;
use super::time_column;
use super::{ResultId, to_text};
use crate::task::TaskResult;

/// What results are rolled up by; the names are those in the table.
const TYPE: &str = "type";
const WORKER: &str = "worker";
/// All workers whose results were pruned, as one: worker ids are new for each process, and would pile up.
const EARLIER: &str = "earlier workers";

/// The columns that [`Rollup::read`] reads.
pub(super) const COLUMNS: &str = "completed, failed, lost, duration_ms, first_started_at, last_finished_at, durations";

/// The columns of `results` that [`Rollup::of_row`] reads.
pub(super) const ROW: &str = "error IS NOT NULL, status = 'lost', duration_ms, started_at, finished_at";

/// Which rows of `results` count: not those of attempts that were not run. JSON is only read where a failure has some.
pub(super) const COUNTS: &str = "(error IS NULL OR metadata ->> 'not_run' IS NOT 1)";

/// Totals of some results, which can be added to others.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    /// Sum of all durations.
    pub(super) duration_ms: i64,
    /// The first start and the last end.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) durations: Histogram,
}

impl Rollup {
    fn one(failed: bool, lost: bool, duration_ms: i64, span: (Timestamp, Timestamp)) -> Self {
        let mut durations = Histogram::default();
        durations.add(duration_ms);
        Self {
            completed: u64::from(!failed),
            failed: u64::from(failed),
            lost: u64::from(lost),
            duration_ms,
            span: Some(span),
            durations,
        }
    }

    /// Reads the totals of one row of `results`, whose [`ROW`] columns start at `first`.
    pub(super) fn of_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let span = (time_column(row, first + 3)?, time_column(row, first + 4)?);
        Ok(Self::one(row.get(first)?, row.get(first + 1)?, row.get(first + 2)?, span))
    }

    /// Reads a stored rollup, whose [`COLUMNS`] start at `first`.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            completed: row.get(first)?,
            failed: row.get(first + 1)?,
            lost: row.get(first + 2)?,
            duration_ms: row.get(first + 3)?,
            span: Some((time_column(row, first + 4)?, time_column(row, first + 5)?)),
            durations: Histogram::from_bytes(row.get_ref(first + 6)?.as_blob()?),
        })
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.lost += other.lost;
        self.duration_ms = self.duration_ms.saturating_add(other.duration_ms);
        self.span = match (self.span, other.span) {
            (Some((start, end)), Some((other_start, other_end))) => Some((start.min(other_start), end.max(other_end))),
            (one, other) => one.or(other),
        };
        self.durations.merge(&other.durations);
    }

    /// Adds it to the stored rollup of the hour.
    fn add_to(mut self, connection: &Connection, (kind, hour, name): (&str, &str, &str)) -> rusqlite::Result<()> {
        let sql = format!("SELECT {COLUMNS} FROM rollups WHERE kind = ?1 AND hour = ?2 AND name = ?3");
        let mut statement = connection.prepare_cached(&sql)?;
        if let Some(stored) = statement.query_row([kind, hour, name], |row| Self::read(row, 0)).optional()? {
            self.merge(&stored);
        }
        let (start, end) = self.span.unwrap_or_default();
        connection
            .prepare_cached("INSERT OR REPLACE INTO rollups VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                kind,
                hour,
                name,
                self.completed,
                self.failed,
                self.lost,
                self.duration_ms,
                to_text(start),
                to_text(end),
                self.durations.to_bytes(),
            ])
            .map(drop)
    }
}

/// The hour of a time, such as `2026-11-22T03`.
pub(super) fn hour(time: Timestamp) -> String {
    let mut text = to_text(time);
    text.truncate("2026-11-22T03".len());
    text
}

/// Returns the row id of the last counted result; later results have higher ones.
pub(super) fn last_counted(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT result FROM rolled_up")?.query_row([], |row| row.get(0))
}

/// Adds results that were not counted yet.
pub(super) fn catch_up(connection: &Connection) -> rusqlite::Result<()> {
    add_after(connection, last_counted(connection)?)?;
    all_counted(connection)
}

/// Notes that all present results were counted. Must be repeated after the last ones were deleted, because SQLite gives
/// their row ids to new results.
pub(super) fn all_counted(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE rolled_up SET result = (SELECT coalesce(max(rowid), 0) FROM results)";
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// A result whose claim was lost.
pub(super) struct LostResult {
    id: ResultId,
    is_not_run: bool,
    hour: String,
    task_type: String,
    worker_id: String,
}

impl LostResult {
    pub(super) fn new(id: ResultId, result: &TaskResult) -> Self {
        Self {
            id,
            is_not_run: result.outcome.is_not_run(),
            hour: hour(result.finished_at),
            task_type: result.task_type.clone(),
            worker_id: result.worker_id.clone(),
        }
    }

    /// Counts its claim as lost. If the result was not counted yet, its row will say so when it is.
    pub(super) fn count(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.is_not_run || self.id.0 > last_counted(connection)? {
            return Ok(());
        }
        let mut statement = connection
            .prepare_cached("UPDATE rollups SET lost = lost + 1 WHERE kind = ?1 AND hour = ?2 AND name = ?3")?;
        statement.execute([TYPE, &self.hour, &self.task_type])?;
        if statement.execute([WORKER, &self.hour, &self.worker_id])? == 0 {
            statement.execute([EARLIER, &self.hour, ""])?;
        }
        Ok(())
    }
}

/// Adds those of the results after row `last` that count.
pub(super) fn add_after(connection: &Connection, last: i64) -> rusqlite::Result<()> {
    let sql = format!("SELECT {ROW}, task_type, worker_id FROM results WHERE rowid > ?1 AND {COUNTS}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([last])?;
    let mut found: HashMap<(&str, String, String), Rollup> = HashMap::new();
    while let Some(row) = rows.next()? {
        let one = Rollup::of_row(row, 0)?;
        let hour = one.span.map(|(_, end)| hour(end)).unwrap_or_default();
        for (kind, name) in [(TYPE, row.get(5)?), (WORKER, row.get(6)?)] {
            found.entry((kind, hour.clone(), name)).or_default().merge(&one);
        }
    }
    for ((kind, hour, name), rollup) in found {
        rollup.add_to(connection, (kind, &hour, &name))?;
    }
    Ok(())
}

/// Merges the workers of the oldest hour before `before` that still has several. False if there is no such hour.
pub(super) fn forget_workers(transaction: &Transaction<'_>, before: Timestamp) -> rusqlite::Result<bool> {
    let oldest: Option<String> = transaction
        .prepare_cached("SELECT min(hour) FROM rollups WHERE kind = ?1 AND hour < ?2")?
        .query_row([WORKER, &hour(before)], |row| row.get(0))?;
    let Some(oldest) = oldest else { return Ok(false) };
    let mut all = Rollup::default();
    let sql = format!("SELECT {COLUMNS} FROM rollups WHERE kind = ?1 AND hour = ?2");
    for rollup in transaction.prepare_cached(&sql)?.query_map([WORKER, &oldest], |row| Rollup::read(row, 0))? {
        all.merge(&rollup?);
    }
    all.add_to(transaction, (EARLIER, &oldest, ""))?;
    transaction.execute("DELETE FROM rollups WHERE kind = ?1 AND hour = ?2", [WORKER, &oldest])?;
    Ok(true)
}
