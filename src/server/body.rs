//! Reads request bodies: JSON objects, field by field.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Map, Value};

use super::envelope::CallError;
use super::large_calls::LARGE;
use super::queue::SharedQueue;
use crate::http::ConnectionHandle;
use crate::json;
use crate::name::{self, MAX_NAME};

/// Maximum size of a body: the longest params or result, and the other fields.
const MAX_BYTES: usize = json::MAX_BYTES + 64 * 1024;

/// Maximum length of an error or a message in a report, in bytes: the size of a column of the published server.
const MAX_TEXT: usize = 65_535;

/// Maximum length of a body that is read and discarded, so that its sender gets the answer.
const MAX_DISCARDED: usize = 4 * MAX_BYTES;

/// The fields of a request body, or of an entry of a list in it. Null counts as absent.
pub(super) struct BodyFields {
    values: Map<String, Value>,
    /// Where they are in the body: empty, or such as `results[3].`.
    place: String,
}

impl<S: Sync> FromRequest<S> for BodyFields {
    type Rejection = CallError;

    async fn from_request(request: Request, _: &S) -> Result<Self, CallError> {
        let body = read(request.into_body()).await?;
        Ok(Self { values: Self::parse(&body)?, place: String::new() })
    }
}

impl BodyFields {
    fn parse(body: &[u8]) -> Result<Map<String, Value>, CallError> {
        match json::read_message(body) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(CallError::invalid("The request body must be of type object")),
            Err(error) => Err(CallError {
                details: vec![format!("The request body is {error}")],
                ..CallError::bad_request("Invalid JSON in request body")
            }),
        }
    }

    /// Takes a field of any type.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// Takes an optional field.
    pub(super) fn optional<T: FieldType>(&mut self, name: &str) -> Result<Option<T>, CallError> {
        let value = self.any(name);
        let wrong_type = || CallError::invalid(format!("Field '{}{name}' must be of type {}", self.place, T::TYPE));
        value.map(|value| T::from_json(value).ok_or_else(wrong_type)).transpose()
    }

    /// Takes a required field.
    pub(super) fn required<T: FieldType>(&mut self, name: &str) -> Result<T, CallError> {
        let value = self.optional(name)?;
        value.ok_or_else(|| CallError::bad_request(format!("Missing required field: {}{name}", self.place)))
    }

    /// Whether there is a field of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes an optional integer in a range.
    pub(super) fn within(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, CallError> {
        let Some(StrictInteger(number)) = self.optional(name)? else { return Ok(None) };
        let (place, least, most) = (&self.place, range.start(), range.end());
        if number < *least {
            Err(CallError::invalid(format!("Field '{place}{name}' must be at least {least}")))
        } else if number > *most {
            Err(CallError::invalid(format!("Field '{place}{name}' must be at most {most}")))
        } else {
            Ok(Some(number))
        }
    }

    /// Takes a list of 1 to `most` values of any type.
    pub(super) fn list(&mut self, name: &str, most: usize) -> Result<Vec<Value>, CallError> {
        let values: Vec<Value> = self.required(name)?;
        match values.len() {
            0 => Err(CallError::invalid(format!("Field '{name}' must have at least 1 entry"))),
            count if count > most => {
                Err(CallError::invalid(format!("Field '{name}' must have at most {most} entries; it has {count}")))
            }
            _ => Ok(values),
        }
    }

    /// Takes a list of 1 to `most` objects. The error of an entry that is not an object says where it is.
    pub(super) fn entries(&mut self, name: &str, most: usize) -> Result<Vec<Result<Self, CallError>>, CallError> {
        let entry = |(index, value)| {
            let not_an_object = || CallError::invalid(format!("Field '{name}[{index}]' must be of type object"));
            let values = Map::from_json(value).ok_or_else(not_an_object)?;
            Ok(Self { values, place: format!("{name}[{index}].") })
        };
        Ok(self.list(name, most)?.into_iter().enumerate().map(entry).collect())
    }

    /// Takes a required name: a string or a number that is not blank. Returns it trimmed.
    pub(super) fn name(&mut self, name: &str) -> Result<String, CallError> {
        let Scalar(text) = self.required(name)?;
        self.check_name(name, text)
    }

    /// Takes a required string that is a name. Returns it trimmed.
    pub(super) fn text_name(&mut self, name: &str) -> Result<String, CallError> {
        let text = self.required(name)?;
        self.check_name(name, text)
    }

    fn check_name(&self, name: &str, text: String) -> Result<String, CallError> {
        if self.place.is_empty() { check_name(name, text) } else { check_name(&format!("{}{name}", self.place), text) }
    }

    /// Takes a worker's id, which must be a string.
    pub(super) fn worker_id(&mut self) -> Result<String, CallError> {
        worker_id(self.optional("worker_id")?)
    }

    /// Takes an optional string that may be blank. Returns it trimmed.
    pub(super) fn keyword(&mut self, name: &str) -> Result<Option<String>, CallError> {
        let Some(Scalar(text)) = self.optional(name)? else { return Ok(None) };
        let text = text.trim_matches(BLANK);
        if text.is_empty() { Ok(Some(String::new())) } else { self.check_name(name, text.to_owned()).map(Some) }
    }

    /// Takes a schema: an object, or one as a JSON string.
    pub(super) fn schema(&mut self, name: &str) -> Result<Map<String, Value>, CallError> {
        if let Some(Value::String(text)) = self.values.get(name).filter(|text| **text != "") {
            let invalid = |error| CallError {
                details: vec![format!("Field '{name}' is {error}")],
                ..CallError::bad_request("Invalid JSON schema format")
            };
            let schema = json::read(text).map_err(invalid)?;
            self.values.insert(name.to_owned(), schema);
        }
        self.required(name)
    }

    /// Takes an optional free text. Values of other types are converted to text.
    pub(super) fn free_text(&mut self, name: &str) -> Result<Option<String>, CallError> {
        let text = match self.any(name) {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => return Ok(None),
        };
        if text.len() > MAX_TEXT {
            return Err(CallError::invalid(format!("Field '{}{name}' is longer than {MAX_TEXT} bytes", self.place)));
        }
        Ok(Some(text))
    }

    /// Takes an optional value of any type as text in canonical form, if its nesting and size are within the limits.
    pub(super) fn json_text(&mut self, name: &str, max_depth: usize) -> Result<Option<String>, CallError> {
        let Some(value) = self.any(name) else { return Ok(None) };
        let beyond_limit = |error| CallError::invalid(format!("Field '{}{name}' is {error}", self.place));
        json::text_within(&value, max_depth).map(Some).map_err(beyond_limit)
    }
}

