//! Statistics of results.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::rollups::{self, Rollup};
use super::{Store, StoreError, to_text};

/// What to group results by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The task type.
    Type,
    /// The worker.
    Worker,
    /// The hour in which they were finished, in UTC.
    Hour,
    /// The day on which they were finished, in UTC.
    Day,
}

impl By {
    /// Returns the SQL of a group's name in `results`.
    fn of_result(self) -> &'static str {
        match self {
            Self::Type => "task_type",
            Self::Worker => "worker_id",
            Self::Hour => "substr(finished_at, 1, 13) || ':00Z'",
            Self::Day => "substr(finished_at, 1, 10)",
        }
    }

    /// Returns the SQL of a group's name in `rollups`, and which rows count.
    fn of_rollup(self) -> (&'static str, &'static str) {
        match self {
            Self::Type => ("name", "kind = 'type'"),
            Self::Worker => ("iif(kind = 'worker', name, '(earlier workers)')", "kind <> 'type'"),
            Self::Hour => ("hour || ':00Z'", "kind = 'type'"),
            Self::Day => ("substr(hour, 1, 10)", "kind = 'type'"),
        }
    }
}

/// Statistics of one group of results.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// Attempts that succeeded.
    pub completed: u64,
    /// Attempts that ran and failed.
    pub failed: u64,
    /// Attempts of both kinds whose claim was lost.
    pub lost: u64,
    /// `completed` as a share of all, 0 to 1.
    pub success_rate: f64,
    /// The mean duration of an attempt, in milliseconds.
    pub mean_ms: f64,
    /// The median duration, in milliseconds; like the other percentiles, to within 1.6 %.
    pub p50_ms: i64,
    /// 95 of 100 attempts took no longer, in milliseconds.
    pub p95_ms: i64,
    /// 99 of 100 attempts took no longer, in milliseconds.
    pub p99_ms: i64,
    /// Attempts a second, from the first one's start to the last one's end.
    pub per_second: f64,
}

impl Store {
    /// Returns statistics of the results finished at `since` or later, in groups sorted by name. Whole hours come from
    /// the rollups and the latest results, the rest of the first hour from its results.
    pub fn statistics(&self, by: By, since: Option<Timestamp>) -> Result<Vec<Group>, StoreError> {
        let since_hour = since.map(rollups::hour).unwrap_or_default();
        // Later than every time of that hour, and not later than the next one; empty where all hours are whole.
        let whole_from = since.map(|_| format!("{since_hour}:60")).unwrap_or_default();
        let (name, which) = by.of_rollup();
        let rolled_up = format!("SELECT {name}, {} FROM rollups WHERE {which} AND hour > ?1", rollups::COLUMNS);
        let columns = format!("SELECT {}, {} FROM results WHERE {} AND", by.of_result(), rollups::ROW, rollups::COUNTS);
        let the_rest = format!(
            "{columns} finished_at >= ?1 AND finished_at < ?2 UNION ALL {columns} rowid > ?3 AND finished_at >= ?2"
        );
        self.with(|connection| {
            // One view of both tables.
            let transaction = connection.transaction()?;
            let mut found: BTreeMap<String, Rollup> = BTreeMap::new();
            let mut statement = transaction.prepare(&rolled_up)?;
            let mut rows = statement.query([since_hour])?;
            while let Some(row) = rows.next()? {
                found.entry(row.get(0)?).or_default().merge(&Rollup::read(row, 1)?);
            }
            let mut statement = transaction.prepare(&the_rest)?;
            let since = since.map(to_text).unwrap_or_default();
            let mut rows = statement.query(params![since, whole_from, rollups::last_counted(&transaction)?])?;
            while let Some(row) = rows.next()? {
                found.entry(row.get(0)?).or_default().merge(&Rollup::of_row(row, 1)?);
            }
            Ok(found.into_iter().map(|(name, rollup)| Group::new(name, &rollup)).collect())
        })
    }
}

impl Group {
    /// Computes rates and percentiles from the counts.
    #[allow(clippy::cast_precision_loss)] // counts and milliseconds are far below 2^53
    fn new(name: String, rollup: &Rollup) -> Self {
        let count = (rollup.completed + rollup.failed) as f64;
        let seconds = rollup.span.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
        Self {
            name,
            completed: rollup.completed,
            failed: rollup.failed,
            lost: rollup.lost,
            success_rate: rollup.completed as f64 / count,
            mean_ms: rollup.duration_ms as f64 / count,
            p50_ms: rollup.durations.percentile(50),
            p95_ms: rollup.durations.percentile(95),
            p99_ms: rollup.durations.percentile(99),
            per_second: if seconds > 0.0 { count / seconds } else { count },
        }
    }
}
