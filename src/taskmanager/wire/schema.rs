//! Repairs JSON Schemas that the published server has damaged.

use serde_json::{Map, Value, json};

use super::object;

/// Turns empty lists back into objects. The published server cannot tell the two apart; in these places a JSON Schema
/// has only objects.
pub(super) fn repair(schema: &mut Value) {
    const OF_SCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
    const A_SCHEMA: [&str; 9] = [
        "additionalProperties",
        "propertyNames",
        "items",
        "contains",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedProperties",
    ];
    *schema = match schema.take() {
        Value::Null => json!({}),
        other => object(other),
    };
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords {
        if OF_SCHEMAS.contains(&keyword.as_str()) {
            *value = object(value.take());
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(repair);
        } else if A_SCHEMA.contains(&keyword.as_str()) {
            repair(value);
        } else if let ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) = (keyword.as_str(), value) {
            schemas.iter_mut().for_each(repair);
        }
    }
}
