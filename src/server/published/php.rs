//! JSON as a server written in PHP reads, stores and writes it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value, json};

use super::PublishedCall;
use crate::server::body::is_truthy;

/// Converts the fields of a call as PHP reads them: no priority, `{}` becomes `[]`, and a falsy result counts as absent.
pub(super) fn read(call: &PublishedCall, fields: &mut Map<String, Value>) {
    match call {
        PublishedCall::Create => {
            fields.remove("priority");
            if fields.get("params") == Some(&json!({})) {
                fields.insert("params".to_owned(), json!([]));
            }
        }
        PublishedCall::Complete(_) => fields.retain(|name, value| name != "result" || is_truthy(value)),
        _ => {}
    }
}

/// Returns a value as it comes back after it was stored: empty objects become empty lists, 1.0 becomes 1, and integers of
/// more than 64 bits become floats.
pub(super) fn stored(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.is_empty() => Value::Array(Vec::new()),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), stored(value))).collect(),
        Value::Array(items) => items.iter().map(stored).collect(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => whole(float).map_or(Value::from(float), Value::from),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Returns the integer that is written for a float.
fn whole(float: f64) -> Option<i64> {
    // Larger floats are written with an exponent; smaller whole numbers fit into an i64.
    #[allow(clippy::cast_possible_truncation)]
    (float.fract() == 0.0 && float.abs() < 1e17).then_some(float as i64)
}

/// Encodes a value as JSON.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::new();
    // Writing JSON values to memory cannot fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut json, Php));
    json
}

/// Writes floats as PHP does.
struct Php;

impl Formatter for Php {
    fn write_number_str<W: ?Sized + Write>(&mut self, writer: &mut W, value: &str) -> io::Result<()> {
        match (value.parse::<i64>(), value.parse::<f64>()) {
            (Err(_), Ok(float)) if float.is_finite() => self.write_f64(writer, float),
            _ => writer.write_all(value.as_bytes()),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let scientific = format!("{value:e}");
        match scientific.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
            Some((mantissa, Ok(exponent))) if !(-4..17).contains(&exponent) => {
                let point = if mantissa.contains('.') { "" } else { ".0" };
                write!(writer, "{mantissa}{point}e{exponent:+}")
            }
            _ => write!(writer, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_change_as_they_are_stored() {
        for (sent, back) in [
            (r#"{"a":{},"b":[{}],"c":[]}"#, r#"{"a":[],"b":[[]],"c":[]}"#),
            ("[1.0,-2.0,0.5,1e3]", "[1,-2,0.5,1000]"),
            ("12345678901234567890", "1.2345678901234567e+19"),
            ("[9223372036854775807,-9223372036854775808]", "[9223372036854775807,-9223372036854775808]"),
            ("[1e25,1e-7,0.0001]", "[1.0e+25,1.0e-7,0.0001]"),
            (r#"["ž\n/",null,true]"#, r#"["ž\n/",null,true]"#),
        ] {
            let sent: Value = serde_json::from_str(sent).unwrap();
            assert_eq!(String::from_utf8(encode(&stored(&sent))).unwrap(), back);
        }
    }
}
