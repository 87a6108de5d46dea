//! The rules of the TaskManager: what each call does to types and tasks, and why it refuses.

#[cfg(test)]
mod growth;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
pub(super) use shared::{STEP, Shared};

use super::Settings;
use super::error::{Refusal, Result, ServerError};
use super::large::LARGE;
use super::long_poll_queue::LongPollQueue;
use super::memory::MemoryBudget;
use super::params::{NewParams, Schemas};
use super::storage::{
    Claimed, Disk, Filter, Json, Listed, NewTask, Order, Overview, Report, Rules, Shown, SqliteStorage, Summary, Task,
    TaskType, Time, TypeCounts,
};
use crate::json::{self, MAX_RESULT_DEPTH};

/// The most task types: all of them are in one answer, with their schemas.
const MAX_TYPES: i64 = 1_000;

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
#[derive(Clone)]
pub(super) struct ClaimRequest {
    pub(super) worker_id: String,
    pub(super) type_id: i64,
    pub(super) type_pattern: Option<String>,
    pub(super) order: Order,
}

impl Report {
    /// The text of a result that is within the limits.
    pub(super) fn result(result: Option<Value>) -> Result<Option<String>> {
        within_limits("result", result.as_ref().unwrap_or(&Value::Null), MAX_RESULT_DEPTH)?;
        Ok(result.map(|result| result.to_string()))
    }
}

/// The types and tasks, and the claims that wait for some.
pub(super) struct Queue {
    storage: SqliteStorage,
    schemas: Schemas,
    claim_timeout: Duration,
    max_attempts: u32,
    long_polls: Arc<LongPollQueue>,
    answers: MemoryBudget,
    /// A long text is among the changes that are not committed yet.
    is_long: bool,
}

impl Queue {
    pub(super) fn open(settings: &Settings) -> std::result::Result<Self, ServerError> {
        Ok(Self {
            storage: SqliteStorage::open(&settings.database)?,
            schemas: Schemas::default(),
            claim_timeout: settings.claim_timeout,
            max_attempts: settings.max_attempts,
            long_polls: Arc::default(),
            answers: MemoryBudget::default(),
            is_long: false,
        })
    }

    /// Whether the database answers.
    pub(super) fn check(&self) -> Result<()> {
        self.storage.check()
    }

    /// Stores a type whose schema was compiled.
    pub(super) fn register(&mut self, name: String, version: String, schema: Value) -> Result<Registered> {
        let (id, is_new) = self.storage.register((&name, &version), &Json(schema), MAX_TYPES)?;
        let how = if is_new { Registration::New { created: true } } else { Registration::Known { updated: true } };
        Ok(Registered { id, name, version, how })
    }

    pub(super) fn task_type(&self, name: &str) -> Result<TaskType> {
        self.storage.task_type(name)
    }

    /// About how long the answer is that lists them, in bytes.
    pub(super) fn length_of_types(&self, active_only: bool) -> Result<usize> {
        self.storage.length_of_types(active_only)
    }

    pub(super) fn task_types(&self, active_only: bool) -> Result<Vec<TaskType>> {
        self.storage.task_types(active_only)
    }

    /// The type of a task to be.
    fn rules(&self, task_type: &str) -> Result<Rules> {
        let rules = self.storage.rules(task_type)?;
        if rules.is_active { Ok(rules) } else { Err(Refusal::TypeNotActive) }
    }

    /// The schema of a type's params.
    pub(super) fn schema(&self, task_type: &str) -> Result<Value> {
        // It was parsed before it was stored.
        Ok(serde_json::from_str(&self.storage.rules(task_type)?.schema).unwrap_or_default())
    }

    /// Stores a task with params that were checked, unless its like was ever stored: then that is the task.
    pub(super) fn create(&mut self, task_type: String, params: NewParams, priority: i64) -> Result<Created> {
        let type_id = self.rules(&task_type)?.type_id;
        let NewParams { text, dedupe_key } = params;
        self.is_long |= text.len() > LARGE;
        let task = NewTask { type_id, params: &text, priority, dedupe_key: &dedupe_key };
        let (id, known) = self.storage.create(&task)?;
        let deduplicated = known.is_some();
        if !deduplicated {
            self.long_polls.notify_first_of(type_id);
        }
        let status = known.unwrap_or_else(|| "pending".to_owned());
        Ok(Created { id, task_type, status, dedupe_key, deduplicated })
    }

    /// Refuses a claim that no task will ever be there for: of a type that is unknown, or not like the pattern.
    pub(super) fn admit(&self, request: &ClaimRequest, type_id: i64) -> Result<()> {
        let is_like = self.storage.is_like(type_id, request.type_pattern.as_deref())?;
        if is_like { Ok(()) } else { Err(Refusal::NoTask) }
    }

