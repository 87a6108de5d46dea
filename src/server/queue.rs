//! The rules of the TaskManager: what each call does to types and tasks, and why it refuses.

mod look;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use look::{Excerpt, Listed, Overview, Seen, Shown, TypeCounts};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Settings;
use super::attempts::{self, Fate};
use super::database::{self, Json, Time};
use super::error::ServerError;
use super::params::{self, Schemas};
use super::tally::Tally;
use super::tasks::{self, Claimed, Ending, Filter, NewTask, Order, State, Summary, Task};
use super::types::{self, TaskType};
use super::waits::Waits;

/// How long a removal of several tasks may hold up calls. Not all are alike: one with a long result takes longer.
const LONGEST_REMOVAL: Duration = Duration::from_millis(5);

/// Why a call was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    TypeNotFound,
    TypeNotActive,
    /// The schema is no JSON Schema; why not.
    BadSchema(String),
    /// The params break the schema; where and how.
    BadParams(String),
    NoTask,
    TaskNotFound,
    NotClaimed,
    ClaimedByAnother,
    NotFailed,
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

type Result<T> = std::result::Result<T, Refusal>;

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
    pub(super) result: Option<Value>,
    pub(super) error: Option<String>,
}

/// The queue, lent to one call at a time, and the claims that wait for it.
#[derive(Clone)]
pub(super) struct Shared {
    queue: Arc<Mutex<Queue>>,
    pub(super) waits: Arc<Waits>,
}

impl Shared {
    pub(super) fn new(queue: Queue) -> Self {
        Self { waits: Arc::clone(&queue.waits), queue: Arc::new(Mutex::new(queue)) }
    }

    /// A call that panicked has left no transaction open, so the next may go on.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The types and tasks in one database file.
pub(super) struct Queue {
    connection: Connection,
    schemas: Schemas,
    claim_timeout: Duration,
    max_attempts: u32,
    waits: Arc<Waits>,
    tally: Tally,
}

impl Queue {
    pub(super) fn open(settings: &Settings) -> std::result::Result<Self, ServerError> {
        Ok(Self {
            connection: database::open(&settings.database)?,
            schemas: Schemas::default(),
            claim_timeout: settings.claim_timeout,
            max_attempts: settings.max_attempts,
            waits: Arc::default(),
            tally: Tally::default(),
        })
    }

    /// Whether the database answers.
    pub(super) fn check(&self) -> Result<()> {
        types::rules(&self.connection, "")?;
        Ok(())
    }

    pub(super) fn register(&mut self, name: String, version: String, schema: Value) -> Result<Registered> {
        params::compile(&schema).map_err(Refusal::BadSchema)?;
        let transaction = self.transaction()?;
        let (id, is_new) = types::store(&transaction, &name, &version, &Json(schema))?;
        transaction.commit()?;
        let how = if is_new { Registration::New { created: true } } else { Registration::Known { updated: true } };
        Ok(Registered { id, name, version, how })
    }

    pub(super) fn task_type(&self, name: &str) -> Result<TaskType> {
        types::by_name(&self.connection, name)?.ok_or(Refusal::TypeNotFound)
    }

    pub(super) fn task_types(&self, active_only: bool) -> Result<Vec<TaskType>> {
        Ok(types::list(&self.connection, active_only)?)
    }

    /// Stores a task, unless its like was ever stored: then that is the task.
    pub(super) fn create(&mut self, task_type: String, params: Map<String, Value>, priority: i64) -> Result<Created> {
        let rules = types::rules(&self.connection, &task_type)?.ok_or(Refusal::TypeNotFound)?;
        if !rules.is_active {
            return Err(Refusal::TypeNotActive);
        }
        let params = Value::Object(params);
        self.schemas.check(rules.type_id, &rules.schema, &params).map_err(Refusal::BadParams)?;
        let params = params.to_string();
        let dedupe_key = params::dedupe_key(&task_type, &params);
        let task = NewTask { type_id: rules.type_id, params: &params, priority, dedupe_key: &dedupe_key };
        let transaction = self.transaction()?;
        if let Some(id) = tasks::insert(&transaction, &task)? {
            transaction.commit()?;
            self.tally.moved(rules.type_id, None, Some("pending"));
            self.waits.tell(rules.type_id);
            return Ok(Created { id, task_type, status: "pending".to_owned(), dedupe_key, deduplicated: false });
        }
        let (id, status) = tasks::by_key(&transaction, &dedupe_key)?;
        Ok(Created { id, task_type, status, dedupe_key, deduplicated: true })
    }

    /// Refuses a claim that no task will ever be there for: of a type that is unknown, or not like the pattern.
    pub(super) fn admit(&self, request: &ClaimRequest, type_id: i64) -> Result<()> {
        let is_like = types::is_like(&self.connection, type_id, request.type_pattern.as_deref())?;
        if is_like.ok_or(Refusal::TypeNotFound)? { Ok(()) } else { Err(Refusal::NoTask) }
    }

