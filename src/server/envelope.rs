//! The envelopes of answers.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::error::Refusal;
use super::memory_budget::TOO_MANY_LARGE_ANSWERS;
use crate::sqlite;

/// The data of a successful answer.
pub(super) struct Success<T>(pub(super) T);

#[derive(Serialize)]
pub(super) struct Envelope<T> {
    success: bool,
    message: &'static str,
    data: T,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

/// The effective values, which may differ from the requested ones.
#[derive(Serialize)]
struct Pagination {
    limit: i64,
    offset: i64,
}

impl<T> Success<T> {
    pub(super) fn envelope(self) -> Envelope<T> {
        let timestamp = Timestamp::now().as_second();
        Envelope { success: true, message: "Success", data: self.0, timestamp, pagination: None }
    }

    /// Adds the pagination of a list.
    pub(super) fn part(self, limit: i64, offset: i64) -> Envelope<T> {
        Envelope { pagination: Some(Pagination { limit, offset }), ..self.envelope() }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        self.envelope().into_response()
    }
}

impl<T: Serialize> IntoResponse for Envelope<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            // Another program wrote invalid values into the file.
            Err(error) => CallError::internal(&error).into_response(),
        }
    }
}

#[derive(Serialize)]
struct ErrorEnvelope {
    success: bool,
    error: String,
    timestamp: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

/// An error answer.
#[derive(Debug)]
pub(super) struct CallError {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) details: Vec<String>,
}

impl CallError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), details: Vec::new() }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// A field of the body or the query is invalid; `detail` says which and why.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self { details: vec![detail.into()], ..Self::bad_request("Validation failed") }
    }

    /// There is not enough memory for another large answer.
    pub(super) fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_LARGE_ANSWERS)
    }

    /// The database failed; `error` says how. Whoever called is the one to learn that the disk is full.
    pub(super) fn internal(error: &impl ToString) -> Self {
        Self {
            details: vec![error.to_string()],
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        let not_found = |error| Self::new(StatusCode::NOT_FOUND, error);
        match refusal {
            Refusal::TypeNotFound => not_found("Task type not found"),
            Refusal::UnknownType(id) => {
                let detail = format!("There is no task type with the ID {id}");
                Self { details: vec![detail], ..not_found("Task type not found") }
            }
            Refusal::TaskNotFound => not_found("Task not found"),
            Refusal::NoTask => not_found("No available tasks"),
            Refusal::TypeNotActive => Self::bad_request("Task type is not active"),
            Refusal::BadSchema(why) => Self::bad_request(format!("Invalid JSON schema: {why}")),
            Refusal::BadParams(why) => Self::bad_request(format!("Parameter validation failed: {why}")),
            Refusal::Busy(why) => {
                Self { details: vec![why], ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too busy, try again later") }
            }
            Refusal::BeyondLimit(why) => Self::invalid(why),
            Refusal::NoRoom | Refusal::Large => Self::overloaded(),
            Refusal::NotClaimed => Self::bad_request("Task is not in claimed state"),
            Refusal::NotFailed => Self::bad_request("Task is not in failed state"),
            Refusal::ClaimedByAnother => Self::new(StatusCode::FORBIDDEN, "Task is claimed by another worker"),
            Refusal::AttemptOver => Self::new(StatusCode::CONFLICT, "Attempt is over"),
            Refusal::Database(error) => Self::internal(&sqlite::message(&error)),
        }
    }
}

impl IntoResponse for CallError {
    fn into_response(self) -> Response {
        let timestamp = Timestamp::now().as_second();
        let body = ErrorEnvelope { success: false, error: self.error, timestamp, details: self.details };
        let is_busy = self.status == StatusCode::SERVICE_UNAVAILABLE;
        (self.status, is_busy.then_some([(header::RETRY_AFTER, BUSY_FOR)]), Json(body)).into_response()
    }
}

/// `Retry-After` of a busy server, in seconds.
const BUSY_FOR: &str = "2";

/// An error before the call was handled. It has another format than all other errors.
pub(super) struct AccessDenied {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
    pub(super) retry_after: Option<Duration>,
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        let error = self.status.canonical_reason();
        let body = json!({"error": error, "message": self.message, "timestamp": zoned_now()});
        // Rounded up, so that the client does not retry too early.
        let seconds = self.retry_after.map(|wait| wait.as_millis().div_ceil(1000).to_string());
        (self.status, seconds.map(|seconds| [(header::RETRY_AFTER, seconds)]), Json(body)).into_response()
    }
}

/// Returns the current time in the format of these errors.
pub(super) fn zoned_now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// The content type of the published server's early errors, although they are JSON.
pub(super) const NOT_QUITE_HTML: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/html; charset=UTF-8");

/// Returns the error page of a reverse proxy.
pub(super) fn proxy_page(status: StatusCode, title: &str) -> Response {
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
         <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
}
