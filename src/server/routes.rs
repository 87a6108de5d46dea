//! The calls of the API: parse each request and call the queue.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::access::{self, Access};
use super::batches::{self, BatchItems};
use super::body::{self, BodyFields, StrictInteger, check_name};
use super::committer::{self, Committer};
use super::envelope::{CallError, Success};
use super::error::Refusal;
use super::features::OfferedFeatures;
use super::large_calls::LARGE;
use super::long_poll::{self, Preference};
use super::queue::{ClaimRequest, ClaimedTasks, STEP, SharedQueue, TaskToCreate};
use super::storage::{ClaimOrder, Cursor, Filter, Report, STATUSES, SortBy, TypeLimit};
use crate::http::ConnectionHandle;
use crate::json::MAX_RESULT_DEPTH;

/// Default and maximum number of tasks in a list.
pub(super) const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 10_000;
/// Estimated size of a task in a list, in bytes.
const LISTED: usize = 512;

/// Marks a request for a list without limit.
#[derive(Clone)]
pub(super) struct Unlimited;

pub(super) type CallResult<T> = Result<Success<T>, CallError>;

/// Returns the routes of all calls, behind `access`. `committer` commits their changes.
pub(super) fn router(queue: SharedQueue, committer: Arc<Committer>, access: Arc<Access>) -> Router {
    let mut calls = vec![
        ("/api/task-types/register", post(register)),
        ("/api/task-types", get(list_types)),
        ("/api/task-types/{name}", get(show_type)),
        ("/api/tasks", get(list_tasks).post(create)),
        ("/api/tasks/claim", post(claim).delete(withdraw)),
        ("/api/tasks/{id}", get(show_task)),
        ("/api/tasks/{id}/progress", post(progress)),
        ("/api/tasks/{id}/complete", post(complete)),
    ];
    if queue.features.batch {
        calls.push(("/api/tasks/complete", post(batches::complete)));
    }
    if queue.features.renew {
        calls.push(("/api/tasks/renew", post(batches::renew)));
    }
    let mut router = Router::new();
    for (path, methods) in calls {
        router = router.route(path, methods.clone()).route(&format!("{path}/"), methods);
    }
    let read_and_run = async |State(queue): State<SharedQueue>, request: Request, next: Next| {
        body::read_and_run(&queue, request, next).await
    };
    router
        .layer(middleware::from_fn_with_state(queue.clone(), read_and_run))
        .layer(middleware::from_fn_with_state(Arc::clone(&committer), committer::sync_changes))
        // Health shows no task, so it need not wait for a sync.
        .route("/api/health", get(health))
        .route("/api/health/", get(health))
        .fallback(no_endpoint)
        .method_not_allowed_fallback(no_endpoint)
        .layer(Extension(committer))
        .layer(middleware::from_fn_with_state(access, access::check))
        .with_state(queue)
}

async fn no_endpoint() -> CallError {
    CallError::new(StatusCode::NOT_FOUND, "Endpoint not found")
}

async fn health(
    State(queue): State<SharedQueue>,
    Extension(committer): Extension<Arc<Committer>>,
) -> CallResult<Value> {
    committer.check_in_place().map_err(|error| CallError::internal(&error))?;
    let features = queue.features;
    // If another call has locked the queue, the database is in use and works.
    queue.try_lock().map_or(Ok(()), |queue| queue.check())?;
    let timestamp = Timestamp::now().as_second();
    let mut health = json!({"status": "healthy", "timestamp": timestamp, "database": "connected"});
    if features != OfferedFeatures::NONE {
        health["features"] = json!(features.names());
    }
    Ok(Success(health))
}

async fn register(State(queue): State<SharedQueue>, mut fields: BodyFields) -> CallResult<impl Serialize> {
    let name = fields.name("name")?;
    let version = fields.name("version")?;
    let schema = fields.schema("param_schema")?;
    if schema.get("type").is_none_or(Value::is_null) {
        return Err(CallError::bad_request("JSON schema must have a \"type\" property"));
    }
    Ok(Success(queue.register(name, version, Value::Object(schema)).await?))
}

async fn show_type(
    State(queue): State<SharedQueue>,
    name: Result<Path<String>, PathRejection>,
) -> CallResult<impl Serialize> {
    let Path(name) = name.map_err(|_| Refusal::TypeNotFound)?;
    Ok(Success(queue.lock().await.task_type(&name)?))
}

async fn list_types(State(queue): State<SharedQueue>, parameters: Parameters) -> Result<Response, CallError> {
    let active_only = match parameters?.get("active_only").map(String::as_str) {
        Some("true" | "1") => true,
        None | Some("" | "false" | "0") => false,
        Some(_) => return Err(CallError::invalid("Field 'active_only' must be of type boolean")),
    };
    let length = queue.lock().await.length_of_types(active_only)?;
    let list = async move |queue: SharedQueue| {
        let types = queue.lock().await.task_types(active_only)?;
        Ok(Success(types).into_response())
    };
    answer_within(&queue, length, list).await
}

