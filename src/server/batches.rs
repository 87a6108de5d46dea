//! The calls for several tasks at once. Their entries are carried out in one transaction and answered one by one, so that
//! one that is refused does not hold up the others.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::body::{BodyFields, FieldType, StrictInteger};
use super::envelope::{CallError, Success};
use super::error::Refusal;
use super::queue::{CheckedTask, CreatedTask, Queue, SharedQueue};
use super::routes::{CallResult, report, task_request};
use super::storage::{Seconds, TypeLimit};
use crate::failpoint;

/// Maximum number of tasks that a call claims, and of results that it reports.
const MAX_TASKS: usize = 100;
/// Maximum number of types of a claim.
const MAX_TYPES: usize = 256;
/// Maximum number of tasks that a call creates.
const MAX_CREATED: usize = 1_000;
/// Maximum number of claims that a call renews.
const MAX_RENEWED: usize = 1_000;

/// More tasks than this are created in the large-call threads: checking them and computing their keys takes long.
const MANY: usize = 100;
/// Estimated size of a created task in the answer, in bytes.
const CREATED: usize = 256;

/// The data of an answer about several tasks, in the order of the call.
#[derive(Serialize)]
pub(super) struct BatchItems<T> {
    pub(super) items: Vec<T>,
}

/// The answer to one entry of a call.
#[derive(Serialize)]
#[serde(untagged)]
enum EntryAnswer<T> {
    Done(T),
    Refused(RefusedEntry),
}

/// An entry that was refused, as the call for it alone would have been.
#[derive(Serialize)]
struct RefusedEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    error: String,
    /// The HTTP status.
    code: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

impl<T> EntryAnswer<T> {
    /// Returns the answer to an entry about the task `id`, or about a new one.
    fn of(id: Option<i64>, outcome: Result<T, CallError>) -> Self {
        failpoint::reach("entry");
        match outcome {
            Ok(done) => Self::Done(done),
            Err(CallError { status, error, details }) => {
                Self::Refused(RefusedEntry { id, error, code: status.as_u16(), details })
            }
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Refused(entry) if entry.code == StatusCode::INTERNAL_SERVER_ERROR.as_u16())
    }
}

/// Returns the answers to the entries of a call. If the database failed for all of them, the call has failed.
fn answers<T>(entries: impl Iterator<Item = EntryAnswer<T>>) -> Result<Vec<EntryAnswer<T>>, CallError> {
    let answers: Vec<_> = entries.collect();
    match answers.first() {
        Some(EntryAnswer::Refused(RefusedEntry { error, details, .. }))
            if answers.iter().all(EntryAnswer::has_failed) =>
        {
            let (error, details) = (error.clone(), details.clone());
            Err(CallError { status: StatusCode::INTERNAL_SERVER_ERROR, error, details })
        }
        _ => Ok(answers),
    }
}

/// Whether a claim is for several tasks.
pub(super) fn is_claim(fields: &BodyFields) -> bool {
    fields.has("limit") || fields.has("types")
}

/// Takes the types of a claim of several tasks, and their maximum number.
pub(super) fn claim_limits(fields: &mut BodyFields) -> Result<(Vec<TypeLimit>, usize), CallError> {
    let limit = count(fields, "limit", MAX_TASKS)?;
    let limit = limit.ok_or_else(|| CallError::bad_request("Missing required field: limit"))?;
    let mut types = if fields.has("types") { type_limits(fields, limit)? } else { Vec::new() };
    let own =
        if types.is_empty() { Some(fields.required("task_type_id")?) } else { fields.optional("task_type_id")? };
    // A type of its own that is among the others has the limit that it has there.
    if let Some(type_id) = own.filter(|own| types.iter().all(|it| it.type_id != *own)) {
        types.push(TypeLimit { type_id, limit });
    }
    Ok((types, limit))
}

fn type_limits(fields: &mut BodyFields, limit: usize) -> Result<Vec<TypeLimit>, CallError> {
    let mut types: Vec<TypeLimit> = Vec::new();
    for (index, entry) in fields.entries("types", MAX_TYPES)?.into_iter().enumerate() {
        let mut entry = entry?;
        let type_id = entry.within("id", 1..=i64::MAX)?;
        let type_id =
            type_id.ok_or_else(|| CallError::bad_request(format!("Missing required field: types[{index}].id")))?;
        if types.iter().any(|it| it.type_id == type_id) {
            return Err(CallError::invalid(format!("Field 'types[{index}].id' repeats the ID {type_id}")));
        }
        let limit = count(&mut entry, "limit", usize::MAX)?.map_or(limit, |own| own.min(limit));
        types.push(TypeLimit { type_id, limit });
    }
    Ok(types)
}

