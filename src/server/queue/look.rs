//! What people are shown of the queue. Each look reads about what it shows, however many tasks there are.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::Queue;
use crate::headline::in_one_line;
use crate::output::printable;
use crate::server::attempts::{self, PastAttempt};
use crate::server::database::Time;
use crate::server::error::{Refusal, Result};
use crate::server::tally::{Counts, Minute};
use crate::server::tasks::{self, Filter, SUMMARY, Summary};
use crate::server::types;

/// Characters that are shown of an error in a list, and how many of its last bytes are looked at for those that say most.
const LINE: usize = 200;
const LAST_LINES: usize = 8 * 1024;
/// Characters that are shown of a text by itself.
const LONGEST: i64 = 64 * 1024;

/// Tasks in flight, and tasks that ended last, whose workers are looked for.
const LAST: i64 = 500;

/// Everything at a glance.
pub(in crate::server) struct Overview {
    pub(in crate::server) types: Vec<TypeCounts>,
    /// By minutes, the present one last.
    pub(in crate::server) last_hour: Vec<Minute>,
    /// Who claimed last comes first.
    pub(in crate::server) workers: Vec<Seen>,
}

/// A type and its tasks.
pub(in crate::server) struct TypeCounts {
    pub(in crate::server) name: String,
    pub(in crate::server) version: String,
    pub(in crate::server) is_active: bool,
    pub(in crate::server) counts: Counts,
}

/// A worker, by its claims.
pub(in crate::server) struct Seen {
    pub(in crate::server) worker_id: String,
    /// Its last claim, and the task it was of.
    pub(in crate::server) last: Option<(Time, i64)>,
    pub(in crate::server) in_flight: usize,
    /// The types that it waits for a task of just now, by name.
    pub(in crate::server) waits_for: Vec<String>,
}

/// A task in a list, with what it failed with in a line.
pub(in crate::server) struct Listed {
    pub(in crate::server) task: Summary,
    pub(in crate::server) error: Option<String>,
}

/// A task by itself.
pub(in crate::server) struct Shown {
    pub(in crate::server) task: Summary,
    /// Whole: one that is longer than 65,535 bytes was refused.
    pub(in crate::server) error: Option<String>,
    pub(in crate::server) params: Excerpt,
    pub(in crate::server) result: Option<Excerpt>,
    /// Newest first.
    pub(in crate::server) past: Vec<PastAttempt>,
    /// When its claim runs out.
    pub(in crate::server) expires_at: Option<Time>,
}

/// A text, or the start of a long one.
pub(in crate::server) struct Excerpt {
    pub(in crate::server) text: String,
    /// The length of the whole, in characters.
    pub(in crate::server) length: usize,
}

impl Excerpt {
    pub(in crate::server) fn is_whole(&self) -> bool {
        i64::try_from(self.length).is_ok_and(|length| length <= LONGEST)
    }
}

impl Queue {
    pub(in crate::server) fn overview(&mut self) -> Result<Overview> {
        let types = self.counts()?;
        let last_hour = self.tally.look(&self.connection)?.last_hour();
        let workers = workers(&self.connection, self.long_polls.workers())?;
        Ok(Overview { types, last_hour, workers })
    }

    /// Every type with its tasks, by name.
    pub(in crate::server) fn counts(&mut self) -> Result<Vec<TypeCounts>> {
        let tally = self.tally.look(&self.connection)?;
        let of_type =
            |(id, name, version, is_active)| TypeCounts { name, version, is_active, counts: tally.of_type(id) };
        Ok(types::names(&self.connection)?.into_iter().map(of_type).collect())
    }