    /// Hands out a task of a type, be it the request's own or another: one whose claim has expired, else the pending one
    /// that is first, if it has at most `longest` bytes. The expired claim stands until then, so that a late report is not
    /// lost for nothing.
    pub(super) fn claim(&mut self, request: &ClaimRequest, type_id: i64, longest: usize) -> Result<Claimed> {
        self.admit(request, type_id)?;
        let answers = &self.answers;
        let reserve = |length| {
            let mut reservation = None;
            match () {
                () if length > longest => Err(Refusal::Large),
                () if answers.reserve(&mut reservation, length + ENVELOPE) => Ok(reservation),
                () => Err(Refusal::NoRoom),
            }
        };
        let order = (type_id, request.order);
        let claimed = self.storage.claim(&request.worker_id, order, self.claim_timeout, reserve)?;
        // Its row is written anew, with the params.
        self.is_long |= claimed.params.len() > LARGE;
        Ok(claimed)
    }

    /// How long it takes until a claim of that type can expire, be it one that is made from now on.
    pub(super) fn until_expiry(&self, type_id: i64) -> Result<Duration> {
        let oldest = self.storage.oldest_claim(type_id)?;
        let age = oldest.map_or(Duration::ZERO, |claimed_at| Time::now().since(claimed_at));
        Ok(self.claim_timeout.saturating_sub(age))
    }

    pub(super) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        self.storage.progress(id, worker_id, progress)
    }

    /// Ends an attempt; the status the task has now.
    pub(super) fn complete(&mut self, id: i64, report: Report) -> Result<&'static str> {
        self.is_long |= report.result.as_ref().is_some_and(|result| result.len() > LARGE);
        let (type_id, status) = self.storage.end(id, report, i64::from(self.max_attempts))?;
        if status == "pending" {
            self.long_polls.notify_first_of(type_id);
        }
        Ok(status)
    }

    /// Puts a task back that has failed, to be tried as often as a new one.
    pub(super) fn put_back(&mut self, id: i64) -> Result<()> {
        let type_id = self.storage.put_back(id)?;
        self.long_polls.notify_first_of(type_id);
        Ok(())
    }

    /// Removes tasks that ended before `time`: `most`, or as many as there is time for. Whether there may be more.
    pub(super) fn remove_ended(&mut self, time: Time, most: usize) -> Result<bool> {
        self.storage.remove_ended(time, most)
    }

    /// About how long the answer is that shows a task, in bytes.
    pub(super) fn length_of_task(&self, id: i64) -> Result<usize> {
        Ok(self.storage.length_of_task(id)? + ENVELOPE)
    }

    pub(super) fn task(&self, id: i64) -> Result<Task> {
        self.storage.task(id)
    }

    /// The ids of the tasks that pass `filter`, newest first.
    pub(super) fn task_ids(&self, filter: &Filter) -> Result<Vec<i64>> {
        self.storage.task_ids(filter)
    }

    /// The tasks with these ids that are still there.
    pub(super) fn summaries(&self, ids: &[i64]) -> Result<Vec<Summary>> {
        self.storage.summaries(ids)
    }

    pub(super) fn overview(&mut self) -> Result<Overview> {
        self.storage.overview(self.long_polls.workers())
    }

    /// Every type with its tasks, by name.
    pub(super) fn counts(&mut self) -> Result<Vec<TypeCounts>> {
        self.storage.counts()
    }

    /// The tasks that pass `filter`, newest first, with their errors.
    pub(super) fn listed(&self, filter: &Filter) -> Result<Vec<Listed>> {
        self.storage.listed(filter)
    }

    pub(super) fn shown(&self, id: i64) -> Result<Shown> {
        self.storage.shown(id, self.claim_timeout)
    }

    /// Whether the next commit takes longer than others.
    pub(super) fn is_long(&self) -> bool {
        self.is_long
    }

    /// How many changes were ever made.
    pub(super) fn changes(&self) -> u64 {
        self.storage.changes()
    }

    /// Commits what calls have changed, or, after an error, none of it.
    pub(super) fn commit(&mut self) -> std::result::Result<(), String> {
        self.is_long = false;
        self.storage.commit()
    }

    pub(super) fn disk(&self) -> &Arc<Disk> {
        self.storage.disk()
    }
}

/// Refuses what could not be handed out again: whatever is in the database can be read, by prismq's client as well.
fn within_limits(field: &str, value: &Value, max_depth: usize) -> Result<()> {
    json::check(value, max_depth).map_err(|error| Refusal::BeyondLimit(format!("Field '{field}' is {error}")))
}

#[cfg(test)]
mod tests;
