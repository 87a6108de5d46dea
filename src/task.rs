//! The domain: a task, its claim by a worker, and the outcome of an attempt.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::clock::Moment;

/// The number by which the TaskManager knows a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| format!("a task ID is a whole number, not {text:?}"))
    }
}

/// A task as a claim hands it out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Task {
    /// The number by which the TaskManager knows it.
    pub id: TaskId,
    /// The name of its type, such as `PrismQ.YouTube.Video.Search`.
    #[serde(rename = "type")]
    pub task_type: String,
    /// A JSON object, unless whoever created the task broke the rules.
    pub params: Value,
    /// How often it has been handed out, this time included: from 1.
    pub attempt: u32,
    /// Higher goes first, where the strategy asks for it.
    pub priority: i64,
}

/// A task while a worker holds it. It serialises as `prismq claim` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// The claimed task.
    #[serde(flatten)]
    pub task: Task,
    /// The ID of the worker that claimed it.
    pub worker_id: String,
    /// When the claim was requested, by this machine's clock.
    pub claimed_at: Timestamp,
    /// When the attempt times out: `claimed_at` plus the time-out of the type.
    pub deadline: Moment,
}

/// What a failure was about. Each has a name in the envelope and a rule on whether trying again may help.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorType {
    /// The params are wrong.
    Validation,
    /// A service the handler needs is unavailable.
    Connection,
    /// Trying again may help, for a reason only the handler knows.
    Temporary,
    /// The handler is misconfigured.
    Configuration,
    /// The handler failed in some other way.
    Handler,
    /// A signal ended the handler.
    Crash,
    /// The handler ran out of time.
    Timeout,
    /// The worker was asked to end.
    Shutdown,
    /// The worker could not do its part: its machine had nothing left to start the handler with, say. Nothing is known of
    /// the task.
    Worker,
    /// A name of the handler's own.
    Other(String),
}

impl ErrorType {
    /// The name in the envelope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Validation => "validation",
            Self::Connection => "connection",
            Self::Temporary => "temporary",
            Self::Configuration => "configuration",
            Self::Handler => "handler",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Worker => "worker",
            Self::Other(name) => name,
        }
    }

    /// Whether a failure of this type may be tried again where the handler does not say.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection | Self::Temporary | Self::Crash | Self::Timeout | Self::Shutdown | Self::Worker)
    }
}

