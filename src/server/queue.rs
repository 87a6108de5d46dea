//! The rules of the TaskManager: what each call changes, and when it is refused.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
pub(super) use shared::{STEP, SharedQueue, TaskToCreate};

use super::Settings;
use super::error::{Refusal, Result, ServerError};
use super::large_calls::LARGE;
use super::long_poll_queue::LongPollQueue;
use super::memory_budget::{MemoryBudget, MemoryReservation};
use super::params::{NewParams, Schemas};
use super::storage::{
    ClaimOrder, ClaimedTask, Disk, Ended, Filter, Json, NewTask, Overview, Report, Seconds, SqliteStorage, TaskClaim,
    TaskDetails, TaskPage, TaskRow, TaskSummary, Time, TypeConstraints, TypeCounts, TypeDetails, TypeLimit,
};
use crate::json::{self, MAX_BYTES};

/// Maximum number of task types: one answer lists them all, with their schemas.
const MAX_TYPES: i64 = 1_000;

/// Upper estimate of an answer's size without params, in bytes.
const ENVELOPE: usize = 2048;

/// Time until a claim expires, unless the operator has chosen another.
pub(super) const CLAIM_TIMEOUT: Duration = Duration::from_secs(300);
/// The same for claims that their worker renews.
pub(super) const RENEWED_CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a registration.
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

/// The answer to a creation: the new task, or the existing one with the same type and params.
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
    /// Upper estimate of the answer with the tasks so far, in bytes.
    length: usize,
    /// Length of the tasks' long fields, in bytes.
    texts: usize,
    /// Whether the serving thread makes the answer.
    is_serving: bool,
}

impl AnswerRoom<'_> {
    /// Reserves room for one more task with params of that length. Returns whether there was room; fails if there is none
    /// for the first task.
    fn add(&mut self, length: usize) -> Result<bool> {
        let is_first = self.length == 0;
        let (total, texts) = (self.length + length + ENVELOPE, self.texts + length);
        // By the texts, not by the estimate: short tasks are cheap, however many.
        if self.is_serving && texts > LARGE {
            Err(Refusal::Large)
        } else if !is_first && total > MAX_BYTES {
            Ok(false)
        } else if self.answers.reserve(&mut self.reservation, total) {
            (self.length, self.texts) = (total, texts);
            Ok(true)
        } else if is_first {
            Err(Refusal::NoRoom)
        } else {
            Ok(false)
        }
    }
}

