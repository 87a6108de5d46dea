//! The rules of the TaskManager: what each call does to types and tasks, and why it refuses.

mod look;
mod shared;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use look::{Excerpt, Listed, Overview, Seen, Shown, TypeCounts};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;
pub(super) use shared::{STEP, Shared};

use super::Settings;
use super::attempts::{self, Fate};
use super::batch::Batch;
use super::clock::Clock;
use super::database::{self, Json, Time};
use super::error::{Refusal, Result, ServerError};
use super::large::LARGE;
use super::long_poll_queue::LongPollQueue;
use super::params::{NewParams, Schemas};
use super::room::Room;
use super::tally::Tally;
use super::tasks::{self, Claimed, Ending, Filter, NewTask, Order, State, Summary, Task};
use super::types::{self, Rules, TaskType};
use crate::json::{self, MAX_RESULT_DEPTH};

/// The most task types: all of them are in one answer, with their schemas.
const MAX_TYPES: i64 = 1_000;

/// How long a removal of several tasks may hold up calls. Not all are alike: one with a long result takes longer.
const LONGEST_REMOVAL: Duration = Duration::from_millis(5);

/// What the answer to a claim holds beside the params, in bytes: about, and rather more.
const ENVELOPE: usize = 2048;

/// A type that was registered.
#[derive(Serialize)]
pub(super) struct Registered {
    id: i64,
    name: String,
    version: String,
    #[serde(flatten)]
    how: Registration,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Registration {
    New { created: bool },
    Known { updated: bool },
}

/// A task that was created, or was there.
#[derive(Serialize)]
pub(super) struct Created {
    pub(super) id: i64,
    #[serde(rename = "type")]
    task_type: String,
    status: String,
    dedupe_key: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) deduplicated: bool,
}

/// A claim to be.
pub(super) struct ClaimRequest {
    pub(super) worker_id: String,
    pub(super) type_id: i64,
    pub(super) type_pattern: Option<String>,
    pub(super) order: Order,
}

/// What a worker says of an attempt that has ended.
pub(super) struct Report {
    pub(super) worker_id: String,
    pub(super) success: bool,
    /// In canonical form.
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
}

impl Report {
    /// The text of a result that is within the limits.
    pub(super) fn result(result: Option<Value>) -> Result<Option<String>> {
        within_limits("result", result.as_ref().unwrap_or(&Value::Null), MAX_RESULT_DEPTH)?;
        Ok(result.map(|result| result.to_string()))
    }
}

/// The types and tasks in one database file.
pub(super) struct Queue {
    connection: Batch,
    schemas: Schemas,
    claim_timeout: Duration,
    max_attempts: u32,
    long_polls: Arc<LongPollQueue>,
    answers: Room,
    tally: Tally,
    clock: Clock,
    /// A long text is among the changes that are not committed yet.
    is_long: bool,
}

impl Queue {
    pub(super) fn open(settings: &Settings) -> std::result::Result<Self, ServerError> {
        Ok(Self {
            connection: Batch::new(database::open(&settings.database)?),
            schemas: Schemas::default(),
            claim_timeout: settings.claim_timeout,
            max_attempts: settings.max_attempts,
            long_polls: Arc::default(),
            answers: Room::default(),
            tally: Tally::default(),
            clock: Clock::new(),
            is_long: false,
        })
    }

    /// Whether the database answers.
    pub(super) fn check(&self) -> Result<()> {
        types::rules(&self.connection, "")?;
        Ok(())
    }

    /// Stores a type whose schema was compiled.
    pub(super) fn register(&mut self, name: String, version: String, schema: Value) -> Result<Registered> {
        let stored = self.connection.change(|connection| {
            if types::rules(connection, &name)?.is_none() && types::count(connection)? >= MAX_TYPES {
                return Err(Refusal::BeyondLimit(format!("There are {MAX_TYPES} task types already")));
            }
            Ok(types::store(connection, &name, &version, &Json(schema))?)
        });
        let (id, is_new) = stored?;
        let how = if is_new { Registration::New { created: true } } else { Registration::Known { updated: true } };
        Ok(Registered { id, name, version, how })
    }

    pub(super) fn task_type(&self, name: &str) -> Result<TaskType> {
        types::by_name(&self.connection, name)?.ok_or(Refusal::TypeNotFound)
    }

    /// About how long the answer is that lists them, in bytes.
    pub(super) fn length_of_types(&self, active_only: bool) -> Result<usize> {
        Ok(types::length(&self.connection, active_only)?)
    }

    pub(super) fn task_types(&self, active_only: bool) -> Result<Vec<TaskType>> {
        Ok(types::list(&self.connection, active_only)?)
    }

