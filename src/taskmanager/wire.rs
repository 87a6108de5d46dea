//! What goes over the wire, and the only place that knows how the TaskManager's servers differ: in envelopes, in how
//! they write ids, in lists, in how they say that nothing is there.

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

/// What `GET /health` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `healthy` where all is well.
    pub status: String,
    /// `connected` where all is well.
    pub database: String,
}

/// A task type as the TaskManager holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskType {
    /// Its number, which claims ask for.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its version, such as `1.0.0`.
    pub version: String,
    /// The JSON Schema of its params.
    pub param_schema: Value,
    /// Whether tasks of this type can be created.
    pub is_active: bool,
}

/// A task type that was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// False where a type of that name was updated.
    pub created: bool,
}

/// A task that was created, or was there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Its number.
    pub id: TaskId,
    /// The name of its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `pending` where it is new.
    pub status: String,
    /// Whether a task of the same type and params was there already.
    pub deduplicated: bool,
}

/// A task as the TaskManager shows it. Times are as the server sends them, in a zone it does not name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskView {
    /// Its number.
    pub id: TaskId,
    /// The name of its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `pending`, `claimed`, `completed` or `failed`.
    pub status: String,
    /// Left out where the server lists tasks without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// Left out where the server lists tasks without them; null where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The text of its last failure.
    pub error_message: Option<String>,
    /// Higher goes first.
    pub priority: i64,
    /// 0 to 100.
    pub progress: i64,
    /// How often it was handed out.
    pub attempts: u32,
    /// The worker that has or had it.
    pub claimed_by: Option<String>,
    /// When it was last handed out.
    pub claimed_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// When it was created.
    pub created_at: Option<String>,
}

impl TaskView {
    /// Whether that worker has the task now.
    #[must_use]
    pub fn is_claimed_by(&self, worker_id: &str) -> bool {
        self.status == "claimed" && self.claimed_by.as_deref() == Some(worker_id)
    }

    /// The task, as its claim would have handed it out.
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

/// Takes the answer to a call apart: the `data` inside the envelope, or the body itself where there is no envelope.
pub(super) fn decode(url: &str, call: &str, key: Option<&str>, response: &Response) -> Result<Value, Error> {
    let (url, status) = (url.to_owned(), response.status);
    if (300..400).contains(&status) {
        let target = response.location.as_deref().map_or("another address".into(), |target| quote(target, key));
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
    let words = error_text(&body).map(|text| quote(&text, key));
    if status == 404 && words.as_deref().is_none_or(|words| words == NO_ENDPOINT) {
        return Err(Error::NotATaskManager { url, reason: format!("no such call: {call} (404)") });
    }
    let message = words.unwrap_or_else(|| format!("it answered {call} with status {status} and no message"));
    let with_key = key.is_some();
    Err(match status {
        401 => Error::KeyRefused { url, message, with_key },
        // A refusal in the other shape is about the key or the address, one in the usual shape about the task.
        403 if body["success"].is_null() && body["message"].is_string() => Error::KeyRefused { url, message, with_key },
        TIMED_OUT | 429 | 502..=504 => {
            Error::Unavailable { url, status, reason: message, retry_after: retry_after(response, &body) }
        }
        500 if !is_final(call, &message) => Error::Unavailable { url, status, reason: message, retry_after: None },
        _ => Error::Refused { status, message },
    })
}

/// Of a task that was handed out and is too long to be read, as much as tells which one it is: so that it can be failed.
fn start_of_task(call: &str, response: &Response) -> Option<Value> {
    if call != CLAIM || response.status >= 300 {
        return None;
    }
    let mut task = json::read_start(&response.body).ok().map(unwrap_envelope)?;
    // Servers write it after the params.
    task.as_object_mut()?.entry("attempts").or_insert(json!(1));
    Some(task)
}

/// How long the server asks to be left alone, in its header or its body. Who counts calls does, if it does not say how long.
fn retry_after(response: &Response, body: &Value) -> Option<Duration> {
    /// However long a server asks for. It is asked once a minute then, as by any worker at rest: one that waits for a day
    /// for a typing error helps nobody.
    const LONGEST: Duration = Duration::from_mins(1);
    let in_body = match &body["retry_after"] {
        Value::String(text) => retry_after::longest([text.as_str()], None),
        Value::Number(number) => retry_after::longest([number.to_string().as_str()], None),
        _ => None,
    };
    let wait = response.retry_after.max(in_body).or((response.status == 429).then_some(Duration::ZERO))?;
    Some(wait.min(LONGEST))
}

/// The 500s after which the same call would fail again.
fn is_final(call: &str, message: &str) -> bool {
    ["SQLSTATE[22001]", "SQLSTATE[42000]", "Invalid select field"].iter().any(|text| message.contains(text))
        || (call == CLAIM && message.contains(NO_TRANSACTION))
}

/// The path of a claim, the only call on which a server without a transaction means an empty queue.
pub(super) const CLAIM: &str = "/tasks/claim";

/// How the published server says that its queue is empty.
const NO_TRANSACTION: &str = "There is no active transaction";

/// How it says that the base URL, or the call, is wrong. Unlike its other 404s it says nothing about a task.
const NO_ENDPOINT: &str = "Endpoint not found";

/// An answer that is no JSON: a proxy's page, whose status says more than its text, or something else's.
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

/// The server's own words for an error: with its details, on one line.
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

/// A server's words as one line of an error: not endless, without what would steer a terminal, and without the key,
/// which a careless server may quote.
fn quote(text: &str, key: Option<&str>) -> String {
    const LONGEST: usize = 1000;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    let line = match key {
        // A shorter one is no secret, but may be part of a word.
        Some(key) if key.len() >= 8 => line.replace(key, "***"),
        _ => line,
    };
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether this answer to a claim means that nothing is there to claim.
pub(super) fn is_empty_queue(error: &Error) -> bool {
    match error {
        Error::Refused { status: 404, message } => message.contains("No available tasks"),
        Error::Refused { status: 500, message } => message.contains(NO_TRANSACTION),
        _ => false,
    }
}

/// Makes a typed value of a decoded answer, whose large parts are moved, not copied. What is wrong with it is one line.
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
        schema::heal(&mut param_schema);
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

/// The published server leaves the type out where the task was there already.
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

/// Whether an answer is what a report about a task is answered with.
pub(super) fn acknowledges(data: &Value) -> Result<(), String> {
    number(data, "id").map(drop)
}

/// The one thing an answer is about: `None` where the server says so by an empty list.
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

/// The things an answer lists, with or without `items` around them.
pub(super) fn list<T: FromWire>(mut data: Value) -> Result<Vec<T>, String> {
    match take(&mut data, "items").unwrap_or(data) {
        Value::Array(items) => items.into_iter().map(T::from_wire).collect(),
        _ => Err("it is not a list".into()),
    }
}
