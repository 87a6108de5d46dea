//! The calls.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::http::{Connection, Http, Meter, Method, Request, Wait, Waits};
use super::listing::{Part, TaskFilter};
use super::retry::Tries;
use super::wire::{self, Created, FromWire, Health, Registered, TaskType, TaskView};
use super::{Error, Retries};
use crate::clock::{Clock, Moment, Slept};
use crate::json;
use crate::task::{Task, TaskId};

/// How long an answer may have been on its way, where the server had waited with it.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// Which of the waiting tasks a claim takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one that waits longest.
    OldestFirst,
    /// The one that was created last.
    NewestFirst,
    /// The one with the highest priority. (The published server keeps no priorities: there it is the oldest.)
    HighestPriorityFirst,
}

impl Order {
    fn as_wire(self) -> (&'static str, &'static str) {
        match self {
            Self::OldestFirst => ("created_at", "ASC"),
            Self::NewestFirst => ("created_at", "DESC"),
            Self::HighestPriorityFirst => ("priority", "DESC"),
        }
    }
}

/// The answer to a claim.
#[derive(Debug, PartialEq)]
#[allow(clippy::struct_field_names, reason = "`claimed_at` is the term")]
pub struct Claimed {
    /// The task, where there is one.
    pub task: Option<Task>,
    /// The earliest time at which the claim can have begun.
    pub claimed_at: Moment,
    /// Whether the server waits where it is asked to.
    pub waits: Waits,
}

impl Claimed {
    /// No task.
    pub(crate) fn nothing(asked_at: Moment) -> Self {
        Self { task: None, claimed_at: asked_at, waits: Waits::No }
    }
}

