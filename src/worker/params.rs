//! Params are checked before a handler runs: the servers' own checks are partial.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::json::{self, MAX_DEPTH};
use crate::schema::{self, Fault, Verdict};
use crate::shutdown::CancelToken;

/// A JSON Schema, ready to check params with.
pub(super) struct Schema {
    compiled: Arc<schema::Schema>,
    schema: Value,
}

/// Checks that `schema` is a JSON Schema. The error is one line.
pub(crate) fn check_schema(schema: &Value) -> Result<(), String> {
    Schema::new(schema).map(drop)
}

/// Checks params against this worker's own limits, since another TaskManager may have others. The error is one line.
pub(super) fn check_limits(params: &Value) -> Result<(), String> {
    json::check(params, MAX_DEPTH).map_err(|error| format!("params are {error}"))?;
    json::omission_reason(params).map_or(Ok(()), |why| Err(format!("params cannot be read: {why}")))
}

impl Schema {
    /// Compiles a schema. The error is one line.
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        let compiled = schema::Schema::compile(schema).map_err(|Fault { path, message }| match path.as_str() {
            "" => format!("not a JSON Schema: {message}"),
            path => format!("not a JSON Schema: {path}: {message}"),
        });
        Ok(Self { compiled: Arc::new(compiled?), schema: schema.clone() })
    }

    /// Checks `params`, for at most `limit` and until `stop` is raised.
    pub(super) fn check(&self, params: &Value, limit: Duration, stop: &CancelToken) -> Verdict {
        self.compiled.check_within(params, limit, |interrupt| stop.on_raise(None, move |_| interrupt()))
    }

    /// Turns empty lists back into the empty objects they were before the published server, if the schema wants
    /// objects.
    pub(super) fn heal(&self, params: &mut Value) {
        heal(&self.schema, params);
    }
}

fn heal(schema: &Value, value: &mut Value) {
    if schema["type"] == "object" && value.as_array().is_some_and(Vec::is_empty) {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                heal(&schema["properties"][name], field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| heal(&schema["items"], item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::new(&json!({
            "type": "object",
            "properties": {
                "max_results": {"type": "integer", "maximum": 50},
                "filter": {"type": "object"},
                "tags": {"type": "array"},
                "parts": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["max_results"],
        }))
        .unwrap()
    }

    #[test]
    fn a_breach_names_its_path() {
        for (params, path, part) in [(json!({"max_results": 99}), "/max_results", "50"), (json!({}), "", "max_results")]
        {
            let verdict = schema().check(&params, Duration::MAX, &CancelToken::new(None));
            let Verdict::Unfit(fault) = verdict else { panic!("{verdict:?}") };
            assert!(fault.path == path && fault.message.contains(part), "{fault:?}");
        }
    }

    #[test]
    fn empty_lists_become_objects_only_where_the_schema_has_objects() {
        let mut params = json!({"max_results": 1, "filter": [], "tags": [], "parts": [[], {}]});
        schema().heal(&mut params);
        assert_eq!(params, json!({"max_results": 1, "filter": {}, "tags": [], "parts": [{}, {}]}));
        assert_eq!(schema().check(&params, Duration::MAX, &CancelToken::new(None)), Verdict::Fit);
    }
}
