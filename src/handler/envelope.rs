//! Turns the output and the exit of a handler into an outcome.

use serde_json::{Map, Value, json};

use super::answer::{CapturedOutput, TaskAnswer};
use super::process::ChildExit;
use super::run::with_stderr_tail;
use super::session::EndedSession;
use super::{Listener, not_before, stray_envelope};
use crate::json::{self, JsonError};
use crate::task::{ErrorType, Failure, Outcome};
use crate::text_file;

/// Returns the outcome of a child that ran one task and exited. Invalid parts of its answer are reported to `listener`.
pub(super) fn outcome(ended: EndedSession<CapturedOutput>, listener: &dyn Listener) -> Outcome {
    let EndedSession { exit, interruption, stdout, stderr_tail, .. } = ended;
    if let Some(interruption) = interruption {
        return interruption.outcome(&stderr_tail);
    }
    let failure = exit_failure(&exit, &stderr_tail);
    let outcome = match parse_stdout(&stdout.bytes) {
        Ok(Value::Object(envelope)) if is_envelope(&envelope) => {
            let not_before = not_before::read(envelope.get("not_before"), listener);
            Outcome { not_before, ..envelope_outcome(envelope, failure, &stderr_tail) }
        }
        Ok(data) => Outcome { failure, ..Outcome::success(data) },
        Err(problem) => unreadable(problem, &stdout.bytes, failure, &stderr_tail),
    };
    attach_stderr_tail(outcome, stderr_tail)
}

/// Returns the outcome of a task that was answered by one line.
pub(super) fn outcome_of_answer(envelope: Map<String, Value>, stderr_tail: String, listener: &dyn Listener) -> Outcome {
    let not_before = not_before::read(envelope.get("not_before"), listener);
    attach_stderr_tail(Outcome { not_before, ..envelope_outcome(envelope, None, &stderr_tail) }, stderr_tail)
}

/// Returns the outcome of a task whose persistent process exited or was killed while it ran the task.
pub(super) fn outcome_of_end(ended: EndedSession<TaskAnswer<'_>>, listener: &dyn Listener) -> Outcome {
    let EndedSession { exit, interruption, stdout, stderr_tail, .. } = ended;
    if let Some(interruption) = interruption {
        return interruption.outcome(&stderr_tail);
    }
    if let Some(envelope) = stdout.envelope {
        return outcome_of_answer(envelope, stderr_tail, listener);
    }
    let failure = exit_failure(&exit, &stderr_tail).unwrap_or_else(|| {
        let error = with_stderr_tail("exited with code 0 before answering".into(), &stderr_tail);
        Failure::new(ErrorType::Handler, error)
    });
    failure.into()
}

/// Returns the outcome of a handler that prints `value` and exits with code 0. `complete` and `fail` read the same
/// format.
#[must_use]
pub(crate) fn outcome_of(value: Value) -> Outcome {
    match value {
        Value::Object(envelope) if is_envelope(&envelope) => envelope_outcome(envelope, None, ""),
        data => Outcome::success(data),
    }
}

fn is_envelope(object: &Map<String, Value>) -> bool {
    object.get("success").is_some_and(Value::is_boolean)
}

/// Parses standard output as JSON: text becomes `{"output": text}`, empty output becomes null.
///
/// Fails if the output looks like JSON but is not valid. Taken as text, an envelope that reports a failure would count
/// as success.
fn parse_stdout(stdout: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(stdout);
    let text = json::without_bom(&text);
    if text.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    if text_file::is_utf_16(stdout) {
        return Err("output is UTF-16 or UTF-32, not UTF-8".to_owned());
    }
    let plain = Some(stray_envelope::without_colours(text)).filter(|plain| json::starts_like_object(plain.as_bytes()));
    match json::read(plain.unwrap_or(text)) {
        Ok(value) => Ok(value),
        Err(error) if plain.is_some() || json::starts_like_object(stdout) => Err(format!("output is {error}")),
        Err(error @ JsonError::Limit(_)) if text.trim_start().starts_with('[') => Err(format!("output is {error}")),
        Err(_) => stray_envelope::find(&json::repaired(text)).map_or_else(|| Ok(as_text(text)), Err),
    }
}

