//! Encoding of requests and answers; the only module that knows how servers differ: in envelopes, ids, lists, and how they
//! report that something does not exist.

mod fit;
mod schema;
mod values;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use fit::{Fitted, LIMITS, Limit, error_within_limit, fit, json_bytes};

use self::values::{attempts, integer, number, object, optional_text, take, text};
use super::Error;
use super::http::{MAX_ANSWER, Response, TIMED_OUT};
use crate::json;
use crate::retry_after;
use crate::task::{Task, TaskId};

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `healthy`, or an error state.
    pub status: String,
    /// `connected`, or an error state.
    pub database: String,
}

/// A task type of the TaskManager.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskType {
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

/// Decodes the answer to a call. Returns the `data` of the envelope, or the whole body if there is no envelope.
pub(super) fn decode(url: &str, call: &str, key: Option<&str>, response: &Response) -> Result<Value, Error> {
    let (url, status) = (url.to_owned(), response.status);
    if (300..400).contains(&status) {
        let target = response.location.as_deref().map_or("another address".into(), |target| sanitize(target, key));
        let reason = format!("it redirects to {target}; prismq follows no redirects, to protect the key");
        return Err(Error::NotATaskManager { url, reason });
    }
    if response.is_cut {
        return start_of_task(call, response).ok_or_else(|| {
            let reason = format!("the answer is longer than {} MiB", MAX_ANSWER >> 20);
            Error::NotATaskManager { url, reason }
        });
    }
    let body = match json::read_answer(&response.body) {
        Ok(body) => body,
        Err(error) => return Err(not_json(url, response, &error)),
    };
    if status < 300 && body["success"] != json!(false) {
        return Ok(unwrap_envelope(body));
    }
    let message_text = error_text(&body).map(|text| sanitize(&text, key));
    if status == 404 && message_text.as_deref().is_none_or(|message_text| message_text == NO_ENDPOINT) {
        return Err(Error::NotATaskManager { url, reason: format!("no such call: {call} (404)") });
    }
    let message = message_text.unwrap_or_else(|| format!("it answered {call} with status {status} and no message"));
    let with_key = key.is_some();
    Err(match status {
        401 => Error::KeyRefused { url, message, with_key },
        // A 403 without an envelope is about the key or the address, one with an envelope about the task.
        403 if body["success"].is_null() && body["message"].is_string() => Error::KeyRefused { url, message, with_key },
        TIMED_OUT | 429 | 502..=504 => {
            Error::Unavailable { url, status, reason: message, retry_after: retry_after(response, &body) }
        }
        500 if !is_final(call, &message) => Error::Unavailable { url, status, reason: message, retry_after: None },
        _ => Error::Refused { status, message },
    })
}

/// Reads the start of a claimed task that is too long, so that it can be failed.
fn start_of_task(call: &str, response: &Response) -> Option<Value> {
    if call != CLAIM || response.status >= 300 {
        return None;
    }
    let mut task = json::read_start(&response.body).ok().map(unwrap_envelope)?;
    // Servers write `attempts` after the params, where it is cut off.
    task.as_object_mut()?.entry("attempts").or_insert(json!(1));
    Some(task)
}

/// Returns the time from `Retry-After` or `retry_after` in the body; zero for a 429 without either.
fn retry_after(response: &Response, body: &Value) -> Option<Duration> {
    /// Longer times are capped: one call a minute is no burden, and the time may be a mistake.
    const LONGEST: Duration = Duration::from_mins(1);
    let in_body = match &body["retry_after"] {
        Value::String(text) => retry_after::longest([text.as_str()], None),
        Value::Number(number) => retry_after::longest([number.to_string().as_str()], None),
        _ => None,
    };
    let wait = response.retry_after.max(in_body).or((response.status == 429).then_some(Duration::ZERO))?;
    Some(wait.min(LONGEST))
}

/// Whether a 500 would be repeated by the same call.
fn is_final(call: &str, message: &str) -> bool {
    ["SQLSTATE[22001]", "SQLSTATE[42000]", "Invalid select field"].iter().any(|text| message.contains(text))
        || (call == CLAIM && message.contains(NO_TRANSACTION))
}