/// Takes an optional number from 1 to `most`.
fn count(fields: &mut BodyFields, name: &str, most: usize) -> Result<Option<usize>, CallError> {
    let number = fields.within(name, 1..=i64::try_from(most).unwrap_or(i64::MAX))?;
    Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
}

/// A task that was reported, and the status that it got.
#[derive(Serialize)]
struct Reported {
    id: i64,
    status: &'static str,
}

/// `POST /tasks/complete`
pub(super) async fn complete(
    State(queue): State<SharedQueue>,
    mut fields: BodyFields,
) -> CallResult<BatchItems<impl Serialize>> {
    let worker_id = fields.name("worker_id")?;
    let (mut checked, mut reports) = (Vec::new(), Vec::new());
    for entry in fields.entries("results", MAX_TASKS)? {
        let mut entry = entry?;
        let StrictInteger(id) = entry.required("id")?;
        checked.push((id, report(&mut entry, queue.features).map(|report| reports.push((id, report)))));
    }
    let ids: Vec<i64> = reports.iter().map(|(id, _)| *id).collect();
    let mut statuses = queue.with_tasks(&ids, move |queue| queue.complete(&worker_id, reports)).await?.into_iter();
    let answer = |(id, checked): (i64, Result<(), CallError>)| {
        let status = match checked {
            Ok(()) => statuses.next()?.map_err(CallError::from),
            Err(invalid) => Err(invalid),
        };
        Some(EntryAnswer::of(Some(id), status.map(|status| Reported { id, status })))
    };
    Ok(Success(BatchItems { items: checked.into_iter().filter_map(answer).collect::<Vec<_>>() }))
}

/// A claim that was renewed.
#[derive(Serialize)]
struct Renewed {
    id: i64,
    expires_in: Seconds,
}

/// `POST /tasks/renew`
pub(super) async fn renew(
    State(queue): State<SharedQueue>,
    mut fields: BodyFields,
) -> CallResult<BatchItems<impl Serialize>> {
    let worker_id = fields.name("worker_id")?;
    let mut ids = Vec::new();
    for (index, id) in fields.list("ids", MAX_RENEWED)?.into_iter().enumerate() {
        let wrong_type = || CallError::invalid(format!("Field 'ids[{index}]' must be of type {}", StrictInteger::TYPE));
        let StrictInteger(id) = StrictInteger::from_json(id).ok_or_else(wrong_type)?;
        ids.push(id);
    }
    let to_renew = ids.clone();
    let renewed = queue.with_tasks(&ids, move |queue| queue.renew(&to_renew, &worker_id)).await?;
    let answer = |(id, renewed): (i64, Result<Duration, Refusal>)| {
        let renewed = renewed.map(|timeout| Renewed { id, expires_in: Seconds(timeout) });
        EntryAnswer::of(Some(id), renewed.map_err(CallError::from))
    };
    Ok(Success(BatchItems { items: ids.into_iter().zip(renewed).map(answer).collect::<Vec<_>>() }))
}

/// `POST /tasks` with several tasks.
pub(super) async fn create(queue: SharedQueue, mut fields: BodyFields) -> Result<Response, CallError> {
    let entries = fields.entries("tasks", MAX_CREATED)?;
    let (count, large) = (entries.len(), queue.large.clone());
    let create = async move {
        let held = queue.room_for_answer(count * CREATED)?;
        let mut checked = Vec::with_capacity(count);
        for entry in entries {
            checked.push(check(&queue, entry).await);
        }
        let items = create_all(&mut *queue.lock().await, checked)?;
        let mut answer = Success(BatchItems { items }).into_response();
        answer.extensions_mut().insert(held);
        Ok(answer)
    };
    if count > MANY { large.run(create).await } else { create.await }
}

async fn check(queue: &SharedQueue, entry: Result<BodyFields, CallError>) -> Result<CheckedTask, CallError> {
    Ok(queue.check(task_request(&mut entry?)?).await?)
}

fn create_all(
    queue: &mut Queue,
    tasks: Vec<Result<CheckedTask, CallError>>,
) -> Result<Vec<EntryAnswer<CreatedTask>>, CallError> {
    let create = |task: Result<CheckedTask, CallError>| {
        EntryAnswer::of(None, task.and_then(|task| queue.create(task).map_err(CallError::from)))
    };
    answers(tasks.into_iter().map(create))
}