/// Makes an answer of about `length` bytes if there is memory for it. A long one is made in the large-call threads.
async fn answer_within<A>(
    queue: &SharedQueue,
    length: usize,
    answer: impl FnOnce(SharedQueue) -> A,
) -> Result<Response, CallError>
where
    A: Future<Output = Result<Response, CallError>> + Send + 'static,
{
    if length <= LARGE {
        return answer(queue.clone()).await;
    }
    let held = queue.room_for_answer(length)?;
    let mut answer = queue.large.run(answer(queue.clone())).await?;
    answer.extensions_mut().insert(held);
    Ok(answer)
}

async fn create(State(queue): State<SharedQueue>, mut fields: BodyFields) -> Result<Response, CallError> {
    if queue.features.batch && fields.has("tasks") && !fields.has("type") {
        return batches::create(queue, fields).await;
    }
    Ok(Success(queue.create(task_request(&mut fields)?).await?).into_response())
}

/// Takes the fields of a task to create.
pub(super) fn task_request(fields: &mut BodyFields) -> Result<TaskToCreate, CallError> {
    Ok(TaskToCreate {
        task_type: fields.text_name("type")?,
        params: fields.required("params")?,
        priority: fields.optional("priority")?.unwrap_or(0),
    })
}

async fn claim(
    State(queue): State<SharedQueue>,
    Extension(committer): Extension<Arc<Committer>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    fields: BodyFields,
) -> Result<Response, CallError> {
    let request = claim_request(fields, queue.features)?;
    let Some(preference) = Preference::of(&headers) else {
        let types = queue.lock().await.admitted(&request)?;
        let claimed = queue.claim(&request, &types).await?;
        return Ok(claim_response(&queue, &request, claimed).await);
    };
    let _pause = connection.pause_timeout();
    let answer = match long_poll::claim(&queue, &committer, &request, &preference).await? {
        Some(claimed) => claim_response(&queue, &request, claimed).await,
        None => CallError::from(Refusal::NoTask).into_response(),
    };
    Ok(([("Preference-Applied", preference.applied(&request))], answer).into_response())
}

/// Returns the answer with claimed tasks, which keeps their memory reservation.
async fn claim_response(queue: &SharedQueue, request: &ClaimRequest, claimed: ClaimedTasks) -> Response {
    let ClaimedTasks { mut tasks, reservation } = claimed;
    let length = tasks.iter().map(|task| task.params.len()).sum();
    let mut answer = match request.limit {
        Some(_) => queue.large.answer(length, Success(BatchItems { items: tasks })).await,
        None => queue.large.answer(length, Success(tasks.pop())).await,
    };
    if let Some(reservation) = reservation {
        answer.extensions_mut().insert(Arc::new(reservation));
    }
    answer
}

/// Ends the long polls of a worker.
async fn withdraw(State(queue): State<SharedQueue>, parameters: Parameters) -> CallResult<Value> {
    let Query(mut parameters) = parameters?;
    let worker_id = body::worker_id(parameters.remove("worker_id"))?;
    Ok(Success(json!({"withdrawn": queue.long_polls.withdraw(&worker_id)})))
}

fn claim_request(mut fields: BodyFields, features: OfferedFeatures) -> Result<ClaimRequest, CallError> {
    let (types, limit) = if features.batch && batches::is_claim(&fields) {
        batches::claim_limits(&mut fields).map(|(types, limit)| (types, Some(limit)))?
    } else {
        (vec![TypeLimit { type_id: fields.required("task_type_id")?, limit: 1 }], None)
    };
    let worker_id = fields.worker_id()?;
    if types.iter().any(|it| it.type_id <= 0) {
        return Err(CallError::bad_request("task_type_id must be a positive integer"));
    }
    let type_pattern = fields.keyword("type_pattern")?.filter(|pattern| !["", "0"].contains(&pattern.as_str()));
    let order = claim_order(&mut fields)?;
    let renews = features.renew && fields.optional("renews")?.unwrap_or(false);
    Ok(ClaimRequest { worker_id, types, limit, type_pattern, order, renews })
}

fn claim_order(fields: &mut BodyFields) -> Result<ClaimOrder, CallError> {
    let by = match fields.keyword("sort_by")?.as_deref() {
        None | Some("created_at" | "id") => SortBy::Id,
        Some("priority") => SortBy::Priority,
        Some("attempts") => SortBy::Attempts,
        Some(_) => {
            let error = "Invalid sort_by field. Allowed values: created_at, priority, id, attempts";
            return Err(CallError::bad_request(error));
        }
    };
    let descending = match fields.keyword("sort_order")? {
        None => false,
        Some(claim_order) if claim_order.eq_ignore_ascii_case("ASC") => false,
        Some(claim_order) if claim_order.eq_ignore_ascii_case("DESC") => true,
        Some(_) => return Err(CallError::bad_request("Invalid sort_order. Allowed values: ASC, DESC")),
    };
    Ok(ClaimOrder { by, descending })
}

