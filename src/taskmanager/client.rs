//! The calls of the TaskManager's API.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::features::KnownFeatures;
use super::http::{Connection, Http, Meter, Method, Request};
use super::listing::{PageRequest, TaskFilter};
use super::long_poll::{LongPollRequest, LongPollSupport};
use super::retry::RetryState;
use super::wire::{self, FromWire, Health, Registered, TaskTypeView, TaskView};
use super::{Error, Retries};
use crate::clock::{Clock, Moment, Slept};
use crate::task::{Task, TaskId};

/// Maximum time that an answer to a long poll is assumed to take to arrive.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// Which of the pending tasks a claim takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "each reads as the order that it is")]
pub enum Order {
    /// The task that was created first.
    OldestFirst,
    /// The task that was created last.
    NewestFirst,
    /// The task with the highest priority. The published server stores no priorities; it returns the oldest task.
    HighestPriorityFirst,
}

impl Order {
    pub(super) fn as_wire(self) -> (&'static str, &'static str) {
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
    /// The claimed tasks: none if there were none, and at most one unless more were asked for.
    pub tasks: Vec<Task>,
    /// Errors about claimed tasks that cannot be read. They stay claimed.
    pub unreadable: Vec<Error>,
    /// The earliest time at which the claim may have started.
    pub claimed_at: Moment,
    /// How long it lasts unless it is renewed, if the server says so.
    pub expires_in: Option<Duration>,
    /// Whether the server supports long polls.
    pub long_polling: LongPollSupport,
}

impl Claimed {
    pub(crate) fn nothing(asked_at: Moment) -> Self {
        Self {
            tasks: Vec::new(),
            unreadable: Vec::new(),
            claimed_at: asked_at,
            expires_in: None,
            long_polling: LongPollSupport::No,
        }
    }
}

/// A client of one TaskManager. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    pub(super) http: Http,
    retries: Retries,
    clock: Arc<dyn Clock>,
    pub(super) features: KnownFeatures,
}