/// The types, the tasks, and the long polls.
pub(super) struct Queue {
    storage: SqliteStorage,
    schemas: Schemas,
    /// Time until claims expire, if the operator has chosen it.
    claim_timeout: Option<Duration>,
    max_attempts: u32,
    long_polls: Arc<LongPollQueue>,
    answers: MemoryBudget,
    /// Length of the texts among the changes that are not committed yet, in bytes.
    uncommitted: usize,
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
            uncommitted: 0,
        })
    }

    /// Checks that the database answers.
    pub(super) fn check(&self) -> Result<()> {
        self.storage.check()
    }

    /// Stores a type, whose schema must have been compiled.
    pub(super) fn register(&mut self, name: String, version: String, schema: Value) -> Result<RegisteredType> {
        let (id, is_new) = self.storage.register(&name, &version, &Json(schema), MAX_TYPES)?;
        let how = if is_new { Registration::New { created: true } } else { Registration::Known { updated: true } };
        Ok(RegisteredType { id, name, version, how })
    }

    pub(super) fn task_type(&self, name: &str) -> Result<TypeDetails> {
        self.storage.task_type(name)
    }

    /// Returns the total length of the types' schemas, in bytes.
    pub(super) fn length_of_types(&self, active_only: bool) -> Result<usize> {
        self.storage.length_of_types(active_only)
    }

    pub(super) fn task_types(&self, active_only: bool) -> Result<Vec<TypeDetails>> {
        self.storage.task_types(active_only)
    }

    /// Returns the constraints of new tasks; refuses an inactive type.
    fn constraints(&self, task_type: &str) -> Result<TypeConstraints> {
        let constraints = self.storage.constraints(task_type)?;
        if constraints.is_active { Ok(constraints) } else { Err(Refusal::TypeNotActive) }
    }

    /// Returns the schema of a type's params.
    pub(super) fn schema(&self, task_type: &str) -> Result<Value> {
        // It was parsed before it was stored.
        Ok(serde_json::from_str(&self.storage.constraints(task_type)?.schema).unwrap_or_default())
    }

    /// Stores a task. If one with the same type and params exists, returns that one instead.
    pub(super) fn create(&mut self, task: CheckedTask) -> Result<CreatedTask> {
        let CheckedTask { task_type, params: NewParams { text, dedupe_key }, priority } = task;
        let type_id = self.constraints(&task_type)?.type_id;
        self.uncommitted += text.len();
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

    /// Claims tasks of these types: first those whose claims have expired, then pending ones. A late report counts until
    /// its task is claimed again. On the serving thread (`is_serving`), large tasks are refused.
    pub(super) fn claim(
        &mut self,
        request: &ClaimRequest,
        types: &[TypeLimit],
        is_serving: bool,
    ) -> Result<ClaimedTasks> {
        let claim_timeout = self.claim_timeout(request.renews);
        let mut room = AnswerRoom { answers: &self.answers, reservation: None, length: 0, texts: 0, is_serving };
        let claim = TaskClaim {
            worker_id: &request.worker_id,
            types,
            limit: request.limit.unwrap_or(1),
            order: request.order,
            claim_timeout,
        };
        let mut tasks = self.storage.claim(&claim, |length| room.add(length))?;
        for task in tasks.iter_mut().filter(|_| request.renews) {
            task.expires_in = Some(Seconds(claim_timeout));
        }
        // A claim rewrites the row, with its params.
        self.uncommitted += room.texts;
        Ok(ClaimedTasks { tasks, reservation: room.reservation })
    }

    /// Time until a claim expires. The default is shorter for a worker that renews it: if it dies, its tasks are handed out
    /// again sooner.
    fn claim_timeout(&self, renews: bool) -> Duration {
        self.claim_timeout.unwrap_or(if renews { RENEWED_CLAIM_TIMEOUT } else { CLAIM_TIMEOUT })
    }

    /// Renews a worker's claims; returns the time until they expire, or why one was not renewed.
    pub(super) fn renew(&mut self, ids: &[i64], worker_id: &str) -> Result<Vec<Result<Duration>>> {
        let claim_timeout = self.claim_timeout(true);
        let renewed = self.storage.renew(ids, worker_id, claim_timeout)?;
        Ok(renewed.into_iter().map(|renewed| renewed.map(|()| claim_timeout)).collect())
    }

    /// Returns the time until the first claim of that type can expire, including claims made later.
    pub(super) fn until_expiry(&self, type_id: i64) -> Result<Duration> {
        let shortest = self.claim_timeout(true);
        let first = self.storage.first_expiry(type_id)?;
        Ok(first.map_or(shortest, |expires_at| expires_at.since(Time::now()).min(shortest)))
    }

    pub(super) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        self.storage.progress(id, worker_id, progress)
    }

    /// Ends attempts; returns the new status of each task, or why its report was refused.
    pub(super) fn complete(
        &mut self,
        worker_id: &str,
        reports: Vec<(i64, Report)>,
    ) -> Result<Vec<Result<&'static str>>> {
        self.uncommitted +=
            reports.iter().filter_map(|(_, report)| report.result.as_ref()).map(String::len).sum::<usize>();
        let ended = self.storage.end(worker_id, reports, i64::from(self.max_attempts))?;
        for Ended { changed, status } in ended.iter().flatten() {
            if let Some(type_id) = changed.filter(|_| *status == "pending") {
                self.long_polls.notify_first_of(type_id);
            }
        }
        Ok(ended.into_iter().map(|ended| ended.map(|it| it.status)).collect())
    }

    /// Ends an attempt; returns the new status of its task.
    pub(super) fn complete_one(&mut self, worker_id: &str, id: i64, report: Report) -> Result<&'static str> {
        // One report has one outcome.
        self.complete(worker_id, vec![(id, report)])?.pop().unwrap_or(Err(Refusal::TaskNotFound))
    }

    /// Makes a failed task pending again, with a fresh set of attempts.
    pub(super) fn retry(&mut self, id: i64) -> Result<()> {
        let type_id = self.storage.retry(id)?;
        self.long_polls.notify_first_of(type_id);
        Ok(())
    }

    /// Removes tasks that ended before `time`, at most `most`. Returns whether there may be more.
    pub(super) fn remove_ended(&mut self, time: Time, most: usize) -> Result<bool> {
        self.storage.remove_ended(time, most)
    }

    /// Returns the length of the long fields of these tasks, in bytes. Those that do not exist have none.
    pub(super) fn length_of_tasks(&self, ids: &[i64]) -> Result<usize> {
        self.storage.length_of_tasks(ids)
    }

    /// Returns an upper estimate of the length of the answer that shows a task, in bytes.
    pub(super) fn length_of_task(&self, id: i64) -> Result<usize> {
        Ok(self.length_of_tasks(&[id])? + ENVELOPE)
    }

    pub(super) fn task(&self, id: i64) -> Result<TaskDetails> {
        self.storage.task(id)
    }

    /// Returns the ids of the tasks that pass `filter`, newest first.
    pub(super) fn task_ids(&self, filter: &Filter) -> Result<Vec<i64>> {
        self.storage.task_ids(filter)
    }

    /// Returns the tasks with these ids that still exist.
    pub(super) fn summaries(&self, ids: &[i64]) -> Result<Vec<TaskSummary>> {
        self.storage.summaries(ids)
    }

    pub(super) fn overview(&mut self) -> Result<Overview> {
        self.storage.overview(self.long_polls.workers())
    }

    /// Returns each type with the number of its tasks, by name.
    pub(super) fn counts(&mut self) -> Result<Vec<TypeCounts>> {
        self.storage.counts()
    }

    /// Returns the tasks that pass `filter`, newest first, with their errors.
    pub(super) fn listed(&self, filter: &Filter) -> Result<Vec<TaskRow>> {
        self.storage.listed(filter)
    }

    pub(super) fn shown(&self, id: i64) -> Result<TaskPage> {
        self.storage.shown(id)
    }

    /// Whether the next commit writes so much that it should not block the serving thread.
    pub(super) fn has_long_commit(&self) -> bool {
        self.uncommitted > LARGE
    }

    /// Returns the number of changes made so far.
    pub(super) fn changes(&self) -> u64 {
        self.storage.changes()
    }

    /// Commits all changes; after an error, none.
    pub(super) fn commit(&mut self) -> std::result::Result<(), String> {
        self.uncommitted = 0;
        self.storage.commit()
    }

    pub(super) fn disk(&self) -> &Arc<Disk> {
        self.storage.disk()
    }
}

/// Refuses values that exceed the limits of prismq's own client, so that everything stored can be handed out again.
pub(super) fn within_limits(field: &str, value: &Value, max_depth: usize) -> Result<()> {
    json::check(value, max_depth).map_err(|error| Refusal::BeyondLimit(format!("Field '{field}' is {error}")))
}

#[cfg(test)]
mod tests;