/// A client of one TaskManager. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: Http,
    retries: Retries,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client that tries each call as often as `retries` says. The error is one line for a person: the settings
    /// cannot be used.
    pub fn new(connection: &Connection, retries: Retries, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Self { http: Http::new(connection)?, retries, clock })
    }

    /// The same client, more or less patient.
    #[must_use]
    pub fn with_retries(&self, retries: Retries) -> Self {
        Self { retries, ..self.clone() }
    }

    /// The same client, which obeys a server that asks to be left alone for no longer than `most`.
    #[must_use]
    pub fn with_patience(&self, most: Duration) -> Self {
        self.with_retries(Retries { patience: self.retries.patience.min(most), ..self.retries })
    }

    /// The same client, whose waits end when `clock` says so.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self.clone() }
    }

    /// The same client, of whose requests `meter` hears.
    #[must_use]
    pub fn with_meter(&self, meter: Meter) -> Self {
        Self { http: self.http.with_meter(meter), ..self.clone() }
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.http.url
    }

    /// The same for a person, with the proxy before it.
    pub(crate) fn shown_url(&self) -> &str {
        &self.http.shown_url
    }

    /// `GET /health`, which needs no key.
    pub fn health(&self) -> Result<Health, Error> {
        let keyless = Self { http: self.http.without_key(), ..self.clone() };
        keyless.get("/health").and_then(|data| self.read("GET /health", data))
    }

    /// Whether the key is accepted, by the cheapest call that needs one.
    pub fn check_key(&self) -> Result<(), Error> {
        self.get("/tasks?limit=1").map(|_| ())
    }

    /// Registers a type, or updates the one of that name.
    pub fn register_type(&self, name: &str, version: &str, schema: &Value) -> Result<Registered, Error> {
        let path = "/task-types/register";
        let data = self.post(path, &json!({"name": name, "version": version, "param_schema": schema}))?;
        self.read(&format!("POST {path}"), data)
    }

    /// The type of that name, `None` where the server knows none.
    pub fn task_type(&self, name: &str) -> Result<Option<TaskType>, Error> {
        self.lookup(&format!("/task-types/{}", encode(name)))
    }

    /// All types. The published server cannot do this: [`Error::Refused`] with its words.
    pub fn task_types(&self) -> Result<Vec<TaskType>, Error> {
        self.list("/task-types?active_only=true")
    }

    /// Creates a task, or finds the one of the same type and params. Params are sent with their keys sorted, their
    /// numbers in one form, and without white space, since servers deduplicate by the bytes.
    pub fn create(&self, task_type: &str, params: &Value, priority: Option<i64>) -> Result<Created, Error> {
        let mut body = json!({"type": task_type, "params": params});
        json::canonical(&mut body["params"]);
        if let Some(priority) = priority {
            body["priority"] = json!(priority);
        }
        let data = self.post("/tasks", &body)?;
        wire::created(&data, task_type).map_err(|reason| self.bad_answer("POST /tasks", reason))
    }

    /// Claims a task of a type for `worker_id`; `None` if none is waiting.
    #[cfg(feature = "internals")]
    pub fn claim(&self, worker_id: &str, type_id: u64, order: Order) -> Result<Option<Task>, Error> {
        self.claim_or_wait(worker_id, type_id, order, Wait::default()).map(|claimed| claimed.task)
    }

    /// Claims a task of a type for `worker_id`. Where there is none, a server that can waits for one, and takes one of
    /// the other types as well.
    pub fn claim_or_wait(&self, worker_id: &str, type_id: u64, order: Order, wait: Wait<'_>) -> Result<Claimed, Error> {
        let (sort_by, sort_order) = order.as_wire();
        let body =
            json!({"worker_id": worker_id, "task_type_id": type_id, "sort_by": sort_by, "sort_order": sort_order});
        let last_try = Cell::new((self.clock.moment(), Waits::No));
        let answer = self.retrying(|| {
            let asked_at = self.clock.moment();
            let request = Request { path: wire::CLAIM, method: Method::Post { body: &body, wait } };
            let response = self.http.send(&request)?;
            last_try.set((asked_at, response.waits));
            wire::decode(self.shown_url(), wire::CLAIM, self.http.key(), &response)
        });
        let task = match answer {
            Ok(data) => Some(self.read("POST /tasks/claim", data)?),
            Err(error) if wire::is_empty_queue(&error) => None,
            Err(error) => return Err(error),
        };
        let (asked_at, waits) = last_try.get();
        // Where the server waited for a task, it has answered as soon as there was one.
        let is_late = waits != Waits::No && asked_at.elapsed() > ON_THE_WAY;
        let claimed_at = if is_late { self.clock.moment().earlier(ON_THE_WAY) } else { asked_at };
        Ok(Claimed { task, claimed_at, waits })
    }

    /// Has the claims of `worker_id` that wait at the server answered at once. One that knows nothing of waiting has
    /// none, and says so by an error.
    pub fn withdraw_claims(&self, worker_id: &str) -> Result<(), Error> {
        let path = format!("{}?worker_id={}", wire::CLAIM, encode(worker_id));
        self.once(&path, Method::Delete).map(drop)
    }

    /// Says that a task is `percent` (0 to 100) done. It does not prolong the claim.
    pub fn progress(&self, id: TaskId, worker_id: &str, percent: u8, message: Option<&str>) -> Result<(), Error> {
        let mut body = json!({"worker_id": worker_id, "progress": percent});
        if let Some(message) = message {
            body["message"] = json!(message);
        }
        let path = format!("/tasks/{id}/progress");
        self.acknowledged(&path, &self.post(&path, &body)?)
    }

    /// The task of that number, `None` where the server knows none.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskView>, Error> {
        self.lookup(&format!("/tasks/{id}"))
    }

    /// One part of the list of tasks, as the server answers.
    pub(super) fn list_part(&self, filter: &TaskFilter, part: Part) -> Result<Vec<TaskView>, Error> {
        let mut path = format!("/tasks?limit={}&offset={}", part.limit, part.offset);
        let before = part.before.map(|id| id.to_string());
        for (key, value) in [("status", filter.status.clone()), ("type", filter.like()), ("before", before)] {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(path, "&{key}={}", encode(&value));
            }
        }
        self.list(&path)
    }

    /// `POST /tasks/{id}/complete`, once: sent again it could hit a later attempt. Sees to nothing else.
    pub(super) fn complete_once(&self, id: TaskId, body: &Value) -> Result<(), Error> {
        let path = format!("/tasks/{id}/complete");
        self.acknowledged(&path, &self.once(&path, post(body))?)
    }

    /// A report has only arrived where the answer is about a task: other things answer 200 as well.
    fn acknowledged(&self, path: &str, data: &Value) -> Result<(), Error> {
        wire::acknowledges(data).map_err(|reason| self.bad_answer(&format!("POST {path}"), reason))
    }

    /// How often and how patiently calls are tried.
    pub(crate) fn retries(&self) -> Retries {
        self.retries
    }

    fn lookup<T: FromWire>(&self, path: &str) -> Result<Option<T>, Error> {
        match self.get(path) {
            Ok(data) => wire::single(data).map(|data| self.read(&format!("GET {path}"), data)).transpose(),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list<T: FromWire>(&self, path: &str) -> Result<Vec<T>, Error> {
        let data = self.get(path)?;
        wire::list(data).map_err(|reason| self.bad_answer(&format!("GET {path}"), reason))
    }

    fn read<T: FromWire>(&self, call: &str, data: Value) -> Result<T, Error> {
        T::from_wire(data).map_err(|reason| self.bad_answer(call, reason))
    }

    fn bad_answer(&self, call: &str, reason: String) -> Error {
        Error::BadAnswer { url: self.shown_url().to_owned(), call: call.to_owned(), reason }
    }

    fn get(&self, path: &str) -> Result<Value, Error> {
        self.retrying(|| self.once(path, Method::Get))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.retrying(|| self.once(path, post(body)))
    }

    fn once(&self, path: &str, method: Method<'_>) -> Result<Value, Error> {
        let response = self.http.send(&Request { path, method })?;
        wire::decode(self.shown_url(), path, self.http.key(), &response)
    }

    pub(super) fn retrying<T>(&self, call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        self.retrying_if(Error::is_retryable, call)
    }

    /// The same, where `may_pass` says which errors are worth another try.
    pub(super) fn retrying_if<T>(
        &self,
        may_pass: impl Fn(&Error) -> bool,
        call: impl Fn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = self.retries.start();
        loop {
            match call() {
                Err(error) if may_pass(&error) => self.wait(error, &mut tries)?,
                other => return other,
            }
        }
    }

    /// Waits before the next try after `error`, which comes back where there is none.
    pub(super) fn wait(&self, error: Error, tries: &mut Tries) -> Result<(), Error> {
        let Some(wait) = tries.next(&error) else { return Err(error) };
        let is_long = error.retry_after().is_some() && wait >= Duration::from_secs(1);
        let level = if is_long { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, wait_s = (wait.as_secs_f64() * 1000.0).round() / 1000.0, error:%; "call failed: retrying");
        match self.clock.sleep(wait) {
            Slept::Whole => Ok(()),
            Slept::Interrupted => Err(Error::Interrupted),
        }
    }
}

fn post(body: &Value) -> Method<'_> {
    Method::Post { body, wait: Wait::default() }
}

fn encode(text: &str) -> impl std::fmt::Display {
    const PLAIN: percent_encoding::AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &PLAIN).to_string()
}
