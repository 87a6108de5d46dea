//! What the results say in numbers.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

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
    fn sql(self) -> &'static str {
        match self {
            Self::Type => "task_type",
            Self::Worker => "worker_id",
            Self::Hour => "substr(finished_at, 1, 13) || ':00Z'",
            Self::Day => "substr(finished_at, 1, 10)",
        }
    }
}

/// A group of results in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// Attempts that succeeded.
    pub completed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Those of both whose claim was lost.
    pub lost: u64,
    /// `completed` as a share of all, 0 to 1.
    pub success_rate: f64,
    /// The mean duration of an attempt, in milliseconds.
    pub mean_ms: f64,
    /// The median duration, in milliseconds.
    pub p50_ms: i64,
    /// 95 of 100 attempts took no longer, in milliseconds.
    pub p95_ms: i64,
    /// 99 of 100 attempts took no longer, in milliseconds.
    pub p99_ms: i64,
    /// Attempts a second, from the first one's start to the last one's end.
    pub per_second: f64,
    #[serde(skip)]
    durations: Vec<i64>,
    #[serde(skip)]
    span: Option<(Timestamp, Timestamp)>,
}

impl Store {
    /// The results finished at `since` or later, in groups, the groups in the order of their names.
    pub fn statistics(&self, by: By, since: Option<Timestamp>) -> Result<Vec<Group>, StoreError> {
        let sql = format!(
            "SELECT {} AS name, error IS NOT NULL, status = 'lost', duration_ms, started_at, finished_at FROM results
             WHERE ?1 IS NULL OR finished_at >= ?1 ORDER BY name",
            by.sql()
        );
        self.with(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query(params![since.map(to_text)])?;
            let mut groups: Vec<Group> = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                if groups.last().is_none_or(|group| group.name != name) {
                    groups.push(Group { name, ..Group::default() });
                }
                let Some(group) = groups.last_mut() else { continue };
                group.count(row)?;
            }
            groups.iter_mut().for_each(Group::conclude);
            Ok(groups)
        })
    }
}

impl Group {
    fn count(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        *if row.get(1)? { &mut self.failed } else { &mut self.completed } += 1;
        self.lost += u64::from(row.get::<_, bool>(2)?);
        self.durations.push(row.get(3)?);
        let (start, end) = (super::results::time_column(row, 4)?, super::results::time_column(row, 5)?);
        let (first, last) = self.span.unwrap_or((start, end));
        self.span = Some((first.min(start), last.max(end)));
        Ok(())
    }

    /// Turns what was counted into rates and percentiles.
    #[allow(clippy::cast_precision_loss)] // counts and milliseconds are far below 2^53
    fn conclude(&mut self) {
        self.durations.sort_unstable();
        let count = self.durations.len() as f64;
        self.success_rate = self.completed as f64 / count;
        self.mean_ms = self.durations.iter().sum::<i64>() as f64 / count;
        (self.p50_ms, self.p95_ms, self.p99_ms) = (self.percentile(50), self.percentile(95), self.percentile(99));
        let seconds = self.span.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
        self.per_second = if seconds > 0.0 { count / seconds } else { count };
    }

    /// The smallest duration that at least `percent` of all do not exceed (nearest rank).
    fn percentile(&self, percent: usize) -> i64 {
        let rank = (self.durations.len() * percent).div_ceil(100);
        self.durations.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}
