//! Tasks, claims, and outcomes of attempts.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::clock::Moment;

/// The TaskManager's id of a task.
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

/// A claimed task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Task {
    /// The id of the task.
    pub id: TaskId,
    /// The name of its type, such as `PrismQ.YouTube.Video.Search`.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The params, normally a JSON object.
    pub params: Value,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Higher is claimed first, depending on the strategy.
    pub priority: i64,
}

/// The claim of a task by a worker. It serialises as `prismq claim` prints it.
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

/// The type of a failure. Each has a name in the envelope and a default for whether it is retryable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorType {
    /// The params are invalid.
    Validation,
    /// A service that the handler needs is unavailable.
    Connection,
    /// Another temporary problem.
    Temporary,
    /// The handler is misconfigured.
    Configuration,
    /// The handler failed in some other way.
    Handler,
    /// The handler was killed by a signal.
    Crash,
    /// The handler timed out.
    Timeout,
    /// The worker was stopped.
    Shutdown,
    /// The worker could not run the task, for example because its machine could not start the handler. Says nothing about the
    /// task.
    Worker,
    /// A name chosen by the handler.
    Other(String),
}

impl ErrorType {
    /// The task was claimed more often than `max_attempts` allows, and is not run.
    pub(crate) const MAX_ATTEMPTS: &str = "max_attempts";
    /// Workers died while they ran the task, and it is not run again.
    pub(crate) const WORKER_DIED: &str = "worker_died";
    /// The task was cancelled, or its claim was lost, while it ran.
    pub(crate) const CLAIM_LOST: &str = "claim_lost";

    /// Returns the name in the envelope.
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

    /// Whether failures of this type are retryable by default.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection | Self::Temporary | Self::Crash | Self::Timeout | Self::Shutdown | Self::Worker)
    }
}

/// Parses a name from a handler. `worker` is reserved for the worker and becomes [`ErrorType::Other`].
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

/// Key in the metadata of an attempt that was failed without running it.
pub(crate) const NOT_RUN: &str = "not_run";

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// `None` if it succeeded.
    pub failure: Option<Failure>,
    /// The result data; null if the handler printed nothing.
    pub data: Value,
    /// A message from the handler.
    pub message: Option<String>,
    /// Additional data from the handler.
    pub metadata: Map<String, Value>,
    /// Until when the handler snoozes this type.
    pub not_before: Option<Timestamp>,
    /// The end of the handler's standard error, unless the failure contains it. It is stored in the results file, but not
    /// reported.
    pub stderr_tail: String,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The error message.
    pub error: String,
    /// The type of the error.
    pub error_type: ErrorType,
    /// Whether a retry may succeed.
    pub retryable: bool,
}

impl Outcome {
    /// Creates a success with `data`.
    #[must_use]
    pub fn success(data: Value) -> Self {
        Self { failure: None, data, message: None, metadata: Map::new(), not_before: None, stderr_tail: String::new() }
    }

    /// A failure, retryable as its type says.
    #[must_use]
    pub fn failure(error_type: ErrorType, error: impl Into<String>) -> Self {
        Failure::new(error_type, error).into()
    }

    /// Creates the outcome of an attempt that was not run: an earlier one had this failure, or the worker could not run it.
    #[must_use]
    pub fn not_run(failure: Failure) -> Self {
        Self { metadata: Map::from_iter([(NOT_RUN.to_owned(), Value::Bool(true))]), ..failure.into() }
    }

    /// Whether it was failed without running it. Such an attempt does not count in statistics.
    #[must_use]
    pub fn is_not_run(&self) -> bool {
        self.failure.is_some() && self.metadata.get(NOT_RUN) == Some(&Value::Bool(true))
    }

    /// Whether it failed and a retry may succeed.
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

/// The result of an attempt, as it is stored and reported.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// The task's id.
    pub task_id: TaskId,
    /// The name of its type.
    pub task_type: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker_id: String,
    /// The base URL of its TaskManager.
    pub api_url: String,
    /// The params that the handler got.
    pub params: Value,
    /// The outcome.
    pub outcome: Outcome,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When the handler started.
    pub started_at: Timestamp,
    /// When it ended: the start plus the measured duration, even if the clock was set meanwhile.
    pub finished_at: Timestamp,
}

impl TaskResult {
    /// Creates the result of the attempt for `claim`.
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

    /// Returns the duration in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> i64 {
        (self.finished_at.as_millisecond() - self.started_at.as_millisecond()).max(0)
    }

    /// Returns the envelope: the complete result as it is reported.
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

/// Converts milliseconds to seconds. Durations are far below 2^53 ms, so this is exact.
#[allow(clippy::cast_precision_loss)]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Returns the index of a task type among `names`: an exact match, else one that differs in case, since servers may ignore
/// case.
pub(crate) fn position_of_type<'a>(names: impl Iterator<Item = &'a str> + Clone, task_type: &str) -> Option<usize> {
    let exact = names.clone().position(|name| name == task_type);
    exact.or_else(move || { names }.position(|name| name.eq_ignore_ascii_case(task_type)))
}
