//! Translates documented answers to those of the published server.

use std::cmp::Reverse;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use axum::body::Bytes;
use axum::http::response::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::php::{encode, stored};
use super::{LastProgress, PublishedCall};
use crate::server::envelope::{CallError, NOT_QUITE_HTML, Success};

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

/// Translates a documented answer, given by `parts` and `body`.
pub(super) fn translate(call: &PublishedCall, mut parts: Parts, body: Bytes, progress: &LastProgress) -> Response {
    let mut documented: Value = serde_json::from_slice(&body).unwrap_or_default();
    let other = match &documented["success"] {
        Value::Bool(true) => success(call, documented["data"].take(), progress),
        Value::Bool(false) => refusal(call, parts.status, documented["error"].as_str().unwrap_or_default()),
        _ => {
            let (name, content_type) = NOT_QUITE_HTML;
            parts.headers.insert(name, header::HeaderValue::from_static(content_type));
            None
        }
    };
    other.unwrap_or_else(|| (parts, body).into_response())
}

/// Returns the answer to a failed call; `None` if it is the same as documented.
fn refusal(call: &PublishedCall, status: StatusCode, error: &str) -> Option<Response> {
    let internal = |error: &str| CallError::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
    match (call, status.as_u16(), error) {
        (PublishedCall::Claim, 404, "No available tasks" | "Task type not found") => {
            Some(internal("There is no active transaction"))
        }
        (PublishedCall::ShowTask, 404, "Task not found") | (PublishedCall::ShowType, 404, "Task type not found") => {
            Some(answer(Items::default()))
        }
        (PublishedCall::ListTasks(limit @ ..0, offset), 400, _) => Some(internal(&format!(
            "SQLSTATE[42000]: Syntax error or access violation: 1064 You have an error in your SQL syntax; check the \
             manual that corresponds to your MariaDB server version for the right syntax to use near '{limit} OFFSET \
             {offset}' at line 1"
        ))),
        (PublishedCall::ListTasks(_, offset @ ..0), 400, _) => Some(internal(&format!(
            "SQLSTATE[42000]: Syntax error or access violation: 1064 You have an error in your SQL syntax; check the \
             manual that corresponds to your MariaDB server version for the right syntax to use near '{offset}' at line 1"
        ))),
        // An unknown status matches no task.
        (PublishedCall::ListTasks(..), 400, _) => Some(answer(Items::default())),
        // It does not show the details.
        (_, 500, error) => Some(internal(error)),
        (_, 400, error @ "Invalid JSON in request body") => Some(CallError::bad_request(error).into_response()),
        (PublishedCall::Create, 400, error) => Some(CallError::bad_request(too_large(error)?).into_response()),
        _ => None,
    }
}

/// Returns its message for a number that is too large, the only schema violation in the recordings.
fn too_large(error: &str) -> Option<String> {
    let (path, limit) =
        error.strip_prefix("Parameter validation failed: /")?.split_once(": value is greater than the maximum of ")?;
    Some(format!("Parameter validation failed: Number too large at {path}: maximum is {limit}"))
}

/// Returns the answer to a successful call; `None` if it is the same as documented.
fn success(call: &PublishedCall, data: Value, progress: &LastProgress) -> Option<Response> {
    Some(match call {
        PublishedCall::Health => answer(pick(&data, &["status", "timestamp", "database"])),
        PublishedCall::Register => {
            let is_new = data["created"] == true;
            answer(pick(&data, &["id", "name", "version", "created", "updated"]).with_text_id(is_new))
        }
        PublishedCall::ListTypes => {
            let error = "Invalid select field: COALESCE(t.usage_count, 0) as usage_count";
            CallError::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
        }
        PublishedCall::ShowType => answer(Items::from(vec![pick(&data, &TYPE)])),
        PublishedCall::ShowTask => answer(Items::from(vec![pick(&with_last_progress(data, progress), &TASK)])),
        PublishedCall::ListTasks(limit, offset) => answer(task_list(data, (*limit, *offset), progress)),
        PublishedCall::Create | PublishedCall::Claim | PublishedCall::Report | PublishedCall::Complete(_) => {
            answer(changed_task(call, &data, progress))
        }
        PublishedCall::Other => return None,
    })
}

/// Returns the data of the answer to a call that has changed a task.
fn changed_task(call: &PublishedCall, data: &Value, progress: &LastProgress) -> OrderedFields {
    match call {
        PublishedCall::Create if data["deduplicated"] == true => {
            pick(data, &["id", "status", "deduplicated"]).with_message("Task already exists (deduplicated)")
        }
        PublishedCall::Create => {
            let created = pick(data, &["id", "type", "status", "dedupe_key"]).with_text_id(true);
            created.with_message("Task created successfully")
        }
        PublishedCall::Claim => {
            progress.forget(&data["id"]);
            pick(data, &["id", "type", "params", "attempts", "priority"]).with_message("Task claimed successfully")
        }
        PublishedCall::Report => {
            progress.set(&data["id"], &data["progress"]);
            let reported = pick(data, &["id", "progress"]).with_text_id(true);
            reported.with_message("Task progress updated successfully")
        }
        _ => {
            let status = if data["status"] == "pending" { json!("pending (retry)") } else { data["status"].clone() };
            let completed = json!({"id": data["id"], "status": status});
            pick(&completed, &["id", "status"]).with_text_id(true).with_message("Task completed")
        }
    }
}

fn task_list(mut data: Value, (limit, offset): (i64, i64), progress: &LastProgress) -> Items {
    let tasks = data.as_array_mut().map(std::mem::take).unwrap_or_default();
    let tasks = page(tasks, limit, offset).map(|task| pick(&with_last_progress(task, progress), &LISTED_TASK));
    Items::from(tasks.collect::<Vec<_>>())
}

/// Returns a page of a list, sorted by the second of creation only. The order within a second depends on the page, since
/// the database keeps only as many rows as it needs while sorting.
fn page(mut tasks: Vec<Value>, limit: i64, offset: i64) -> impl Iterator<Item = Value> {
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

/// Gives a completed task the last progress that its worker reported.
fn with_last_progress(mut task: Value, progress: &LastProgress) -> Value {
    if task["status"] == "completed" {
        task["progress"] = progress.of(&task["id"]);
    }
    task
}

fn answer(data: impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], encode(&Success(data).envelope())).into_response()
}

/// The data of a list, or of a look-up.
#[derive(Serialize, Default)]
struct Items {
    items: Vec<OrderedFields>,
    count: usize,
}

impl From<Vec<OrderedFields>> for Items {
    fn from(items: Vec<OrderedFields>) -> Self {
        Self { count: items.len(), items }
    }
}

/// Fields in the order of the published server.
struct OrderedFields(Vec<(&'static str, Value)>);

/// Returns the fields `names` of `data`.
fn pick(data: &Value, names: &[&'static str]) -> OrderedFields {
    OrderedFields(names.iter().filter_map(|name| Some((*name, stored(data.get(name)?)))).collect())
}

impl OrderedFields {
    fn with_message(mut self, message: &str) -> Self {
        self.0.push(("message", json!(message)));
        self
    }

    /// Converts the first field, the id, to a string if `is_text`.
    fn with_text_id(mut self, is_text: bool) -> Self {
        if let (true, Some((_, id))) = (is_text, self.0.first_mut()) {
            *id = json!(id.to_string());
        }
        self
    }
}

impl Serialize for OrderedFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
