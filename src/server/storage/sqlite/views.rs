//! Data for the web page. Each query reads about what it shows, however many tasks there are.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::tasks::{self, SUMMARY};
use super::{SqliteStorage, attempts, types};
use crate::headline::in_one_line;
use crate::output::printable;
use crate::server::error::{Refusal, Result};
use crate::server::storage::{
    Cursor, Excerpt, Filter, LONGEST_EXCERPT, Overview, TaskPage, TaskRow, TaskSummary, Time, TypeCounts,
    WorkerActivity,
};

/// Maximum characters of an error in a list, and how many of its last bytes are searched for the most telling ones.
const LINE: usize = 200;
const LAST_LINES: usize = 8 * 1024;

/// Number of tasks in flight, and of tasks that ended last, whose workers are shown.
const LAST: i64 = 500;

impl SqliteStorage {
    /// Returns the data of the overview. `waiting` are the long-polling workers, with the ids of the types.
    pub(in crate::server) fn overview(&mut self, waiting: HashMap<String, HashSet<i64>>) -> Result<Overview> {
        let types = self.counts()?;
        let last_hour = self.counts.current(self.group.connection())?.last_hour();
        let workers = workers(self.group.connection(), waiting)?;
        Ok(Overview { types, last_hour, workers })
    }

    /// Returns each type and the number of its tasks, by name.
    pub(in crate::server) fn counts(&mut self) -> Result<Vec<TypeCounts>> {
        let connection = self.group.connection();
        let counts = self.counts.current(connection)?;
        let of_type =
            |(id, name, version, is_active)| TypeCounts { name, version, is_active, counts: counts.of_type(id) };
        Ok(types::names(connection)?.into_iter().map(of_type).collect())
    }

    /// Returns the tasks that pass `filter`, newest first.
    pub(in crate::server) fn listed(&self, filter: &Filter) -> Result<Vec<TaskRow>> {
        let connection = self.group.connection();
        // It is cut here, because SQLite's functions end a text at its first NUL.
        let mut errors = connection.prepare_cached("SELECT error_message FROM tasks WHERE id = ?1")?;
        let in_a_list = |error: String| {
            let end = &error[error.ceil_char_boundary(error.len().saturating_sub(LAST_LINES))..];
            printable(&in_one_line(end)).chars().take(LINE).collect()
        };
        let mut with_error = |task: TaskSummary| -> Result<TaskRow> {
            let error: Option<String> = errors.query_row([task.id], |row| row.get(0)).optional()?.flatten();
            Ok(TaskRow { task, error: error.map(in_a_list) })
        };
        tasks::list(connection, filter)?.into_iter().map(&mut with_error).collect()
    }

    /// Returns a task for its page.
    pub(in crate::server) fn shown(&self, id: i64) -> Result<TaskPage> {
        let connection = self.group.connection();
        let sql = format!(
            "SELECT {SUMMARY}, error_message, substr(params, 1, ?2), length(params), substr(result, 1, ?2), length(result), \
             expires_at FROM tasks JOIN task_types ON task_types.id = type_id WHERE tasks.id = ?1"
        );
        let read = |row: &Row<'_>| {
            let task = tasks::summary(row)?;
            Ok(TaskPage {
                task,
                error: row.get(10)?,
                params: excerpt(row, 11)?.unwrap_or(Excerpt { text: String::new(), length: 0 }),
                result: excerpt(row, 13)?,
                expires_at: row.get(15)?,
                past: attempts::of_task(connection, id)?,
            })
        };
        let shown = connection.prepare_cached(&sql)?.query_row([id, LONGEST_EXCERPT], read).optional()?;
        shown.ok_or(Refusal::TaskNotFound)
    }
}

fn excerpt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Excerpt>> {
    let Some(text) = row.get(column)? else { return Ok(None) };
    Ok(Some(Excerpt { text, length: row.get(column + 1)? }))
}

const ENDED: &str = "SELECT claimed_by, claimed_at, id FROM tasks WHERE completed_at > 0 \
                     ORDER BY completed_at DESC LIMIT ?1";

/// Who has claimed a task, when, and the task.
type Claimed = (Option<String>, Option<Time>, i64);

/// Returns the workers of the tasks in flight, of those that ended last, and those that long-poll.
fn workers(connection: &Connection, waiting: HashMap<String, HashSet<i64>>) -> Result<Vec<WorkerActivity>> {
    let mut seen: HashMap<String, WorkerActivity> = HashMap::new();
    let mut see = |(worker_id, claimed_at, id): Claimed, in_flight| {
        let (Some(worker_id), Some(claimed_at)) = (worker_id, claimed_at) else { return };
        let worker = seen.entry(worker_id.clone()).or_insert_with(|| WorkerActivity::new(worker_id));
        worker.in_flight += in_flight;
        worker.last = worker.last.max(Some((claimed_at, id)));
    };
    let in_flight = Filter { status: Some("claimed"), task_type: None, cursor: Cursor::NEWEST, limit: LAST, offset: 0 };
    for task in tasks::list(connection, &in_flight)? {
        see((task.claimed_by, task.claimed_at, task.id), 1);
    }
    let mut ended = connection.prepare_cached(ENDED)?;
    for task in ended.query_map([LAST], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
        see(task?, 0);
    }
    let types = types::names(connection)?;
    for (worker_id, type_ids) in waiting {
        let names = types.iter().filter(|(id, ..)| type_ids.contains(id)).map(|(_, name, ..)| name.clone());
        seen.entry(worker_id.clone()).or_insert_with(|| WorkerActivity::new(worker_id)).waits_for = names.collect();
    }
    let mut seen: Vec<_> = seen.into_values().collect();
    seen.sort_unstable_by(|one, other| (other.last, &one.worker_id).cmp(&(one.last, &other.worker_id)));
    Ok(seen)
}

impl WorkerActivity {
    fn new(worker_id: String) -> Self {
        Self { worker_id, last: None, in_flight: 0, waits_for: Vec::new() }
    }
}
