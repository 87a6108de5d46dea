//! Reads fields of answers, in the forms that servers use.

use serde_json::{Map, Value};

pub(super) fn take(data: &mut Value, key: &str) -> Option<Value> {
    data.get_mut(key).map(Value::take)
}

pub(super) fn text(data: &Value, key: &str) -> Result<String, String> {
    optional_text(data, key).ok_or_else(|| format!("{key} is missing"))
}

pub(super) fn optional_text(data: &Value, key: &str) -> Option<String> {
    data.get(key)?.as_str().map(str::to_owned)
}

pub(super) fn number(data: &Value, key: &str) -> Result<u64, String> {
    let number = integer(&data[key]).ok_or_else(|| format!("{key} is not a number"))?;
    u64::try_from(number).map_err(|_| format!("{key} is negative"))
}

/// Returns the number of attempts, at most `u32::MAX`.
pub(super) fn attempts(data: &Value) -> Result<u32, String> {
    let digits = match &data["attempts"] {
        Value::Number(number) => number.as_str(),
        Value::String(digits) => digits,
        _ => "",
    };
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole { Ok(digits.parse().unwrap_or(u32::MAX)) } else { Err("attempts is not a number".into()) }
}

/// Returns a whole number, which servers write as a number or as a string.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Turns an empty list or null into an empty object: the published server cannot tell `{}` from `[]`.
pub(super) fn object(value: Value) -> Value {
    match value {
        Value::Null => Value::Object(Map::new()),
        Value::Array(items) if items.is_empty() => Value::Object(Map::new()),
        other => other,
    }
}