    /// The type of a task to be.
    fn rules(&self, task_type: &str) -> Result<Rules> {
        let rules = types::rules(&self.connection, task_type)?.ok_or(Refusal::TypeNotFound)?;
        if rules.is_active { Ok(rules) } else { Err(Refusal::TypeNotActive) }
    }

    /// Stores a task with params that were checked, unless its like was ever stored: then that is the task.
    pub(super) fn create(&mut self, task_type: String, params: NewParams, priority: i64) -> Result<Created> {
        let rules = self.rules(&task_type)?;
        let NewParams { text, dedupe_key } = params;
        let task = NewTask { type_id: rules.type_id, params: &text, priority, dedupe_key: &dedupe_key };
        self.is_long |= text.len() > LARGE;
        let (id, known) = self.connection.change(|connection| match tasks::by_key(connection, &dedupe_key)? {
            Some((id, status)) => Ok::<_, Refusal>((id, Some(status))),
            None => Ok((tasks::insert(connection, &task)?, None)),
        })?;
        let deduplicated = known.is_some();
        if !deduplicated {
            self.tally.moved(rules.type_id, None, Some("pending"));
            self.long_polls.tell(rules.type_id);
        }
        let status = known.unwrap_or_else(|| "pending".to_owned());
        Ok(Created { id, task_type, status, dedupe_key, deduplicated })
    }

    /// Refuses a claim that no task will ever be there for: of a type that is unknown, or not like the pattern.
    pub(super) fn admit(&self, request: &ClaimRequest, type_id: i64) -> Result<()> {
        let is_like = types::is_like(&self.connection, type_id, request.type_pattern.as_deref())?;
        if is_like.ok_or(Refusal::TypeNotFound)? { Ok(()) } else { Err(Refusal::NoTask) }
    }

    /// Hands out a task of a type, be it the request's own or another: one whose claim has run out, else the pending one
    /// that is first. The claim that ran out stands until then, so that a late report is not lost for nothing.
    pub(super) fn claim(&mut self, request: &ClaimRequest, type_id: i64) -> Result<Claimed> {
        self.admit(request, type_id)?;
        let (claimed, was_pending) = loop {
            self.follow_clock()?;
            if let Some(claimed) = self.claim_by_clock(request, type_id)? {
                break claimed;
            }
        };
        if was_pending {
            self.tally.moved(type_id, Some("pending"), Some("claimed"));
        }
        Ok(claimed)
    }

    /// Brings the claims into line with the machine's clock where that was set.
    fn follow_clock(&mut self) -> Result<()> {
        if self.clock.now().is_none() {
            let clock = &mut self.clock;
            self.connection.change(|connection| clock.follow(connection))?;
        }
        Ok(())
    }

    /// A task, and whether it was pending; `None` where the clock was set just now.
    fn claim_by_clock(&mut self, request: &ClaimRequest, type_id: i64) -> Result<Option<(Claimed, bool)>> {
        let (clock, claim_timeout, answers) = (&self.clock, self.claim_timeout, &self.answers);
        self.connection.change(|connection| {
            let Some(now) = clock.now() else { return Ok(None) };
            let expired = tasks::expired(connection, type_id, now.earlier_by(claim_timeout))?;
            let id = match expired {
                Some(id) => id,
                None => tasks::next(connection, type_id, request.order)?.ok_or(Refusal::NoTask)?,
            };
            if expired.is_some() {
                attempts::keep(connection, id, Fate::Expired, None)?;
            }
            let mut claimed = tasks::claim(connection, id, &request.worker_id, now)?;
            // A task that nobody is told of would be claimed for nothing.
            if !answers.hold(&mut claimed.held, claimed.params.len() + ENVELOPE) {
                return Err(Refusal::NoRoom);
            }
            Ok(Some((claimed, expired.is_none())))
        })
    }

    /// How long it takes until a claim of that type can run out, be it one that is made from now on.
    pub(super) fn until_expiry(&self, type_id: i64) -> Result<Duration> {
        let oldest = tasks::oldest_claim(&self.connection, type_id)?;
        let age = oldest.map_or(Duration::ZERO, |claimed_at| Time::now().since(claimed_at));
        Ok(self.claim_timeout.saturating_sub(age))
    }

