//! The rules of the TaskManager: what each call does to types and tasks, and why it refuses.

#[cfg(test)]
mod growth;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
pub(super) use shared::{STEP, SharedQueue, TaskToCreate};

use super::Settings;
use super::error::{Refusal, Result, ServerError};
use super::large::LARGE;
use super::long_poll_queue::LongPollQueue;
use super::memory::{MemoryBudget, MemoryReservation};
use super::params::{NewParams, Schemas};
use super::storage::{
    ClaimOrder, ClaimedTask, Disk, Filter, Json, Listed, NewTask, Overview, Report, Rules, Seconds, Shown,
    SqliteStorage, TaskClaim, TaskDetails, TaskSummary, Time, TypeCounts, TypeDetails, TypeLimit,
};
use crate::json::{self, MAX_BYTES};

/// The most task types: all of them are in one answer, with their schemas.
const MAX_TYPES: i64 = 1_000;

/// What the answer to a claim holds beside the params, in bytes: about, and rather more.
const ENVELOPE: usize = 2048;

/// Time until a claim expires, unless the operator has chosen another.
pub(super) const CLAIM_TIMEOUT: Duration = Duration::from_secs(300);
/// The same for claims that their worker renews.
pub(super) const RENEWED_CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

/// A type that was registered.
#[derive(Serialize)]
pub(super) struct RegisteredType {
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
pub(super) struct CreatedTask {
    pub(super) id: i64,
    #[serde(rename = "type")]
    task_type: String,
    status: String,
    dedupe_key: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) deduplicated: bool,
}

/// A task to create, whose params fit the schema of its type.
pub(super) struct CheckedTask {
    pub(super) task_type: String,
    pub(super) params: NewParams,
    pub(super) priority: i64,
}

/// A claim, as a worker asks for it.
#[derive(Clone)]
pub(super) struct ClaimRequest {
    pub(super) worker_id: String,
    pub(super) types: Vec<TypeLimit>,
    /// Maximum number of tasks; `None` asks for a single one, whose answer is not a list.
    pub(super) limit: Option<usize>,
    pub(super) type_pattern: Option<String>,
    pub(super) order: ClaimOrder,
    /// Whether the worker will renew the claims.
    pub(super) renews: bool,
}

/// Tasks that were claimed, and their share of the memory for answers.
pub(super) struct ClaimedTasks {
    pub(super) tasks: Vec<ClaimedTask>,
    pub(super) reservation: Option<MemoryReservation>,
}

/// The room for claimed tasks in an answer.
struct AnswerRoom<'a> {
    answers: &'a MemoryBudget,
    reservation: Option<MemoryReservation>,
    /// Length of the tasks so far, in bytes.
    length: usize,
    /// Whether the thread that serves makes the answer.
    is_serving: bool,
}

impl AnswerRoom<'_> {
    /// Whether there is room for one more task, with params of that length. There must be for the first.
    fn add(&mut self, length: usize) -> Result<bool> {
        let is_first = self.length == 0;
        let total = self.length + length + ENVELOPE;
        match () {
            () if self.is_serving && (length > LARGE || !is_first && total > LARGE) => Err(Refusal::Large),
            () if !is_first && total > MAX_BYTES => Ok(false),
            () if self.answers.reserve(&mut self.reservation, total) => {
                self.length = total;
                Ok(true)
            }
            () if is_first => Err(Refusal::NoRoom),
            () => Ok(false),
        }
    }
}

/// The types and tasks, and the claims that wait for some.
pub(super) struct Queue {
    storage: SqliteStorage,
    schemas: Schemas,
    /// Time until claims expire, if the operator has chosen it.
    claim_timeout: Option<Duration>,
    max_attempts: u32,
    long_polls: Arc<LongPollQueue>,
    answers: MemoryBudget,
    /// A long text is among the changes that are not committed yet.
    is_long: bool,
}

