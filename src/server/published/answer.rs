//! What the published server answers where the documented answer is known.

use std::cmp::Reverse;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use axum::body::Bytes;
use axum::http::response::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::php::{encode, stored};
use super::{Call, Progress};
use crate::server::envelope::{Failure, NOT_QUITE_HTML, Success};

const TYPE: [&str; 7] = ["id", "name", "version", "param_schema", "is_active", "created_at", "updated_at"];

const TASK: [&str; 13] = [
    "id",
    "type",
    "status",
    "params",
    "result",
    "error_message",
    "priority",
    "progress",
    "attempts",
    "claimed_by",
    "claimed_at",
    "completed_at",
    "created_at",
];

const LISTED_TASK: [&str; 9] =
    ["id", "type", "status", "priority", "progress", "attempts", "claimed_by", "created_at", "completed_at"];

/// The published answer for the documented one, which is `body` after `parts`.
pub(super) fn translate(call: &Call, mut parts: Parts, body: Bytes, progress: &Progress) -> Response {
    let mut said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let other = match &said["success"] {
        Value::Bool(true) => success(call, said["data"].take(), progress),
        Value::Bool(false) => refusal(call, parts.status, said["error"].as_str().unwrap_or_default()),
        _ => {
            let (name, content_type) = NOT_QUITE_HTML;
            parts.headers.insert(name, header::HeaderValue::from_static(content_type));
            None
        }
    };
    other.unwrap_or_else(|| (parts, body).into_response())
}

/// Its own answer to a call that the documents let fail; `None` where it fails alike.
fn refusal(call: &Call, status: StatusCode, error: &str) -> Option<Response> {
    let internal = |error: &str| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
    match (call, status.as_u16(), error) {
        (Call::Claim, 404, "No available tasks" | "Task type not found") => {
            Some(internal("There is no active transaction"))
        }
        (Call::ShowTask, 404, "Task not found") | (Call::ShowType, 404, "Task type not found") => {
            Some(answer(Items::default()))
        }
        (Call::ListTasks(limit @ ..0, offset), 400, _) => Some(internal(&format!(
            "SQLSTATE[42000]: Syntax error or access violation: 1064 You have an error in your SQL syntax; check the \
             manual that corresponds to your MariaDB server version for the right syntax to use near '{limit} OFFSET \
             {offset}' at line 1"
        ))),
        (Call::ListTasks(_, offset @ ..0), 400, _) => Some(internal(&format!(
            "SQLSTATE[42000]: Syntax error or access violation: 1064 You have an error in your SQL syntax; check the \
             manual that corresponds to your MariaDB server version for the right syntax to use near '{offset}' at line 1"
        ))),
        // It looks for what no task has.
        (Call::ListTasks(..), 400, _) => Some(answer(Items::default())),
        // It keeps its details to itself.
        (_, 500, error) => Some(internal(error)),
        (_, 400, error @ "Invalid JSON in request body") => Some(Failure::bad_request(error).into_response()),
        (Call::Create, 400, error) => Some(Failure::bad_request(too_large(error)?).into_response()),
        _ => None,
    }
}

/// How it says that a number is too large. It is the only breach of a schema of which its words are known.
fn too_large(error: &str) -> Option<String> {
    let (path, limit) =
        error.strip_prefix("Parameter validation failed: /")?.split_once(": value is greater than the maximum of ")?;
    Some(format!("Parameter validation failed: Number too large at {path}: maximum is {limit}"))
}

/// Its own form of an answer that has `data`; `None` where it has the same.
fn success(call: &Call, mut data: Value, progress: &Progress) -> Option<Response> {
    Some(match call {
        Call::Health => answer(pick(&data, &["status", "timestamp", "database"])),
        Call::Register => {
            let is_new = data["created"] == true;
            answer(pick(&data, &["id", "name", "version", "created", "updated"]).with_text_id(is_new))
        }
        Call::ListTypes => {
            let error = "Invalid select field: COALESCE(t.usage_count, 0) as usage_count";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
        }
        Call::ShowType => answer(Items::from(vec![pick(&data, &TYPE)])),
        Call::Create if data["deduplicated"] == true => {
            answer(pick(&data, &["id", "status", "deduplicated"]).saying("Task already exists (deduplicated)"))
        }
        Call::Create => {
            let created = pick(&data, &["id", "type", "status", "dedupe_key"]).with_text_id(true);
            answer(created.saying("Task created successfully"))
        }
        Call::Claim => {
            progress.forget(&data["id"]);
            let claimed = pick(&data, &["id", "type", "params", "attempts", "priority"]);
            answer(claimed.saying("Task claimed successfully"))
        }
        Call::Report => {
            progress.set(&data["id"], &data["progress"]);
            let reported = pick(&data, &["id", "progress"]).with_text_id(true);
            answer(reported.saying("Task progress updated successfully"))
        }
        Call::Complete(_) => {
            if data["status"] == "pending" {
                data["status"] = json!("pending (retry)");
            }
            answer(pick(&data, &["id", "status"]).with_text_id(true).saying("Task completed"))
        }
        Call::ShowTask => answer(Items::from(vec![pick(&as_it_ended(data, progress), &TASK)])),
        Call::ListTasks(limit, offset) => {
            let tasks = data.as_array_mut().map(std::mem::take).unwrap_or_default();
            let tasks = part(tasks, *limit, *offset).map(|task| pick(&as_it_ended(task, progress), &LISTED_TASK));
            answer(Items::from(tasks.collect::<Vec<_>>()))
        }
        Call::Other => return None,
    })
}

/// What is asked for of a list. It is sorted by the second of creation alone: where not all is asked for, the database
/// keeps no more than that while it sorts, and of tasks of the same second any may come first.
fn part(mut tasks: Vec<Value>, limit: i64, offset: i64) -> impl Iterator<Item = Value> {
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let (limit, offset) = (count(limit), count(offset));
    let last = limit.saturating_add(offset);
    let is_part = last < tasks.len();
    let any = BuildHasherDefault::<DefaultHasher>::new();
    let in_second = |id: u64| if is_part { any.hash_one((id, last)) } else { id };
    tasks.sort_by_cached_key(|task| {
        (Reverse(task["created_at"].as_str().map(str::to_owned)), in_second(task["id"].as_u64().unwrap_or(0)))
    });
    tasks.into_iter().skip(offset).take(limit)
}

/// A completed task is as far as its worker said last.
fn as_it_ended(mut task: Value, progress: &Progress) -> Value {
    if task["status"] == "completed" {
        task["progress"] = progress.of(&task["id"]);
    }
    task
}

fn answer(data: impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], encode(&Success(data).envelope())).into_response()
}

/// Several things, or one where there could be none.
#[derive(Serialize, Default)]
struct Items {
    items: Vec<Fields>,
    count: usize,
}

impl From<Vec<Fields>> for Items {
    fn from(items: Vec<Fields>) -> Self {
        Self { count: items.len(), items }
    }
}

/// Named values, in the order of the published server.
struct Fields(Vec<(&'static str, Value)>);

/// Those of `names` that `data` has.
fn pick(data: &Value, names: &[&'static str]) -> Fields {
    Fields(names.iter().filter_map(|name| Some((*name, stored(data.get(name)?)))).collect())
}

impl Fields {
    fn saying(mut self, message: &str) -> Self {
        self.0.push(("message", json!(message)));
        self
    }

    /// The first, which is the id, as text where `is_text`.
    fn with_text_id(mut self, is_text: bool) -> Self {
        if let (true, Some((_, id))) = (is_text, self.0.first_mut()) {
            *id = json!(id.to_string());
        }
        self
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
