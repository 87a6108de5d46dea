//! JSON Schemas that the published server has damaged.

use serde_json::{Map, Value, json};

use super::object;

/// Puts back the objects that the published server has made empty lists of, where a JSON Schema has only objects.
pub(super) fn heal(schema: &mut Value) {
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
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(heal);
        } else if A_SCHEMA.contains(&keyword.as_str()) {
            heal(value);
        } else if let ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) = (keyword.as_str(), value) {
            schemas.iter_mut().for_each(heal);
        }
    }
}