impl Queue {
    pub(super) fn open(settings: &Settings) -> std::result::Result<Self, ServerError> {
        Ok(Self {
            storage: SqliteStorage::open(&settings.database, settings.claim_timeout.unwrap_or(CLAIM_TIMEOUT))?,
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
    pub(super) fn register(&mut self, name: String, version: String, schema: Value) -> Result<RegisteredType> {
        let (id, is_new) = self.storage.register((&name, &version), &Json(schema), MAX_TYPES)?;
        let how = if is_new { Registration::New { created: true } } else { Registration::Known { updated: true } };
        Ok(RegisteredType { id, name, version, how })
    }

    pub(super) fn task_type(&self, name: &str) -> Result<TypeDetails> {
        self.storage.task_type(name)
    }

    /// About how long the answer is that lists them, in bytes.
    pub(super) fn length_of_types(&self, active_only: bool) -> Result<usize> {
        self.storage.length_of_types(active_only)
    }

    pub(super) fn task_types(&self, active_only: bool) -> Result<Vec<TypeDetails>> {
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
    pub(super) fn create(&mut self, task: CheckedTask) -> Result<CreatedTask> {
        let CheckedTask { task_type, params: NewParams { text, dedupe_key }, priority } = task;
        let type_id = self.rules(&task_type)?.type_id;
        self.is_long |= text.len() > LARGE;
        let task = NewTask { type_id, params: &text, priority, dedupe_key: &dedupe_key };
        let (id, known) = self.storage.create(&task)?;
        let deduplicated = known.is_some();
        if !deduplicated {
            self.long_polls.notify_first_of(type_id);
        }
        let status = known.unwrap_or_else(|| "pending".to_owned());
        Ok(CreatedTask { id, task_type, status, dedupe_key, deduplicated })
    }

    /// Returns the types of a claim that its pattern matches. If there are none, or one is unknown, no task will ever come.
    pub(super) fn admitted(&self, request: &ClaimRequest) -> Result<Vec<TypeLimit>> {
        let mut admitted = Vec::with_capacity(request.types.len());
        for of_type in &request.types {
            match self.admits(request, of_type.type_id) {
                Ok(true) => admitted.push(*of_type),
                Ok(false) => {}
                Err(Refusal::TypeNotFound) if request.limit.is_some() => {
                    return Err(Refusal::UnknownType(of_type.type_id));
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if admitted.is_empty() { Err(Refusal::NoTask) } else { Ok(admitted) }
    }

    /// Whether the pattern of a claim matches that type.
    pub(super) fn admits(&self, request: &ClaimRequest, type_id: i64) -> Result<bool> {
        self.storage.is_like(type_id, request.type_pattern.as_deref())
    }

    /// Hands out tasks of these types: those whose claims have expired, then the pending ones that are first. An expired
    /// claim stands until then, so that a late report is not lost for nothing. Unless `is_serving`, the tasks may be large.
    pub(super) fn claim(
        &mut self,
        request: &ClaimRequest,
        types: &[TypeLimit],
        is_serving: bool,
    ) -> Result<ClaimedTasks> {
        let lasts = self.claim_timeout(request.renews);
        let mut room = AnswerRoom { answers: &self.answers, reservation: None, length: 0, is_serving };
        let claim = TaskClaim {
            worker_id: &request.worker_id,
            types,
            limit: request.limit.unwrap_or(1),
            order: request.order,
            lasts,
        };
        let mut tasks = self.storage.claim(&claim, |length| room.add(length))?;
        for task in tasks.iter_mut().filter(|_| request.renews) {
            task.expires_in = Some(Seconds(lasts));
        }
        // Their rows are written anew, with the params.
        self.is_long |= room.length > LARGE;
        Ok(ClaimedTasks { tasks, reservation: room.reservation })
    }

    /// Time until a claim expires. The default is shorter for a worker that renews it: if it dies, its tasks are handed out
    /// again sooner.
    fn claim_timeout(&self, renews: bool) -> Duration {
        self.claim_timeout.unwrap_or(if renews { RENEWED_CLAIM_TIMEOUT } else { CLAIM_TIMEOUT })
    }

    /// Renews a worker's claim; returns the time until it expires now.
    pub(super) fn renew(&mut self, id: i64, worker_id: &str) -> Result<Duration> {
        let lasts = self.claim_timeout(true);
        self.storage.renew(id, worker_id, lasts)?;
        Ok(lasts)
    }

    /// How long it takes until a claim of that type can expire, be it one that is made from now on.
    pub(super) fn until_expiry(&self, type_id: i64) -> Result<Duration> {
        let shortest = self.claim_timeout(true);
        let first = self.storage.first_expiry(type_id)?;
        Ok(first.map_or(shortest, |expires_at| expires_at.since(Time::now()).min(shortest)))
    }

    pub(super) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        self.storage.progress(id, worker_id, progress)
    }

    /// Ends an attempt; the status the task has now.
    pub(super) fn complete(&mut self, id: i64, worker_id: &str, report: Report) -> Result<&'static str> {
        self.is_long |= report.result.as_ref().is_some_and(|result| result.len() > LARGE);
        let (type_id, status) = self.storage.end(id, worker_id, report, i64::from(self.max_attempts))?;
        if let Some(type_id) = type_id.filter(|_| status == "pending") {
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

    /// Returns the length of the long fields of these tasks, in bytes. Those that do not exist have none.
    pub(super) fn length_of_tasks(&self, ids: &[i64]) -> Result<usize> {
        let mut length = 0;
        for id in ids {
            match self.storage.length_of_task(*id) {
                Ok(of_task) => length += of_task,
                Err(Refusal::TaskNotFound) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(length)
    }

    /// About how long the answer is that shows a task, in bytes.
    pub(super) fn length_of_task(&self, id: i64) -> Result<usize> {
        Ok(self.storage.length_of_task(id)? + ENVELOPE)
    }

    pub(super) fn task(&self, id: i64) -> Result<TaskDetails> {
        self.storage.task(id)
    }

    /// The ids of the tasks that pass `filter`, newest first.
    pub(super) fn task_ids(&self, filter: &Filter) -> Result<Vec<i64>> {
        self.storage.task_ids(filter)
    }

    /// The tasks with these ids that are still there.
    pub(super) fn summaries(&self, ids: &[i64]) -> Result<Vec<TaskSummary>> {
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
        self.storage.shown(id)
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
pub(super) fn within_limits(field: &str, value: &Value, max_depth: usize) -> Result<()> {
    json::check(value, max_depth).map_err(|error| Refusal::BeyondLimit(format!("Field '{field}' is {error}")))
}

#[cfg(test)]
mod tests;
