//! Params of tasks: their schemas, and the key by which the same task is known again.

use std::collections::HashMap;
use std::fmt::Write;

use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A long array may break its schema in each of its items.
const MOST_FAULTS: usize = 50;

/// The compiled JSON Schemas, by type. One is compiled again when its text has changed.
#[derive(Default)]
pub(super) struct Schemas {
    compiled: HashMap<i64, (String, Validator)>,
}

impl Schemas {
    /// Checks `params` against the type's schema. The error says what is wrong and where in the params, as a JSON
    /// pointer.
    pub(super) fn check(&mut self, type_id: i64, schema: &str, params: &Value) -> Result<(), String> {
        self.of(type_id, schema)?.validate(params).map_err(|error| told(&error))
    }

    /// The same for all that is wrong, as far as people read.
    pub(super) fn faults(&mut self, type_id: i64, schema: &str, params: &Value) -> Vec<String> {
        match self.of(type_id, schema) {
            Ok(schema) => schema.iter_errors(params).take(MOST_FAULTS).map(|error| told(&error)).collect(),
            Err(error) => vec![error],
        }
    }

    fn of(&mut self, type_id: i64, schema: &str) -> Result<&Validator, String> {
        if self.compiled.get(&type_id).is_none_or(|(text, _)| text != schema) {
            let value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
            self.compiled.insert(type_id, (schema.to_owned(), compile(&value)?));
        }
        Ok(&self.compiled[&type_id].1)
    }
}

/// The value stays out of the message: it may be megabytes, or secret.
fn told(error: &ValidationError<'_>) -> String {
    located(error.instance_path().as_str(), &error.masked().to_string())
}

/// Compiles a JSON Schema of any draft. `format` counts, and nothing is fetched.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .should_validate_formats(true)
        .offline()
        .build(schema)
        .map_err(|error| located(error.instance_path().as_str(), &error.to_string()))
}

fn located(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}

/// The key of a task: SHA-256 over its type and its params in their canonical form (keys sorted, no white space).
pub(super) fn dedupe_key(task_type: &str, params: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(task_type);
    // No JSON holds a bare NUL, so no two pairs run together to the same bytes.
    hash.update([0]);
    hash.update(params);
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_written_in_canonical_form() {
        // A dependency that turned on serde_json's `preserve_order` would change every key.
        let value: Value = serde_json::from_str(r#"{ "b": {"z": 1, "y": [ ]}, "a": 1.0 }"#).unwrap();
        assert_eq!(value.to_string(), r#"{"a":1.0,"b":{"y":[],"z":1}}"#);
    }

    #[test]
    fn the_key_is_the_same_for_ever() {
        // `printf 'example.any\0{"a":1}' | sha256sum`: files that exist depend on it.
        let key = "ba9fb53bdcbd4adf4aa6533f44a5d57137c1309741c2324b1d29cefb8e7f77ec";
        assert_eq!(dedupe_key("example.any", r#"{"a":1}"#), key);
    }

    #[test]
    fn a_changed_schema_is_compiled_again() {
        let mut schemas = Schemas::default();
        let params = json!({"n": 5});
        assert_eq!(schemas.check(1, r#"{"properties":{"n":{"maximum":9}}}"#, &params), Ok(()));
        let breach = schemas.check(1, r#"{"properties":{"n":{"maximum":4}}}"#, &params);
        assert_eq!(breach, Err("/n: value is greater than the maximum of 4".to_owned()));
    }
}