    /// Hands out a task of a type, be it the request's own or another: one whose claim has run out, else the pending one
    /// that is first. The claim that ran out stands until then, so that a late report is not lost for nothing.
    pub(super) fn claim(&mut self, request: &ClaimRequest, type_id: i64) -> Result<Claimed> {
        let expired = Time::now().earlier_by(self.claim_timeout);
        self.admit(request, type_id)?;
        let transaction = self.transaction()?;
        let expired = tasks::expired(&transaction, type_id, expired)?;
        let id = match expired {
            Some(id) => id,
            None => tasks::next(&transaction, type_id, request.order)?.ok_or(Refusal::NoTask)?,
        };
        if expired.is_some() {
            attempts::keep(&transaction, id, Fate::Expired, None)?;
        }
        let claimed = tasks::claim(&transaction, id, &request.worker_id)?;
        transaction.commit()?;
        if expired.is_none() {
            self.tally.moved(type_id, Some("pending"), Some("claimed"));
        }
        Ok(claimed)
    }

    /// How long it takes until a claim of that type can run out, be it one that is made from now on.
    pub(super) fn until_expiry(&self, type_id: i64) -> Result<Duration> {
        let oldest = tasks::oldest_claim(&self.connection, type_id)?;
        let age = oldest.map_or(Duration::ZERO, |claimed_at| Time::now().since(claimed_at));
        Ok(self.claim_timeout.saturating_sub(age))
    }

    pub(super) fn progress(&mut self, id: i64, worker_id: &str, progress: i64) -> Result<()> {
        let transaction = self.transaction()?;
        held_by(&transaction, id, worker_id)?;
        tasks::set_progress(&transaction, id, progress)?;
        Ok(transaction.commit()?)
    }

    /// Ends an attempt; the status the task has now.
    pub(super) fn complete(&mut self, id: i64, report: Report) -> Result<&'static str> {
        let max_attempts = i64::from(self.max_attempts);
        let transaction = self.transaction()?;
        let task = held_by(&transaction, id, &report.worker_id)?;
        let status = match report.success {
            true => "completed",
            false if task.attempts < max_attempts => "pending",
            false => "failed",
        };
        let error_message = report.error.filter(|_| !report.success);
        if status == "pending" {
            attempts::keep(&transaction, id, Fate::Failed, error_message.as_deref())?;
        }
        tasks::end(&transaction, id, &Ending { status, result: report.result.map(Json), error_message })?;
        transaction.commit()?;
        self.tally.moved(task.type_id, Some("claimed"), Some(status));
        if status == "pending" {
            self.waits.tell(task.type_id);
        }
        Ok(status)
    }

    /// Puts a task back that has failed, to be tried as often as a new one. What it failed with is kept.
    pub(super) fn put_back(&mut self, id: i64) -> Result<()> {
        let transaction = self.transaction()?;
        let task = tasks::state(&transaction, id)?.ok_or(Refusal::TaskNotFound)?;
        if task.status != "failed" {
            return Err(Refusal::NotFailed);
        }
        let error = tasks::error_message(&transaction, id)?;
        attempts::keep(&transaction, id, Fate::PutBack, error.as_deref())?;
        tasks::put_back(&transaction, id)?;
        transaction.commit()?;
        self.tally.moved(task.type_id, Some("failed"), Some("pending"));
        self.waits.tell(task.type_id);
        Ok(())
    }

    /// Removes tasks that ended before `time`, the oldest first: `most`, or as many as there is time for. Whether there
    /// may be more.
    pub(super) fn remove_ended(&mut self, time: Time, most: usize) -> Result<bool> {
        let start = Instant::now();
        let transaction = self.transaction()?;
        let (mut more, mut removed) = (true, Vec::new());
        while more && removed.len() < most && start.elapsed() <= LONGEST_REMOVAL {
            let ended = tasks::remove_ended(&transaction, time)?;
            more = ended.is_some();
            if let Some((id, type_id, status)) = ended {
                attempts::remove(&transaction, id)?;
                removed.push((type_id, status));
            }
        }
        transaction.commit()?;
        for (type_id, status) in removed {
            self.tally.moved(type_id, Some(&status), None);
        }
        Ok(more)
    }

    pub(super) fn task(&self, id: i64) -> Result<Task> {
        tasks::by_id(&self.connection, id)?.ok_or(Refusal::TaskNotFound)
    }

    pub(super) fn tasks(&self, filter: &Filter) -> Result<Vec<Summary>> {
        Ok(tasks::list(&self.connection, filter)?)
    }

    /// A transaction that has the file to itself from its start: what it reads still holds when it writes.
    fn transaction(&mut self) -> Result<Transaction<'_>> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

#[cfg(test)]
impl Queue {
    /// Calls `step` at each step that SQLite takes.
    pub(super) fn on_step(&mut self, mut step: impl FnMut() + Send + 'static) {
        let go_on = move || {
            step();
            false
        };
        self.connection.progress_handler(1, Some(go_on)).unwrap();
    }

    /// From now on, every claim has run out.
    pub(super) fn expire_claims(&mut self) {
        self.claim_timeout = Duration::ZERO;
    }
}

/// The task, where `worker_id` holds it.
fn held_by(transaction: &Transaction<'_>, id: i64, worker_id: &str) -> Result<State> {
    let task = tasks::state(transaction, id)?.ok_or(Refusal::TaskNotFound)?;
    if task.status != "claimed" {
        return Err(Refusal::NotClaimed);
    }
    if task.claimed_by.as_deref() != Some(worker_id) {
        return Err(Refusal::ClaimedByAnother);
    }
    Ok(task)
}