impl Client {
    /// Creates a client with a retry policy. The error is one line that says what is wrong with the settings.
    pub fn new(connection: &Connection, retries: Retries, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Self { http: Http::new(connection)?, retries, clock, features: KnownFeatures::new() })
    }

    /// Returns this client with another retry policy.
    #[must_use]
    pub fn with_retries(&self, retries: Retries) -> Self {
        Self { retries, ..self.clone() }
    }

    /// Returns this client with at most `most` as its budget for `Retry-After`.
    #[must_use]
    pub fn with_retry_after_budget(&self, most: Duration) -> Self {
        self.with_retries(Retries { retry_after_budget: self.retries.retry_after_budget.min(most), ..self.retries })
    }

    /// Returns this client with a clock whose sleeps can be interrupted.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self.clone() }
    }

    /// Returns this client with a callback for each request.
    #[must_use]
    pub fn with_meter(&self, meter: Meter) -> Self {
        Self { http: self.http.with_meter(meter), ..self.clone() }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.http.url
    }

    /// Returns the base URL for messages, with the proxy if there is one.
    pub(crate) fn shown_url(&self) -> &str {
        &self.http.shown_url
    }

    /// Calls `GET /health`, which needs no key.
    pub fn health(&self) -> Result<Health, Error> {
        let keyless = Self { http: self.http.without_key(), ..self.clone() };
        keyless.get("/health").and_then(|data| self.read("GET /health", data))
    }

    /// Checks the key with the cheapest call that needs one.
    pub fn check_key(&self) -> Result<(), Error> {
        self.get("/tasks?limit=1").map(|_| ())
    }

    /// Registers a type, or updates an existing one.
    pub fn register_type(&self, name: &str, version: &str, schema: &Value) -> Result<Registered, Error> {
        let path = "/task-types/register";
        let data = self.post(path, &json!({"name": name, "version": version, "param_schema": schema}))?;
        self.read(&format!("POST {path}"), data)
    }

    /// Returns the type called `name`, if it exists.
    pub fn task_type(&self, name: &str) -> Result<Option<TaskTypeView>, Error> {
        self.lookup(&format!("/task-types/{}", encode(name)))
    }

    /// Returns all active types. The published server does not support this and answers [`Error::Refused`].
    pub fn task_types(&self) -> Result<Vec<TaskTypeView>, Error> {
        self.list("/task-types?active_only=true")
    }

    /// Claims a task of a type for `worker_id`, if there is one.
    #[cfg(feature = "internals")]
    pub fn claim(&self, worker_id: &str, type_id: u64, order: Order) -> Result<Option<Task>, Error> {
        self.claim_long_poll(worker_id, type_id, order, LongPollRequest::default())
            .map(|mut claimed| claimed.tasks.pop())
    }

    /// Claims a task of a type for `worker_id`. If there is none, a server that supports long polls waits for one, or for
    /// a task of the other types in `wait`.
    pub fn claim_long_poll(
        &self,
        worker_id: &str,
        type_id: u64,
        order: Order,
        wait: LongPollRequest<'_>,
    ) -> Result<Claimed, Error> {
        let (sort_by, sort_order) = order.as_wire();
        let body =
            json!({"worker_id": worker_id, "task_type_id": type_id, "sort_by": sort_by, "sort_order": sort_order});
        let mut claimed = self.send_claim(body, wait, |data| Ok(vec![data]))?;
        match claimed.unreadable.pop() {
            Some(error) => Err(error),
            None => Ok(claimed),
        }
    }

    /// Sends a claim; `read` returns the tasks of the answer, or why each cannot be read.
    pub(super) fn send_claim(
        &self,
        mut body: Value,
        wait: LongPollRequest<'_>,
        read: impl FnOnce(Value) -> Result<Vec<Value>, String>,
    ) -> Result<Claimed, Error> {
        let last_try = Cell::new((self.clock.moment(), LongPollSupport::No));
        if self.known_features().renew {
            body["renews"] = json!(true);
        }
        let answer = self.retrying(|| {
            let asked_at = self.clock.moment();
            let request = Request { path: wire::CLAIM, method: Method::Post { body: &body, wait } };
            let answer = self.http.send(&request).and_then(|response| {
                last_try.set((asked_at, response.long_polling));
                wire::decode(self.shown_url(), wire::CLAIM, self.http.key(), &response)
            });
            self.features.note(&answer);
            answer
        });
        let invalid = |reason| self.invalid_answer("POST /tasks/claim", reason);
        let tasks = match answer {
            Ok(data) => read(data).map_err(invalid)?,
            Err(error) if wire::is_empty_queue(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let (asked_at, long_polling) = last_try.get();
        // A long poll is answered as soon as there is a task.
        let is_late = long_polling != LongPollSupport::No && asked_at.elapsed() > ON_THE_WAY;
        let claimed_at = if is_late { self.clock.moment().earlier(ON_THE_WAY) } else { asked_at };
        let mut claimed = Claimed { long_polling, ..Claimed::nothing(claimed_at) };
        for task in tasks {
            claimed.expires_in = wire::expires_in(&task).or(claimed.expires_in);
            match Task::from_wire(task) {
                Ok(task) => claimed.tasks.push(task),
                Err(reason) => claimed.unreadable.push(invalid(reason)),
            }
        }
        Ok(claimed)
    }

    /// Makes the server answer open long polls of `worker_id` now. A server without long polls answers with an error.
    pub fn withdraw_claims(&self, worker_id: &str) -> Result<(), Error> {
        let path = format!("{}?worker_id={}", wire::CLAIM, encode(worker_id));
        self.once(&path, Method::Delete).map(drop)
    }

    /// Reports that a task is `percent` (0 to 100) done. This does not extend the claim.
    pub fn progress(&self, id: TaskId, worker_id: &str, percent: u8, message: Option<&str>) -> Result<(), Error> {
        let mut body = json!({"worker_id": worker_id, "progress": percent});
        if let Some(message) = message {
            body["message"] = json!(message);
        }
        let path = format!("/tasks/{id}/progress");
        self.acknowledged(&path, &self.post(&path, &body)?)
    }

    /// Returns a task, if it exists.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskView>, Error> {
        self.lookup(&format!("/tasks/{id}"))
    }

    /// Returns one page of the list of tasks, unfiltered.
    pub(super) fn list_part(&self, filter: &TaskFilter, part: PageRequest) -> Result<Vec<TaskView>, Error> {
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

    /// Calls `POST /tasks/{id}/complete` without retries, since a repetition could complete a later attempt.
    pub(super) fn complete_once(&self, id: TaskId, body: &Value) -> Result<(), Error> {
        let path = format!("/tasks/{id}/complete");
        self.acknowledged(&path, &self.once(&path, post(body))?)
    }

    /// Checks that an answer is about a task: a proxy may answer 200 as well.
    fn acknowledged(&self, path: &str, data: &Value) -> Result<(), Error> {
        wire::check_acknowledgement(data).map_err(|reason| self.invalid_answer(&format!("POST {path}"), reason))
    }

    /// Returns the retry policy.
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
        wire::list(data).map_err(|reason| self.invalid_answer(&format!("GET {path}"), reason))
    }

    fn read<T: FromWire>(&self, call: &str, data: Value) -> Result<T, Error> {
        T::from_wire(data).map_err(|reason| self.invalid_answer(call, reason))
    }

    pub(super) fn invalid_answer(&self, call: &str, reason: String) -> Error {
        Error::InvalidAnswer { url: self.shown_url().to_owned(), call: call.to_owned(), reason }
    }

    fn get(&self, path: &str) -> Result<Value, Error> {
        self.retrying(|| self.once(path, Method::Get))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.retrying(|| self.once(path, post(body)))
    }

    pub(super) fn once(&self, path: &str, method: Method<'_>) -> Result<Value, Error> {
        let response = self.http.send(&Request { path, method });
        let answer = response.and_then(|it| wire::decode(self.shown_url(), path, self.http.key(), &it));
        self.features.note(&answer);
        answer
    }

    pub(super) fn retrying<T>(&self, call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        self.retrying_if(Error::is_retryable, call)
    }

    /// Retries `call` while `is_transient` returns true for its error.
    pub(super) fn retrying_if<T>(
        &self,
        is_transient: impl Fn(&Error) -> bool,
        call: impl Fn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retry_state = self.retries.start();
        loop {
            match call() {
                Err(error) if is_transient(&error) => self.wait(error, &mut retry_state)?,
                other => return other,
            }
        }
    }

    /// Waits before the next try. Returns `error` if there are no tries left.
    pub(super) fn wait(&self, error: Error, retry_state: &mut RetryState) -> Result<(), Error> {
        let Some(wait) = retry_state.next(&error) else { return Err(error) };
        let is_long = error.retry_after().is_some() && wait >= Duration::from_secs(1);
        let level = if is_long { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, wait_s = (wait.as_secs_f64() * 1000.0).round() / 1000.0, error:%; "call failed: retrying");
        match self.clock.sleep(wait) {
            Slept::Whole => Ok(()),
            Slept::Interrupted => Err(Error::Interrupted),
        }
    }
}

pub(super) fn post(body: &Value) -> Method<'_> {
    Method::Post { body, wait: LongPollRequest::default() }
}

fn encode(text: &str) -> impl std::fmt::Display {
    const PLAIN: percent_encoding::AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &PLAIN).to_string()
}
