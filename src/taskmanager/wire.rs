//! Encoding of requests and answers; the only module that knows how servers differ: in envelopes, ids, lists, and how they
//! report that something does not exist.

mod envelope;
mod fit;
mod schema;
mod values;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub(super) use envelope::{CLAIM, decode, entry_error, is_empty_queue};
pub(crate) use fit::{Fitted, LIMITS, Limit, error_within_limit, fit, json_bytes};

use self::values::{attempts, integer, number, object, optional_text, take, text};
use super::Features;
use crate::task::{Task, TaskId};

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `healthy`, or an error state.
    pub status: String,
    /// `connected`, or an error state.
    pub database: String,
    /// What the server can do beyond the documented API.
    #[serde(skip)]
    pub features: Features,
}

/// A task type of the TaskManager.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskTypeView {
    /// The id used in claims.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The version, such as `1.0.0`.
    pub version: String,
    /// The JSON Schema of its params.
    pub param_schema: Value,
    /// Whether tasks of this type can be created.
    pub is_active: bool,
}

/// The answer to a registration of a task type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// False if an existing type was updated.
    pub created: bool,
}

/// The answer to the creation of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Its number.
    pub id: TaskId,
    /// The name of its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `pending` if it is new.
    pub status: String,
    /// Whether a task with the same type and params existed already.
    pub deduplicated: bool,
}

/// A task as the TaskManager shows it. Times are as the server sends them, without a time zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskView {
    /// Its number.
    pub id: TaskId,
    /// The name of its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `pending`, `claimed`, `completed` or `failed`.
    pub status: String,
    /// Absent if the server lists tasks without params.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// Absent if the server lists tasks without results; null if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The text of its last failure.
    pub error_message: Option<String>,
    /// Higher is claimed first.
    pub priority: i64,
    /// 0 to 100.
    pub progress: i64,
    /// How often it was claimed.
    pub attempts: u32,
    /// The worker that claimed it last.
    pub claimed_by: Option<String>,
    /// When it was claimed last.
    pub claimed_at: Option<String>,
    /// When it completed or failed.
    pub completed_at: Option<String>,
    /// When it was created.
    pub created_at: Option<String>,
}

impl TaskView {
    /// Whether the task is claimed by `worker_id` now.
    #[must_use]
    pub fn is_claimed_by(&self, worker_id: &str) -> bool {
        self.status == "claimed" && self.claimed_by.as_deref() == Some(worker_id)
    }

    /// Converts it to the task that its claim returned.
    #[must_use]
    pub fn into_task(self) -> Task {
        Task {
            id: self.id,
            task_type: self.task_type,
            params: self.params.unwrap_or_default(),
            attempt: self.attempts,
            priority: self.priority,
        }
    }
}

/// Converts a decoded answer to a typed value. Large parts are moved. The error is one line.
pub(super) trait FromWire: Sized {
    fn from_wire(data: Value) -> Result<Self, String>;
}

impl FromWire for Health {
    fn from_wire(data: Value) -> Result<Self, String> {
        let features = Features::of(data["features"].as_array().into_iter().flatten().filter_map(Value::as_str));
        let database = optional_text(&data, "database").unwrap_or_default();
        Ok(Self { status: text(&data, "status")?, database, features })
    }
}

impl FromWire for TaskTypeView {
    fn from_wire(mut data: Value) -> Result<Self, String> {
        let mut param_schema = take(&mut data, "param_schema").unwrap_or_default();
        schema::repair(&mut param_schema);
        Ok(Self {
            id: number(&data, "id")?,
            name: text(&data, "name")?,
            version: optional_text(&data, "version").unwrap_or_default(),
            param_schema,
            is_active: data["is_active"].as_bool().unwrap_or(integer(&data["is_active"]) != Some(0)),
        })
    }
}

impl FromWire for Registered {
    fn from_wire(data: Value) -> Result<Self, String> {
        Ok(Self {
            id: number(&data, "id")?,
            name: text(&data, "name")?,
            version: text(&data, "version")?,
            created: data["created"].as_bool().unwrap_or(false),
        })
    }
}

/// Converts the answer to a creation. The published server omits the type if the task existed already.
pub(super) fn created(data: &Value, task_type: &str) -> Result<Created, String> {
    Ok(Created {
        id: TaskId(number(data, "id")?),
        task_type: task_type.to_owned(),
        status: text(data, "status")?,
        deduplicated: [&data["deduplicated"], &data["duplicate"]].contains(&&json!(true)),
    })
}

impl FromWire for Task {
    fn from_wire(mut data: Value) -> Result<Self, String> {
        Ok(Self {
            id: TaskId(number(&data, "id")?),
            task_type: text(&data, "type")?,
            params: object(take(&mut data, "params").unwrap_or_default()),
            attempt: attempts(&data)?,
            priority: integer(&data["priority"]).unwrap_or(0),
        })
    }
}

impl FromWire for TaskView {
    fn from_wire(mut data: Value) -> Result<Self, String> {
        let params = take(&mut data, "params").map(object);
        let result = take(&mut data, "result").map(|result| if result.is_null() { result } else { object(result) });
        let data = &data;
        let optional = |key| optional_text(data, key);
        Ok(Self {
            id: TaskId(number(data, "id")?),
            task_type: text(data, "type")?,
            status: text(data, "status")?,
            params,
            result,
            error_message: optional("error_message"),
            priority: integer(&data["priority"]).unwrap_or(0),
            progress: integer(&data["progress"]).unwrap_or(0),
            attempts: attempts(data)?,
            claimed_by: optional("claimed_by"),
            claimed_at: optional("claimed_at"),
            completed_at: optional("completed_at"),
            created_at: optional("created_at"),
        })
    }
}

/// Checks that `data` is the answer to a report.
pub(super) fn check_acknowledgement(data: &Value) -> Result<(), String> {
    number(data, "id").map(drop)
}

/// Returns the single item of an answer; `None` if the server answered with an empty list or null.
pub(super) fn single(data: Value) -> Option<Value> {
    match data {
        Value::Object(mut object) if object.get("items").is_some_and(Value::is_array) => {
            single(object.remove("items").unwrap_or_default())
        }
        Value::Array(items) => items.into_iter().next(),
        Value::Null => None,
        one => Some(one),
    }
}

/// Returns the items of an answer, a list or an object with `items`.
pub(super) fn items(mut data: Value) -> Result<Vec<Value>, String> {
    match take(&mut data, "items").unwrap_or(data) {
        Value::Array(items) => Ok(items),
        _ => Err("it is not a list".into()),
    }
}

/// Returns the items of an answer, each converted.
pub(super) fn list<T: FromWire>(data: Value) -> Result<Vec<T>, String> {
    items(data)?.into_iter().map(T::from_wire).collect()
}

/// Returns how long a claim lasts from now on, if the answer says so.
pub(super) fn expires_in(data: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(data["expires_in"].as_f64()?).ok()
}

/// Checks that an entry of an answer is about this task.
pub(super) fn check_id(entry: &Value, id: TaskId) -> Result<(), String> {
    if number(entry, "id")? == id.0 { Ok(()) } else { Err(format!("it names another task than {id}")) }
}