/// Characters that are trimmed.
const BLANK: [char; 6] = [' ', '\t', '\n', '\r', '\0', '\x0b'];

/// Checks a worker's id.
pub(super) fn worker_id(given: Option<String>) -> Result<String, CallError> {
    let given = given.filter(|id| !id.trim_matches(BLANK).is_empty());
    check_name("worker_id", given.ok_or_else(|| CallError::invalid("Worker ID is required"))?)
}

/// Trims a name and rejects long ones and control characters, since lists and logs repeat names many times.
pub(super) fn check_name(field: &str, name: String) -> Result<String, CallError> {
    let trimmed = name.trim_matches(BLANK);
    let wrong = match trimmed {
        "" => "must not be empty".to_owned(),
        _ if trimmed.len() > MAX_NAME => format!("is longer than {MAX_NAME} bytes"),
        _ if trimmed.contains(char::is_control) => "must not contain control characters".to_owned(),
        _ => match name::hidden(trimmed) {
            Some(hidden) => format!("must not contain the invisible character {hidden}"),
            None if trimmed.len() < name.len() => return Ok(trimmed.to_owned()),
            None => return Ok(name),
        },
    };
    Err(CallError::invalid(format!("Field '{field}' {wrong}")))
}

/// The type of a field.
pub(super) trait FieldType: Sized {
    /// The name of the JSON type.
    const TYPE: &'static str;

    fn from_json(value: Value) -> Option<Self>;
}

impl FieldType for String {
    const TYPE: &'static str = "string";

    fn from_json(value: Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

/// A string, or a value that the published server converts to one.
pub(super) struct Scalar(String);

impl FieldType for Scalar {
    const TYPE: &'static str = "string";

    fn from_json(value: Value) -> Option<Self> {
        Some(Self(match value {
            Value::String(text) => text,
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= 1e15 => format!("{float:.0}"),
                _ => number.to_string(),
            },
            Value::Bool(true) => "1".to_owned(),
            Value::Bool(false) => String::new(),
            _ => return None,
        }))
    }
}

/// An integer without conversions.
pub(super) struct StrictInteger(pub(super) i64);

impl FieldType for StrictInteger {
    const TYPE: &'static str = "integer";

    fn from_json(value: Value) -> Option<Self> {
        value.as_i64().map(Self)
    }
}

/// An integer, or what PHP's `intval` makes of any other value: the published server reads integers with it.
impl FieldType for i64 {
    const TYPE: &'static str = "integer";