    pub(super) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        self.connection.change(|connection| {
            held_by(connection, id, worker_id)?;
            Ok(tasks::set_progress(connection, id, progress).map(drop)?)
        })
    }

    /// Ends an attempt; the status the task has now.
    pub(super) fn complete(&mut self, id: i64, report: Report) -> Result<&'static str> {
        self.is_long |= report.result.as_ref().is_some_and(|result| result.len() > LARGE);
        let max_attempts = i64::from(self.max_attempts);
        let (type_id, status) = self.connection.change(|connection| {
            let task = held_by(connection, id, &report.worker_id)?;
            let status = match report.success {
                true => "completed",
                false if task.attempts < max_attempts => "pending",
                false => "failed",
            };
            let error_message = report.error.filter(|_| !report.success);
            if status == "pending" {
                attempts::keep(connection, id, Fate::Failed, error_message.as_deref())?;
            }
            tasks::end(connection, id, &Ending { status, result: report.result, error_message })?;
            Ok::<_, Refusal>((task.type_id, status))
        })?;
        self.tally.moved(type_id, Some("claimed"), Some(status));
        if status == "pending" {
            self.long_polls.tell(type_id);
        }
        Ok(status)
    }

    /// Puts a task back that has failed, to be tried as often as a new one. What it failed with is kept.
    pub(super) fn put_back(&mut self, id: i64) -> Result<()> {
        let type_id = self.connection.change(|connection| {
            let task = tasks::state(connection, id)?.ok_or(Refusal::TaskNotFound)?;
            if task.status != "failed" {
                return Err(Refusal::NotFailed);
            }
            let error = tasks::error_message(connection, id)?;
            attempts::keep(connection, id, Fate::PutBack, error.as_deref())?;
            tasks::put_back(connection, id)?;
            Ok(task.type_id)
        })?;
        self.tally.moved(type_id, Some("failed"), Some("pending"));
        self.long_polls.tell(type_id);
        Ok(())
    }

    /// Removes tasks that ended before `time`, the oldest first: `most`, or as many as there is time for. Whether there
    /// may be more.
    pub(super) fn remove_ended(&mut self, time: Time, most: usize) -> Result<bool> {
        let start = Instant::now();
        let (more, removed) = self.connection.change(|connection| {
            let (mut more, mut removed) = (true, Vec::new());
            while more && removed.len() < most && start.elapsed() <= LONGEST_REMOVAL {
                let ended = tasks::remove_ended(connection, time)?;
                more = ended.is_some();
                if let Some((id, type_id, status)) = ended {
                    attempts::remove(connection, id)?;
                    removed.push((type_id, status));
                }
            }
            Ok::<_, Refusal>((more, removed))
        })?;
        for (type_id, status) in removed {
            self.tally.moved(type_id, Some(&status), None);
        }
        Ok(more)
    }

    /// About how long the answer is that shows a task, in bytes.
    pub(super) fn length_of_task(&self, id: i64) -> Result<usize> {
        tasks::length(&self.connection, id)?.map(|length| length + ENVELOPE).ok_or(Refusal::TaskNotFound)
    }

    pub(super) fn task(&self, id: i64) -> Result<Task> {
        tasks::by_id(&self.connection, id)?.ok_or(Refusal::TaskNotFound)
    }

    /// The ids of the tasks that pass `filter`, newest first.
    pub(super) fn task_ids(&self, filter: &Filter) -> Result<Vec<i64>> {
        Ok(tasks::list_ids(&self.connection, filter)?)
    }

    /// The tasks with these ids that are still there.
    pub(super) fn summaries(&self, ids: &[i64]) -> Result<Vec<Summary>> {
        Ok(tasks::summaries(&self.connection, ids)?)
    }

    /// Whether the next commit takes longer than others.
    pub(super) fn is_long(&self) -> bool {
        self.is_long
    }

    /// How many changes were ever made.
    pub(super) fn changes(&self) -> u64 {
        self.connection.changes()
    }

    /// Commits what calls have changed, or, after an error, none of it.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.is_long = false;
        // What was counted of changes that are undone is counted anew.
        self.connection.commit().inspect_err(|_| {
            self.tally = Tally::default();
            self.clock.forget();
        })
    }
}

/// Refuses what could not be handed out again: whatever is in the database can be read, by prismq's client as well.
fn within_limits(field: &str, value: &Value, max_depth: usize) -> Result<()> {
    json::check(value, max_depth).map_err(|error| Refusal::BeyondLimit(format!("Field '{field}' is {error}")))
}

/// The task, where `worker_id` holds it.
fn held_by(connection: &Connection, id: i64, worker_id: &str) -> Result<State> {
    let task = tasks::state(connection, id)?.ok_or(Refusal::TaskNotFound)?;
    if task.status != "claimed" {
        return Err(Refusal::NotClaimed);
    }
    if task.claimed_by.as_deref() != Some(worker_id) {
        return Err(Refusal::ClaimedByAnother);
    }
    Ok(task)
}

#[cfg(test)]
mod tests;
