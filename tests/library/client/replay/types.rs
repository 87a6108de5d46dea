//! Health, the API key, task types.

use prismq::TaskManagerError as Error;
use serde_json::{Value, json};

use super::Sends::{AndMore, Exactly, Otherwise};
use super::{Row, row, shown};
use crate::client::{SEARCH, refused};

pub(super) fn search_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "search_query": {"type": "string"},
            "max_results": {"type": "integer", "minimum": 1, "maximum": 50},
        },
        "required": ["search_query"],
    })
}

fn key_refused(with_key: bool) -> Error {
    let message = "Invalid or missing API key. Include X-API-Key header with your request.".into();
    Error::KeyRefused { url: "URL".into(), message, with_key }
}

pub(super) fn rows() -> Vec<Row> {
    let cannot_list = || Err(refused(500, "Invalid select field: COALESCE(t.usage_count, 0) as usage_count"));
    vec![
        row(
            "health, no key needed",
            Exactly,
            |client| shown(client.health()),
            Ok(json!({"status": "healthy", "database": "connected"})),
        ),
        row("missing key", AndMore, |client| shown(client.check_key()), Err(key_refused(false))).without_key(),
        row("wrong key", AndMore, |client| shown(client.check_key()), Err(key_refused(true))),
        row(
            "register a new type",
            Exactly,
            |client| shown(client.register_type(SEARCH, "1.0.0", &search_schema())),
            Ok(json!({"id": 1, "name": SEARCH, "version": "1.0.0", "created": true})),
        ),
        row(
            "register the same type again",
            Exactly,
            |client| shown(client.register_type(SEARCH, "1.0.1", &search_schema())),
            Ok(json!({"id": 1, "name": SEARCH, "version": "1.0.1", "created": false})),
        ),
        row(
            "register: schema without type",
            Exactly,
            |client| shown(client.register_type("x", "1.0.0", &json!({"properties": {}}))),
            Err(refused(400, "JSON schema must have a \"type\" property")),
        ),
        row(
            "register: schema missing",
            AndMore,
            |client| shown(client.register_type("x", "1.0.0", &Value::Null)),
            Err(refused(400, "Missing required field: param_schema")),
        ),
        row(
            "register a type that takes anything",
            Exactly,
            |client| shown(client.register_type("example.any", "1.0.0", &json!({"type": "object"}))),
            Ok(json!({"id": 2, "name": "example.any", "version": "1.0.0", "created": true})),
        ),
        row(
            "type by name",
            Exactly,
            |client| shown(client.task_type(SEARCH)),
            Ok(json!({
                "id": 1, "name": SEARCH, "version": "1.0.1", "param_schema": search_schema(), "is_active": true,
            })),
        ),
        row("type by name, unknown", Exactly, |client| shown(client.task_type("Nope")), Ok(Value::Null)),
        row("list types", AndMore, |client| shown(client.task_types()), cannot_list()),
        row("list active types", Otherwise, |client| shown(client.task_types()), cannot_list()),
    ]
}