/// The path of a claim, the only call for which [`NO_TRANSACTION`] means an empty queue.
pub(super) const CLAIM: &str = "/tasks/claim";

/// The published server's message for an empty queue.
const NO_TRANSACTION: &str = "There is no active transaction";

/// Its message if the base URL or the path is wrong. Its other 404s are about a task.
const NO_ENDPOINT: &str = "Endpoint not found";

/// Returns the error for an answer that is not JSON: from a proxy, whose status matters, or from something else.
fn not_json(url: String, response: &Response, error: &serde_json::Error) -> Error {
    let status = response.status;
    match status {
        413 => Error::Refused {
            status,
            message: "the request is larger than the server, or a proxy in front of it, accepts".into(),
        },
        TIMED_OUT | 429 | 502..=504 => Error::Unavailable {
            url,
            status,
            reason: match status {
                TIMED_OUT => "it timed out waiting for the request",
                429 => "too many requests",
                504 => "the proxy in front of it got no answer",
                _ => "the proxy in front of it cannot reach it",
            }
            .into(),
            retry_after: retry_after(response, &Value::Null),
        },
        500 => Error::Unavailable { url, status, reason: "an internal error".into(), retry_after: None },
        400 if url.starts_with("http://") && names_https(&response.body) => {
            Error::NotConnected { url, reason: "it expects https://, not http://".into() }
        }
        _ if looks_like_html(&response.body) => {
            Error::NotATaskManager { url, reason: format!("it sent an HTML page, not JSON (status {status})") }
        }
        _ if error.is_eof() && !response.body.is_empty() => {
            Error::Unreachable { url, reason: "the answer was cut short".into() }
        }
        _ => Error::NotATaskManager { url, reason: format!("its answer is not JSON (status {status})") },
    }
}

/// What nginx, Apache and Go's servers say to a request without TLS.
fn names_https(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("HTTPS")
}

fn looks_like_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

fn unwrap_envelope(body: Value) -> Value {
    match body {
        Value::Object(mut envelope) if envelope.get("success") == Some(&json!(true)) => {
            envelope.remove("data").unwrap_or(Value::Object(envelope))
        }
        bare => bare,
    }
}

/// Returns the server's error message with its details, on one line.
fn error_text(body: &Value) -> Option<String> {
    let title = body["error"].as_str()?;
    let mut text = match body["message"].as_str() {
        Some(message) => message.to_owned(),
        None => title.to_owned(),
    };
    let details: Vec<&str> = body["details"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !details.is_empty() {
        text = format!("{text}: {}", details.join("; "));
    }
    Some(text)
}

/// Cleans a server's text for an error: one line of limited length, without control characters, and without the key in
/// case the server quotes it.
fn sanitize(text: &str, key: Option<&str>) -> String {
    const LONGEST: usize = 1000;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    let line = match key {
        // A shorter key is no secret and could be part of a word.
        Some(key) if key.len() >= 8 => line.replace(key, "***"),
        _ => line,
    };
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether this answer to a claim means that the queue is empty.
pub(super) fn is_empty_queue(error: &Error) -> bool {
    match error {
        Error::Refused { status: 404, message } => message.contains("No available tasks"),
        Error::Refused { status: 500, message } => message.contains(NO_TRANSACTION),
        _ => false,
    }
}

/// Converts a decoded answer to a typed value. Large parts are moved. The error is one line.
pub(super) trait FromWire: Sized {
    fn from_wire(data: Value) -> Result<Self, String>;
}

impl FromWire for Health {
    fn from_wire(data: Value) -> Result<Self, String> {
        Ok(Self { status: text(&data, "status")?, database: optional_text(&data, "database").unwrap_or_default() })
    }
}

impl FromWire for TaskType {
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
pub(super) fn list<T: FromWire>(mut data: Value) -> Result<Vec<T>, String> {
    match take(&mut data, "items").unwrap_or(data) {
        Value::Array(items) => items.into_iter().map(T::from_wire).collect(),
        _ => Err("it is not a list".into()),
    }
}