fn as_text(text: &str) -> Value {
    json!({"output": text.trim_end_matches('\n')})
}

/// Returns the outcome of a child whose output is invalid. The output is kept as text.
fn unreadable(problem: String, stdout: &[u8], exit_failure: Option<Failure>, stderr_tail: &str) -> Outcome {
    let failure =
        exit_failure.unwrap_or_else(|| Failure::new(ErrorType::Handler, with_stderr_tail(problem, stderr_tail)));
    let text = String::from_utf8_lossy(stdout);
    Outcome { failure: Some(failure), ..Outcome::success(as_text(json::without_bom(&text))) }
}

/// Returns the failure that the exit alone indicates.
fn exit_failure(exit: &ChildExit, stderr_tail: &str) -> Option<Failure> {
    let (error_type, error) = match exit {
        ChildExit::Code(0) => return None,
        ChildExit::Code(code) if stderr_tail.is_empty() => (error_type_of_code(*code), format!("exit code {code}")),
        ChildExit::Code(code) => (error_type_of_code(*code), stderr_tail.to_owned()),
        ChildExit::Signal(signal) => {
            (ErrorType::Crash, with_stderr_tail(format!("killed by signal {signal}"), stderr_tail))
        }
    };
    Some(Failure::new(error_type, error))
}

/// Maps an exit code other than 0 to an error type, as sysexits.h names them.
fn error_type_of_code(code: i32) -> ErrorType {
    match code {
        65 => ErrorType::Validation,
        69 => ErrorType::Connection,
        75 => ErrorType::Temporary,
        78 => ErrorType::Configuration,
        _ => ErrorType::Handler,
    }
}

/// Reads an envelope. `"success": true` counts only if the exit code is 0, too; `"success": false` always counts.
fn envelope_outcome(mut envelope: Map<String, Value>, exit_failure: Option<Failure>, stderr_tail: &str) -> Outcome {
    let failure = if envelope.get("success") == Some(&Value::Bool(true)) {
        exit_failure
    } else {
        let unexplained = if stderr_tail.is_empty() { "handler failed without an error message" } else { stderr_tail };
        Some(failure_from_fields(
            &envelope,
            exit_failure.unwrap_or_else(|| Failure::new(ErrorType::Handler, unexplained)),
        ))
    };
    Outcome {
        failure,
        data: envelope.remove("data").unwrap_or_default(),
        message: envelope.get("message").and_then(Value::as_str).map(str::to_owned),
        metadata: match envelope.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        },
        not_before: None,
        stderr_tail: String::new(),
    }
}

/// Adds the stderr tail to `outcome`, unless its error contains it already.
fn attach_stderr_tail(outcome: Outcome, stderr_tail: String) -> Outcome {
    let is_included = outcome.failure.as_ref().is_some_and(|failure| failure.error.contains(&stderr_tail));
    if is_included { outcome } else { Outcome { stderr_tail, ..outcome } }
}

/// Returns the failure described by `error`, `error_type` and `retryable` in `fields`; missing ones come from `default`.
pub(super) fn failure_from_fields(fields: &Map<String, Value>, default: Failure) -> Failure {
    let text = |name| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let error = match fields.get("error") {
        // An unusual error text is better than none.
        Some(error @ (Value::Object(_) | Value::Array(_))) => error.to_string(),
        _ => text("error").map_or(default.error, str::to_owned),
    };
    let (error_type, retryable) = match text("error_type").map(ErrorType::from) {
        Some(error_type) => (error_type.clone(), error_type.is_retryable()),
        None => (default.error_type, default.retryable),
    };
    Failure { error, error_type, retryable: fields.get("retryable").and_then(Value::as_bool).unwrap_or(retryable) }
}
