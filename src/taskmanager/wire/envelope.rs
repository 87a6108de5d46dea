//! Decodes the envelopes of answers, and tells errors apart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::json;
use crate::retry_after;
use crate::taskmanager::Error;
use crate::taskmanager::http::{MAX_ANSWER, Response, TIMED_OUT};

/// Decodes the answer to a call. Returns the `data` of the envelope, or the whole body if there is no envelope.
pub(in crate::taskmanager) fn decode(
    url: &str,
    call: &str,
    key: Option<&str>,
    response: &Response,
) -> Result<Value, Error> {
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
        _ => {
            let retry_after = retry_after(response, &body);
            error_of(url, call, status, message, retry_after)
        }
    })
}

/// Returns the error that a status stands for.
fn error_of(url: String, call: &str, status: u16, message: String, retry_after: Option<Duration>) -> Error {
    match status {
        TIMED_OUT | 429 | 502..=504 => Error::Unavailable { url, status, reason: message, retry_after },
        500 if !is_final(call, &message) => Error::Unavailable { url, status, reason: message, retry_after: None },
        _ => Error::Refused { status, message },
    }
}

/// Returns the error in an entry of the answer to a batch, if it is one.
pub(in crate::taskmanager) fn entry_error(url: &str, key: Option<&str>, entry: &Value) -> Option<Error> {
    let message = sanitize(&error_text(entry)?, key);
    let status = entry["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(400);
    Some(error_of(url.to_owned(), "", status, message, None))
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
pub(in crate::taskmanager) const CLAIM: &str = "/tasks/claim";

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
pub(in crate::taskmanager) fn is_empty_queue(error: &Error) -> bool {
    match error {
        Error::Refused { status: 404, message } => message.contains("No available tasks"),
        Error::Refused { status: 500, message } => message.contains(NO_TRANSACTION),
        _ => false,
    }
}