async fn progress(State(queue): State<SharedQueue>, id: TaskId, mut fields: BodyFields) -> CallResult<Value> {
    let id = task_id(id)?;
    let worker_id = check_name("worker_id", fields.required("worker_id")?)?;
    let StrictInteger(progress) = fields.required("progress")?;
    if progress < 0 {
        return Err(CallError::invalid("Field 'progress' must be at least 0"));
    }
    if progress > 100 {
        return Err(CallError::invalid("Field 'progress' must be at most 100"));
    }
    // The message is checked like any other field, but not stored: the API does not show it.
    fields.free_text("message")?;
    queue.with_tasks(&[id], move |queue| queue.progress(id, &worker_id, progress)).await?;
    Ok(Success(json!({"id": id, "progress": progress})))
}

async fn complete(State(queue): State<SharedQueue>, id: TaskId, mut fields: BodyFields) -> CallResult<Value> {
    let id = task_id(id)?;
    let worker_id = fields.name("worker_id")?;
    let report = report(&mut fields, queue.features)?;
    let status = queue.with_tasks(&[id], move |queue| queue.complete_one(&worker_id, id, report)).await?;
    Ok(Success(json!({"id": id, "status": status})))
}

/// Takes the fields of a report.
pub(super) fn report(fields: &mut BodyFields, features: OfferedFeatures) -> Result<Report, CallError> {
    let attempt = if features.batch { fields.within("attempt", 1..=i64::MAX)? } else { None };
    Ok(Report {
        attempt,
        success: fields.required("success")?,
        result: fields.json_text("result", MAX_RESULT_DEPTH)?,
        error: fields.free_text("error")?,
    })
}

async fn show_task(State(queue): State<SharedQueue>, id: TaskId) -> Result<Response, CallError> {
    let id = task_id(id)?;
    let length = queue.lock().await.length_of_task(id)?;
    let show = async move |queue: SharedQueue| {
        let task = queue.lock().await.task(id)?;
        Ok(Success(task).into_response())
    };
    answer_within(&queue, length, show).await
}

async fn list_tasks(
    State(queue): State<SharedQueue>,
    unlimited: Option<Extension<Unlimited>>,
    parameters: Parameters,
) -> Result<Response, CallError> {
    let Query(mut parameters) = parameters?;
    // Blank parameters are ignored.
    parameters.retain(|name, value| !value.is_empty() || ["limit", "offset"].contains(&name.as_str()));
    let wanted = parameters.remove("status").filter(|wanted| wanted != "%");
    let status = wanted.as_deref().and_then(status);
    let limit = whole_number(&parameters, "limit", 0)?.unwrap_or(DEFAULT_LIMIT);
    let limit = if unlimited.is_some() { i64::MAX } else { limit.min(MAX_LIMIT) };
    let offset = whole_number(&parameters, "offset", 0)?.unwrap_or(0);
    // With `before`, no offset is needed.
    let (cursor, offset) = match whole_number(&parameters, "before", 1)? {
        Some(before) => (Cursor::Before(before), 0),
        None => (Cursor::NEWEST, offset),
    };
    // An unknown status matches no task.
    let most = if wanted.is_some() && status.is_none() { 0 } else { limit };
    let filter = Filter { status, task_type: task_type(&mut parameters)?, cursor, limit: most, offset };
    let is_long = usize::try_from(limit).is_ok_and(|limit| limit > STEP);
    let large = queue.large.clone();
    let list = async move {
        let ids = queue.lock().await.task_ids(&filter)?;
        let held = queue.room_for_answer(ids.len() * LISTED)?;
        let mut answer = Success(queue.tasks(&ids).await?).part(limit, offset).into_response();
        answer.extensions_mut().insert(held);
        Ok(answer)
    };
    if is_long { large.run(list).await } else { list.await }
}

/// Returns the status that a query names. As in the published server's database, case and trailing blanks do not matter.
fn status(wanted: &str) -> Option<&'static str> {
    STATUSES.into_iter().find(|status| status.eq_ignore_ascii_case(wanted.trim_end_matches(' ')))
}

/// Takes the LIKE pattern for names of types.
fn task_type(parameters: &mut HashMap<String, String>) -> Result<Option<String>, CallError> {
    parameters.remove("type").map(|pattern| check_name("type", pattern)).transpose()
}

type TaskId = Result<Path<i64>, PathRejection>;

/// Parses a task's id. No task has an invalid one.
fn task_id(id: TaskId) -> Result<i64, Refusal> {
    id.map(|Path(id)| id).map_err(|_| Refusal::TaskNotFound)
}

type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

impl From<QueryRejection> for CallError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// Returns a parameter of the query, an integer that must be at least `least`.
fn whole_number(parameters: &HashMap<String, String>, name: &str, least: i64) -> Result<Option<i64>, CallError> {
    let Some(number) = parameters.get(name).map(|text| body::integer(text)) else { return Ok(None) };
    if number < least {
        return Err(CallError::invalid(format!("Field '{name}' must be at least {least}")));
    }
    Ok(Some(number))
}
