//! The queue, shared by all calls. Slow work, such as checking params, runs without the lock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};
use tokio::time::sleep;

use super::{CheckedTask, ClaimRequest, ClaimedTasks, CreatedTask, Queue, RegisteredType, within_limits};
use crate::json::{self, MAX_DEPTH};
use crate::schema::Schema;
use crate::server::error::{Refusal, Result};
use crate::server::features::OfferedFeatures;
use crate::server::large_calls::{LARGE, LargeCalls};
use crate::server::long_poll_queue::LongPollQueue;
use crate::server::memory_budget::{MemoryBudget, MemoryReservation};
use crate::server::params::{NewParams, ParamsError, SchemaChecker};
use crate::server::storage::{Disk, TaskSummary, TypeLimit};

/// The queue behind a lock, the long polls, and the memory budgets.
#[derive(Clone)]
pub(in crate::server) struct SharedQueue {
    queue: Arc<Mutex<Queue>>,
    checker: Arc<SchemaChecker>,
    pub(in crate::server) long_polls: Arc<LongPollQueue>,
    /// Memory budgets for the bodies of calls and for their answers.
    pub(in crate::server) bodies: MemoryBudget,
    pub(in crate::server) answers: MemoryBudget,
    pub(in crate::server) large: LargeCalls,
    pub(in crate::server) disk: Arc<Disk>,
    pub(in crate::server) features: OfferedFeatures,
}

/// A task to create, as a call asks for it.
pub(in crate::server) struct TaskToCreate {
    pub(in crate::server) task_type: String,
    pub(in crate::server) params: Map<String, Value>,
    pub(in crate::server) priority: i64,
}

/// Number of tasks of a list that are read at once.
pub(in crate::server) const STEP: usize = 500;
/// Pause between two steps, for other calls.
const PAUSE: Duration = Duration::from_millis(1);