    /// The tasks that pass `filter`, newest first.
    pub(in crate::server) fn listed(&self, filter: &Filter) -> Result<Vec<Listed>> {
        // It is cut here: to SQLite's functions, a text ends with its first NUL.
        let mut errors = self.connection.prepare_cached("SELECT error_message FROM tasks WHERE id = ?1")?;
        let in_a_list = |error: String| {
            let end = &error[error.ceil_char_boundary(error.len().saturating_sub(LAST_LINES))..];
            printable(&in_one_line(end)).chars().take(LINE).collect()
        };
        let mut with_error = |task: Summary| -> Result<Listed> {
            let error: Option<String> = errors.query_row([task.id], |row| row.get(0)).optional()?.flatten();
            Ok(Listed { task, error: error.map(in_a_list) })
        };
        tasks::list(&self.connection, filter)?.into_iter().map(&mut with_error).collect()
    }

    pub(in crate::server) fn shown(&self, id: i64) -> Result<Shown> {
        let sql = format!(
            "SELECT {SUMMARY}, error_message, substr(params, 1, ?2), length(params), substr(result, 1, ?2), length(result) \
             FROM tasks JOIN task_types ON task_types.id = type_id WHERE tasks.id = ?1"
        );
        let read = |row: &Row<'_>| {
            let task = tasks::summary(row)?;
            let claimed_at = task.claimed_at.filter(|_| task.status == "claimed");
            Ok(Shown {
                expires_at: claimed_at.map(|time| time.later_by(self.claim_timeout)),
                task,
                error: row.get(10)?,
                params: excerpt(row, 11)?.unwrap_or(Excerpt { text: String::new(), length: 0 }),
                result: excerpt(row, 13)?,
                past: attempts::of_task(&self.connection, id)?,
            })
        };
        let shown = self.connection.prepare_cached(&sql)?.query_row([id, LONGEST], read).optional()?;
        shown.ok_or(Refusal::TaskNotFound)
    }

    /// The schema of a type's params.
    pub(in crate::server) fn schema(&self, task_type: &str) -> Result<Value> {
        let rules = types::rules(&self.connection, task_type)?.ok_or(Refusal::TypeNotFound)?;
        // It was parsed before it was stored.
        Ok(serde_json::from_str(&rules.schema).unwrap_or_default())
    }
}

fn excerpt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Excerpt>> {
    let Some(text) = row.get(column)? else { return Ok(None) };
    Ok(Some(Excerpt { text, length: row.get(column + 1)? }))
}

const IN_FLIGHT: &str =
    "SELECT claimed_by, claimed_at, id FROM tasks WHERE status = 'claimed' ORDER BY id DESC LIMIT ?1";

const ENDED: &str = "SELECT claimed_by, claimed_at, id FROM tasks WHERE completed_at > 0 \
                     ORDER BY completed_at DESC LIMIT ?1";

/// The workers of the tasks in flight and of those that ended last, and those that wait.
fn workers(connection: &Connection, waiting: HashMap<String, HashSet<i64>>) -> Result<Vec<Seen>> {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    for (sql, in_flight) in [(IN_FLIGHT, 1), (ENDED, 0)] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([LAST])?;
        while let Some(row) = rows.next()? {
            let (worker_id, claimed_at): (Option<String>, Option<Time>) = (row.get(0)?, row.get(1)?);
            let (Some(worker_id), Some(claimed_at)) = (worker_id, claimed_at) else { continue };
            let worker = seen.entry(worker_id.clone()).or_insert_with(|| Seen::new(worker_id));
            worker.in_flight += in_flight;
            worker.last = worker.last.max(Some((claimed_at, row.get(2)?)));
        }
    }
    let types = types::names(connection)?;
    for (worker_id, type_ids) in waiting {
        let names = types.iter().filter(|(id, ..)| type_ids.contains(id)).map(|(_, name, ..)| name.clone());
        seen.entry(worker_id.clone()).or_insert_with(|| Seen::new(worker_id)).waits_for = names.collect();
    }
    let mut seen: Vec<_> = seen.into_values().collect();
    seen.sort_unstable_by(|one, other| (other.last, &one.worker_id).cmp(&(one.last, &other.worker_id)));
    Ok(seen)
}

impl Seen {
    fn new(worker_id: String) -> Self {
        Self { worker_id, last: None, in_flight: 0, waits_for: Vec::new() }
    }
}