    // A float out of range becomes the nearest integer.
    #[allow(clippy::cast_possible_truncation)]
    fn from_json(value: Value) -> Option<Self> {
        Some(match value {
            Value::String(text) => integer(&text),
            Value::Number(number) => number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64),
            other => is_truthy(&other).into(),
        })
    }
}

/// Returns the integer that a text begins with, as PHP's `intval` reads it: `10 tasks` is 10, `1e3` is 1000, and a text
/// that begins with no number is 0.
// A float out of range becomes the nearest integer.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn integer(text: &str) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let number = &text[..number_length(text.as_bytes())];
    let float = || number.parse::<f64>().ok().filter(|float| float.is_finite()).map_or(0, |float| float as i64);
    number.parse().unwrap_or_else(|_| float())
}

/// Returns the length of the number that a text begins with: a sign, digits, a fraction, an exponent.
fn number_length(text: &[u8]) -> usize {
    let sign_at = |at: usize| usize::from(matches!(text.get(at), Some(b'+' | b'-')));
    let digits_at = |at: usize| text.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = sign_at(0);
    end += digits_at(end);
    if text.get(end) == Some(&b'.') {
        end += 1 + digits_at(end + 1);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let power = end + 1 + sign_at(end + 1);
        let digits = digits_at(power);
        end = if digits > 0 { power + digits } else { end };
    }
    end
}

/// A boolean, or any other value as PHP converts it to one.
impl FieldType for bool {
    const TYPE: &'static str = "boolean";

    fn from_json(value: Value) -> Option<Self> {
        Some(is_truthy(&value))
    }
}

/// Whether PHP converts a value to true, which it does with the text `false`.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !["", "0"].contains(&text.as_str()),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

impl FieldType for Vec<Value> {
    const TYPE: &'static str = "array";

    fn from_json(value: Value) -> Option<Self> {
        if let Value::Array(items) = value { Some(items) } else { None }
    }
}

impl FieldType for Map<String, Value> {
    const TYPE: &'static str = "object";

    fn from_json(value: Value) -> Option<Self> {
        if let Value::Object(fields) = value { Some(fields) } else { None }
    }
}

/// Reads and discards a body.
pub(super) async fn discard(mut body: Body) {
    let mut length = 0;
    while length <= MAX_BYTES
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Reads the body of a POST and runs the call; a large one in the large-call threads. Its memory stays reserved until it is
/// answered.
pub(super) async fn read_and_run(queue: &SharedQueue, request: Request, next: Next) -> Result<Response, CallError> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    // Claims have small bodies and may wait long, so they take no permit.
    let is_claim = request.uri().path().trim_end_matches('/').ends_with("/claim");
    let (parts, body) = request.into_parts();
    let mut reservation = None;
    let body = read_within(body, |length| queue.bodies.reserve(&mut reservation, length)).await?;
    let is_large = body.len() > LARGE;
    let connection = parts.extensions.get::<ConnectInfo<ConnectionHandle>>().map(|ConnectInfo(it)| it.clone());
    let call = next.run(Request::from_parts(parts, Body::from(body)));
    if !is_large {
        return Ok(call.await);
    }
    let _pause = connection.as_ref().map(ConnectionHandle::pause_timeout);
    let permit = if is_claim { None } else { queue.large.permit().await };
    let call = async move {
        let answer = call.await;
        drop((permit, reservation));
        answer
    };
    Ok(queue.large.run(call).await)
}

/// Reads a body.
pub(super) async fn read(body: Body) -> Result<Vec<u8>, CallError> {
    read_within(body, |_| true).await
}

/// Reads a body. `has_room` is called with its length as it grows; if it returns false, reading fails.
pub(super) async fn read_within(mut body: Body, mut has_room: impl FnMut(usize) -> bool) -> Result<Vec<u8>, CallError> {
    let (mut bytes, mut length, mut is_kept) = (Vec::new(), 0, true);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| CallError::bad_request("The request body ended early"))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        is_kept = is_kept && length <= MAX_BYTES && has_room(length);
        if is_kept {
            bytes.extend_from_slice(data);
        } else if length > MAX_DISCARDED {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if is_kept {
        return Ok(bytes);
    }
    if length <= MAX_BYTES {
        let message = "Too many large requests at once. Please try again in a few seconds.";
        return Err(CallError::new(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    let message = format!("The request body is larger than {MAX_BYTES} bytes");
    Err(CallError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
}
