//! Makes an outcome of what a handler printed and of how it left.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Everything};
use super::interruption::with_last_words;
use super::process::Exit;
use super::session::Ended;
use super::{Listener, misplaced, not_before};
use crate::json::{self, JsonError};
use crate::task::{ErrorType, Failure, Outcome};
use crate::text_file;

/// The outcome of a child whose exit and output are its answer. `listener` hears what in it makes no sense.
pub(super) fn outcome(ended: Ended<Everything>, listener: &dyn Listener) -> Outcome {
    let Ended { exit, interruption, stdout, last_words, .. } = ended;
    if let Some(interruption) = interruption {
        return interruption.outcome(&last_words);
    }
    let failure = by_exit(&exit, &last_words);
    let outcome = match printed(&stdout.bytes) {
        Ok(Value::Object(envelope)) if is_envelope(&envelope) => {
            let not_before = not_before::read(envelope.get("not_before"), listener);
            Outcome { not_before, ..by_envelope(envelope, failure, &last_words) }
        }
        Ok(data) => Outcome { failure, ..Outcome::success(data) },
        Err(problem) => unreadable(problem, &stdout.bytes, failure, &last_words),
    };
    with_untold(outcome, last_words)
}

/// The outcome of a task whose answer is one line.
pub(super) fn outcome_of_answer(envelope: Map<String, Value>, last_words: String, listener: &dyn Listener) -> Outcome {
    let not_before = not_before::read(envelope.get("not_before"), listener);
    with_untold(Outcome { not_before, ..by_envelope(envelope, None, &last_words) }, last_words)
}

/// The outcome of a child that should have lived on.
pub(super) fn outcome_of_end(ended: Ended<Answer<'_>>, listener: &dyn Listener) -> Outcome {
    let Ended { exit, interruption, stdout, last_words, .. } = ended;
    if let Some(interruption) = interruption {
        return interruption.outcome(&last_words);
    }
    if let Some(envelope) = stdout.envelope {
        return outcome_of_answer(envelope, last_words, listener);
    }
    let failure = by_exit(&exit, &last_words).unwrap_or_else(|| {
        let error = with_last_words("exited with code 0 before answering".into(), &last_words);
        failure(ErrorType::Handler, error)
    });
    failure.into()
}

/// What a handler means by printing `value` and leaving in order. People who work a task by hand say it the same way.
#[must_use]
pub(crate) fn outcome_of(value: Value) -> Outcome {
    match value {
        Value::Object(envelope) if is_envelope(&envelope) => by_envelope(envelope, None, ""),
        data => Outcome::success(data),
    }
}

fn is_envelope(object: &Map<String, Value>) -> bool {
    object.get("success").is_some_and(Value::is_boolean)
}

/// What was printed, as JSON: text becomes `{"output": text}`, nothing becomes null. The error is that it was meant to
/// be JSON and cannot be read: taken for text, a failure that it tells of would be a success.
fn printed(stdout: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(stdout);
    let text = json::without_mark(&text);
    if text.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    if text_file::is_utf_16(stdout) {
        return Err("output is UTF-16 or UTF-32, not UTF-8".to_owned());
    }
    let plain = Some(misplaced::without_colours(text)).filter(|plain| json::starts_like_object(plain.as_bytes()));
    match json::read(plain.unwrap_or(text)) {
        Ok(value) => Ok(value),
        Err(error) if plain.is_some() || json::starts_like_object(stdout) => Err(format!("output is {error}")),
        Err(error @ JsonError::Limit(_)) if text.trim_start().starts_with('[') => Err(format!("output is {error}")),
        Err(_) => misplaced::find(&json::mended(text)).map_or_else(|| Ok(as_text(text)), Err),
    }
}

fn as_text(text: &str) -> Value {
    json!({"output": text.trim_end_matches('\n')})
}

/// The outcome of a child whose output cannot be read. What it printed is kept as text.
fn unreadable(problem: String, stdout: &[u8], by_exit: Option<Failure>, last_words: &str) -> Outcome {
    let failure = by_exit.unwrap_or_else(|| failure(ErrorType::Handler, with_last_words(problem, last_words)));
    let text = String::from_utf8_lossy(stdout);
    Outcome { failure: Some(failure), ..Outcome::success(as_text(json::without_mark(&text))) }
}

/// What the exit says by itself.
fn by_exit(exit: &Exit, last_words: &str) -> Option<Failure> {
    let (error_type, error) = match exit {
        Exit::Code(0) => return None,
        Exit::Code(code) if last_words.is_empty() => (by_code(*code), format!("exit code {code}")),
        Exit::Code(code) => (by_code(*code), last_words.to_owned()),
        Exit::Signal(signal) => (ErrorType::Crash, with_last_words(format!("killed by signal {signal}"), last_words)),
    };
    Some(failure(error_type, error))
}

/// What an exit code other than 0 means, by the names of sysexits.h.
fn by_code(code: i32) -> ErrorType {
    match code {
        65 => ErrorType::Validation,
        69 => ErrorType::Connection,
        75 => ErrorType::Temporary,
        78 => ErrorType::Configuration,
        _ => ErrorType::Handler,
    }
}

/// What the handler says itself. It is believed when it says that it failed; that it succeeded, its exit must confirm.
fn by_envelope(mut envelope: Map<String, Value>, by_exit: Option<Failure>, last_words: &str) -> Outcome {
    let failure = if envelope.get("success") == Some(&Value::Bool(true)) {
        by_exit
    } else {
        let unexplained = if last_words.is_empty() { "handler failed without an error message" } else { last_words };
        Some(failure_in(&envelope, by_exit.unwrap_or_else(|| failure(ErrorType::Handler, unexplained.into()))))
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
        last_words: String::new(),
    }
}

/// `outcome` with the handler's last words, unless its failure tells them already.
fn with_untold(outcome: Outcome, last_words: String) -> Outcome {
    let are_told = outcome.failure.as_ref().is_some_and(|failure| failure.error.contains(&last_words));
    if are_told { outcome } else { Outcome { last_words, ..outcome } }
}

/// The failure that `words` describe by `error`, `error_type` and `retryable`; `default` says what they leave out.
pub(super) fn failure_in(words: &Map<String, Value>, default: Failure) -> Failure {
    let text = |name| words.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let error = match words.get("error") {
        // Better any words than none.
        Some(error @ (Value::Object(_) | Value::Array(_))) => error.to_string(),
        _ => text("error").map_or(default.error, str::to_owned),
    };
    let (error_type, retryable) = match text("error_type").map(ErrorType::from) {
        Some(error_type) => (error_type.clone(), error_type.is_retryable()),
        None => (default.error_type, default.retryable),
    };
    Failure { error, error_type, retryable: words.get("retryable").and_then(Value::as_bool).unwrap_or(retryable) }
}

/// A failure, retryable as its type says.
pub(super) fn failure(error_type: ErrorType, error: String) -> Failure {
    Failure { retryable: error_type.is_retryable(), error_type, error }
}