impl SharedQueue {
    pub(in crate::server) fn new(queue: Queue, features: OfferedFeatures) -> Self {
        Self {
            features,
            long_polls: Arc::clone(&queue.long_polls),
            checker: Arc::default(),
            bodies: MemoryBudget::default(),
            answers: queue.answers.clone(),
            large: LargeCalls::default(),
            disk: Arc::clone(queue.disk()),
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    pub(in crate::server) async fn register(
        &self,
        name: String,
        version: String,
        schema: Value,
    ) -> Result<RegisteredType> {
        within_limits("param_schema", &schema, MAX_DEPTH)?;
        self.checker.compile(&schema).await.map_err(|error| Refusal::of(error, Refusal::BadSchema))?;
        self.lock().await.register(name, version, schema)
    }

    /// Checks that the params of a task to be created fit the schema of its type.
    pub(in crate::server) async fn check(&self, task: TaskToCreate) -> Result<CheckedTask> {
        let TaskToCreate { task_type, params, priority } = task;
        let mut params = Value::Object(params);
        let schema = self.schema_for(&task_type, &mut params).await?;
        let params = Arc::new(params);
        let checked = self.checker.check(&schema, &params).await;
        checked.map_err(|error| Refusal::of(error, Refusal::BadParams))?;
        let params = NewParams::of(&task_type, &params);
        Ok(CheckedTask { task_type, params, priority })
    }

    /// Stores a task whose params fit the schema of its type.
    pub(in crate::server) async fn create(&self, task: TaskToCreate) -> Result<CreatedTask> {
        let task = self.check(task).await?;
        self.lock().await.create(task)
    }

    /// Claims tasks of these types, large ones in the large-call threads.
    pub(in crate::server) async fn claim(&self, request: &ClaimRequest, types: &[TypeLimit]) -> Result<ClaimedTasks> {
        let claimed = self.lock().await.claim(request, types, true);
        if !matches!(claimed, Err(Refusal::Large)) {
            return claimed;
        }
        let (shared, request, types) = (self.clone(), request.clone(), types.to_vec());
        self.large.run(async move { shared.lock().await.claim(&request, &types, false) }).await
    }

    /// Runs `work` on tasks. Large ones are processed in the large-call threads, since an update rewrites the whole row.
    pub(in crate::server) async fn with_tasks<T: Send + 'static, E: From<Refusal> + Send + 'static>(
        &self,
        ids: &[i64],
        work: impl FnOnce(&mut Queue) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E> {
        let length = {
            let mut queue = self.lock().await;
            let length = queue.length_of_tasks(ids)?;
            if length <= LARGE {
                queue.uncommitted += length;
                return work(&mut queue);
            }
            length
        };
        let shared = self.clone();
        let work = async move {
            let mut queue = shared.lock().await;
            queue.uncommitted += length;
            work(&mut queue)
        };
        self.large.run(work).await
    }

    /// Reserves memory for an answer of `length` bytes.
    pub(in crate::server) fn room_for_answer(&self, length: usize) -> Result<Arc<MemoryReservation>> {
        let mut reservation = None;
        if !self.answers.reserve(&mut reservation, length) {
            return Err(Refusal::NoRoom);
        }
        reservation.map(Arc::new).ok_or(Refusal::NoRoom)
    }

    /// Returns the tasks with these ids that still exist, read in steps.
    pub(in crate::server) async fn tasks(&self, ids: &[i64]) -> Result<Vec<TaskSummary>> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(STEP) {
            if !found.is_empty() {
                sleep(PAUSE).await;
            }
            found.extend(self.lock().await.summaries(some)?);
        }
        Ok(found)
    }

    /// Returns the violations of the type's schema, up to a limit.
    pub(in crate::server) async fn faults(&self, task_type: &str, params: &Map<String, Value>) -> Result<Vec<String>> {
        let mut params = Value::Object(params.clone());
        let schema = self.schema_for(task_type, &mut params).await?;
        let faults = self.checker.faults(&schema, &Arc::new(params)).await;
        faults.map_err(|error| Refusal::of(error, Refusal::BadParams))
    }

    /// Returns the compiled schema of a type. Also checks the limits of `params`, and brings them into canonical form. Does
    /// not lock the queue while it compiles.
    async fn schema_for(&self, task_type: &str, params: &mut Value) -> Result<Arc<Schema>> {
        let (constraints, known) = {
            let queue = self.lock().await;
            let constraints = queue.constraints(task_type)?;
            let known = queue.schemas.get(constraints.type_id, &constraints.schema);
            (constraints, known)
        };
        json::canonical(params);
        within_limits("params", params, MAX_DEPTH)?;
        if let Some(known) = known {
            return Ok(known);
        }
        // It was parsed before it was stored.
        let schema = serde_json::from_str(&constraints.schema).unwrap_or_default();
        let schema = self.checker.compile(&schema).await.map_err(|error| Refusal::of(error, Refusal::BadSchema))?;
        self.lock().await.schemas.insert(constraints.type_id, constraints.schema, Arc::clone(&schema));
        Ok(schema)
    }

    /// Locks the queue if it is not locked.
    pub(in crate::server) fn try_lock(&self) -> Option<MutexGuard<'_, Queue>> {
        self.queue.try_lock().ok()
    }

    /// Locks the queue, in the order of the calls. This does not block the serving thread, which answers other calls. A
    /// call that panics leaves no change behind, so there is no poisoning.
    pub(in crate::server) async fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().await
    }

    /// Locks the queue for use in another thread.
    pub(in crate::server) async fn lock_owned(&self) -> OwnedMutexGuard<Queue> {
        Arc::clone(&self.queue).lock_owned().await
    }
}

impl Refusal {
    fn of(error: ParamsError, wrong: fn(String) -> Self) -> Self {
        match error {
            ParamsError::Invalid(why) => wrong(why),
            ParamsError::Busy(why) => Self::Busy(why),
        }
    }
}
