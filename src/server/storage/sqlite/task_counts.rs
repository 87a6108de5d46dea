//! Counts of tasks by type and status, and of tasks that ended in each minute of the last hour. Counted once, when
//! first asked for, and then kept in memory as tasks change. So claims and reports pay nothing for it, and a page costs
//! the same however many tasks there are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result};

use crate::server::storage::{Counts, Minute, STATUSES, Time};

/// Number of minutes to report.
const MINUTES: i64 = 60;

/// If another process changes the file all the time, counting takes at most 1 / `SHARE` of the time.
const SHARE: u32 = 100;

/// The counts, once they were asked for.
#[derive(Default)]
pub(super) struct CachedCounts(Option<TaskCounts>);

/// Counts, and when they were counted.
pub(super) struct TaskCounts {
    by_type: HashMap<i64, Counts>,
    /// By minute, counted since 1970.
    by_minute: HashMap<i64, Minute>,
    /// SQLite's `data_version`: changes with every commit of another process.
    version: i64,
    counted_at: Instant,
    count_duration: Duration,
}

impl CachedCounts {
    /// Moves a task of that type to another status. A new task had none, a deleted one has none.
    pub(super) fn moved(&mut self, type_id: i64, from: Option<&str>, to: Option<&str>) {
        let Some(counted) = &mut self.0 else { return };
        let counts = counted.by_type.entry(type_id).or_default();
        if let Some(count) = from.and_then(status_index).map(|index| &mut counts[index]) {
            *count = count.saturating_sub(1);
        }
        if let Some(index) = to.and_then(status_index) {
            counts[index] += 1;
        }
        if from == Some("claimed") {
            counted.ended(Time::now().minute(), to.unwrap_or_default(), 1);
        }
    }

    /// Returns the current counts. If another process changes the file they may be slightly old.
    pub(super) fn current(&mut self, connection: &Connection) -> Result<&TaskCounts> {
        let version: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        let is_good = |it: &TaskCounts| it.version == version || it.counted_at.elapsed() < it.count_duration * SHARE;
        let counted = match self.0.take().filter(is_good) {
            Some(counted) => counted,
            None => TaskCounts::count(connection, version)?,
        };
        Ok(self.0.insert(counted))
    }
}

const COUNT: &str = "SELECT type_id, status, count(*) FROM tasks GROUP BY type_id, status";

const COUNT_ENDED: &str = "SELECT completed_at / 60000000, status, count(*) FROM tasks WHERE completed_at >= ?1 \
                           GROUP BY 1, 2";

impl TaskCounts {
    fn count(connection: &Connection, version: i64) -> Result<Self> {
        let counted_at = Instant::now();
        let mut this = Self {
            by_type: HashMap::new(),
            by_minute: HashMap::new(),
            version,
            counted_at,
            count_duration: Duration::ZERO,
        };
        let mut statement = connection.prepare_cached(COUNT)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let status: String = row.get(1)?;
            if let Some(index) = status_index(&status) {
                this.by_type.entry(row.get(0)?).or_default()[index] = row.get(2)?;
            }
        }
        let mut statement = connection.prepare_cached(COUNT_ENDED)?;
        let mut rows = statement.query([Time::now().earlier_by(Duration::from_mins(MINUTES.unsigned_abs()))])?;
        while let Some(row) = rows.next()? {
            let status: String = row.get(1)?;
            this.ended(row.get(0)?, &status, row.get(2)?);
        }
        this.count_duration = counted_at.elapsed();
        Ok(this)
    }

    fn ended(&mut self, minute: i64, status: &str, count: u64) {
        let ended = self.by_minute.entry(minute).or_default();
        match status {
            "completed" => ended.completed += count,
            "failed" => ended.failed += count,
            _ => {}
        }
        self.by_minute.retain(|it, _| *it > minute - MINUTES);
    }

    /// Returns the counts of a type.
    pub(super) fn of_type(&self, type_id: i64) -> Counts {
        self.by_type.get(&type_id).copied().unwrap_or_default()
    }

    /// Returns the last hour, the current minute last.
    pub(super) fn last_hour(&self) -> Vec<Minute> {
        let now = Time::now().minute();
        (now - MINUTES + 1..=now).map(|minute| self.by_minute.get(&minute).copied().unwrap_or_default()).collect()
    }
}

fn status_index(status: &str) -> Option<usize> {
    STATUSES.iter().position(|it| *it == status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_reads_no_task() {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::server::storage::sqlite::open(&folder.path().join("tasks.db")).unwrap().connection;
        for (sql, index) in [(COUNT, "tasks_by_type"), (COUNT_ENDED, "tasks_by_end")] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let step: String = statement.raw_query().next().unwrap().unwrap().get("detail").unwrap();
            assert!(step.contains(&format!("USING COVERING INDEX {index}")), "{step}");
        }
    }
}