/// By its name. [`ErrorType::Worker`] is not a handler's to say: from one, that is a name of its own.
impl From<&str> for ErrorType {
    fn from(name: &str) -> Self {
        match name {
            "validation" => Self::Validation,
            "connection" => Self::Connection,
            "temporary" => Self::Temporary,
            "configuration" => Self::Configuration,
            "handler" => Self::Handler,
            "crash" => Self::Crash,
            "timeout" => Self::Timeout,
            "shutdown" => Self::Shutdown,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// In the metadata of an attempt that was not run: a failure from memory, or the worker's own.
pub(crate) const NOT_RUN: &str = "not_run";

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// `None` where it succeeded.
    pub failure: Option<Failure>,
    /// What the handler made of the task; null where it printed nothing.
    pub data: Value,
    /// The handler's own words on it.
    pub message: Option<String>,
    /// What the handler wants kept beside it.
    pub metadata: Map<String, Value>,
    /// Until when the handler wants no more tasks of this type.
    pub not_before: Option<Timestamp>,
    /// What the handler printed last on its standard error, where the failure does not say it already. It is kept in
    /// the results file; the TaskManager is not told.
    pub last_words: String,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// One line for a person.
    pub error: String,
    /// What it was about.
    pub error_type: ErrorType,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Outcome {
    /// A success with `data`.
    #[must_use]
    pub fn success(data: Value) -> Self {
        Self { failure: None, data, message: None, metadata: Map::new(), not_before: None, last_words: String::new() }
    }

    /// A failure, retryable as its type says.
    #[must_use]
    pub fn failure(error_type: ErrorType, error: impl Into<String>) -> Self {
        Failure::new(error_type, error).into()
    }

    /// That of an attempt which was not run: an earlier one ended with this failure, or the worker could not run it.
    #[must_use]
    pub fn not_run(failure: Failure) -> Self {
        Self { metadata: Map::from_iter([(NOT_RUN.to_owned(), Value::Bool(true))]), ..failure.into() }
    }

    /// Whether it was failed without a run. Such an attempt is no news of the handler, and counts in no figure.
    #[must_use]
    pub fn is_not_run(&self) -> bool {
        self.failure.is_some() && self.metadata.get(NOT_RUN) == Some(&Value::Bool(true))
    }

    /// Whether it failed in a way that trying again may mend.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.retryable)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::success(Value::Null) }
    }
}

impl From<Result<Value, Failure>> for Outcome {
    fn from(result: Result<Value, Failure>) -> Self {
        result.map_or_else(Self::from, Self::success)
    }
}

impl Failure {
    /// A failure, retryable as its type says.
    #[must_use]
    pub fn new(error_type: ErrorType, error: impl Into<String>) -> Self {
        let retryable = error_type.is_retryable();
        Self { error: error.into(), error_type, retryable }
    }
}

/// One attempt at one task, ended: what the results file keeps and the TaskManager is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// The task's number.
    pub task_id: TaskId,
    /// The name of its type.
    pub task_type: String,
    /// Which handing out of the task this was: from 1.
    pub attempt: u32,
    /// Who worked it.
    pub worker_id: String,
    /// The TaskManager it came from.
    pub api_url: String,
    /// Its params, as the handler got them.
    pub params: Value,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When work on it started.
    pub started_at: Timestamp,
    /// When work on it ended: its start and what it took, also where the clock was set meanwhile.
    pub finished_at: Timestamp,
}

impl TaskResult {
    /// How the attempt that `claim` was for ended.
    #[must_use]
    pub fn new(claim: Claim, outcome: Outcome, api_url: &str, started_at: Timestamp, finished_at: Timestamp) -> Self {
        let Claim { task, worker_id, claimed_at, .. } = claim;
        Self {
            task_id: task.id,
            task_type: task.task_type,
            attempt: task.attempt,
            worker_id,
            api_url: api_url.to_owned(),
            params: task.params,
            outcome,
            claimed_at,
            started_at,
            finished_at,
        }
    }

    /// From the start of the work to its end, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> i64 {
        (self.finished_at.as_millisecond() - self.started_at.as_millisecond()).max(0)
    }

    /// The envelope: the result as the TaskManager keeps it, whole.
    #[must_use]
    pub fn envelope(&self) -> Value {
        let Outcome { failure, data, message, metadata, .. } = &self.outcome;
        let mut metadata = metadata.clone();
        metadata.insert("worker_id".into(), json!(self.worker_id));
        let mut envelope = Map::from_iter([("success".to_owned(), json!(failure.is_none()))]);
        if let Some(failure) = failure {
            metadata.insert("failed_at".into(), json!(self.finished_at));
            envelope.insert("error".into(), json!(failure.error));
            envelope.insert("error_type".into(), json!(failure.error_type));
            envelope.insert("retryable".into(), json!(failure.retryable));
        } else {
            metadata.insert("processed_at".into(), json!(self.finished_at));
            metadata.insert("processing_time".into(), json!(seconds(self.duration_ms())));
        }
        if failure.is_none() || !data.is_null() {
            envelope.insert("data".into(), data.clone());
        }
        if let Some(message) = message {
            envelope.insert("message".into(), json!(message));
        }
        envelope.insert("metadata".into(), Value::Object(metadata));
        Value::Object(envelope)
    }
}

impl Serialize for ErrorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Milliseconds as seconds. A task's duration is far below 2^53 ms, so nothing is lost.
#[allow(clippy::cast_precision_loss)]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Where a task's type is among these names: the same to the letter, else one in another case, which a server may take for
/// the same.
pub(crate) fn position_of_type<'a>(names: impl Iterator<Item = &'a str> + Clone, task_type: &str) -> Option<usize> {
    let exact = names.clone().position(|name| name == task_type);
    exact.or_else(move || { names }.position(|name| name.eq_ignore_ascii_case(task_type)))
}
