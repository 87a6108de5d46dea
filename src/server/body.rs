//! Reading a request's body: a JSON object, field by field.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::envelope::Failure;
use crate::json;

/// Params or a result of the longest, and what surrounds them.
const MAX_BYTES: usize = json::MAX_BYTES + 64 * 1024;

/// The longest name of a type, version, or worker's id, in bytes.
const MAX_NAME: usize = 255;

/// How much of a body that is too large is still read, so that its sender gets to see the answer.
const MAX_DISCARDED: usize = 4 * MAX_BYTES;

/// The fields of a request's body. Null counts as absent.
pub(super) struct Fields(Map<String, Value>);

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        Self::parse(&read(request.into_body()).await?)
    }
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Failure> {
        match json::read_message(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Failure::invalid("The request body must be of type object")),
            Err(error) => Err(Failure {
                details: vec![format!("The request body is {error}")],
                ..Failure::bad_request("Invalid JSON in request body")
            }),
        }
    }

    /// Takes a field of any type.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field that may be absent.
    pub(super) fn optional<T: Field>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let wrong_type = || Failure::invalid(format!("Field '{name}' must be of type {}", T::TYPE));
        self.any(name).map(|value| T::from_json(value).ok_or_else(wrong_type)).transpose()
    }

    /// Takes a field that must be there.
    pub(super) fn required<T: Field>(&mut self, name: &str) -> Result<T, Failure> {
        self.optional(name)?.ok_or_else(|| Failure::bad_request(format!("Missing required field: {name}")))
    }

    /// Takes a text that must be there and say something.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Failure> {
        let text: String = self.required(name)?;
        if text.is_empty() { Err(Failure::invalid(format!("Field '{name}' must not be empty"))) } else { Ok(text) }
    }
}

/// Refuses a name that is too long: lists show it many times over.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Failure> {
    let error = || Failure::invalid(format!("Field '{field}' is longer than {MAX_NAME} bytes"));
    if name.len() > MAX_NAME { Err(error()) } else { Ok(()) }
}

/// What a field can hold.
pub(super) trait Field: Sized {
    /// JSON's name for it.
    const TYPE: &'static str;

    fn from_json(value: Value) -> Option<Self>;
}

impl Field for String {
    const TYPE: &'static str = "string";

    fn from_json(value: Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

impl Field for i64 {
    const TYPE: &'static str = "integer";

    fn from_json(value: Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Field for bool {
    const TYPE: &'static str = "boolean";

    fn from_json(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for Map<String, Value> {
    const TYPE: &'static str = "object";

    fn from_json(value: Value) -> Option<Self> {
        if let Value::Object(fields) = value { Some(fields) } else { None }
    }
}

/// Reads a body whole.
pub(super) async fn read(mut body: Body) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Failure::bad_request("The request body ended early"))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= MAX_BYTES {
            bytes.extend_from_slice(data);
        } else if length > MAX_DISCARDED {
            break;
        }
    }
    if length <= MAX_BYTES {
        return Ok(bytes);
    }
    let message = format!("The request body is larger than {MAX_BYTES} bytes");
    Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message))
}
