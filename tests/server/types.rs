//! Task types: registering, showing, listing.

use serde_json::json;

use crate::api::{Api, assert_recent};

#[test]
fn a_type_is_created_and_then_updated() {
    let api = Api::start();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let mut body = json!({"name": "example.a", "version": "1.0.0", "param_schema": schema});
    let created = api.post("/task-types/register", body.clone()).data();
    assert_eq!(created, json!({"id": 1, "name": "example.a", "version": "1.0.0", "created": true}));

    body["version"] = json!("1.0.1");
    let updated = api.post("/task-types/register", body).data();
    assert_eq!(updated, json!({"id": 1, "name": "example.a", "version": "1.0.1", "updated": true}));

    let shown = api.get("/task-types/example.a").data();
    assert_recent(&shown["created_at"]);
    assert_recent(&shown["updated_at"]);
    assert_eq!(
        shown,
        json!({
            "id": 1, "name": "example.a", "version": "1.0.1", "param_schema": schema, "is_active": 1,
            "created_at": shown["created_at"], "updated_at": shown["updated_at"],
        })
    );
}

#[test]
fn invalid_types_are_refused() {
    let api = Api::start();
    let register = |body| api.post("/task-types/register", body);
    let schema = json!({"type": "object"});
    register(json!({"version": "1", "param_schema": schema})).assert_error(400, "Missing required field: name");
    register(json!({"name": "x", "param_schema": schema})).assert_error(400, "Missing required field: version");
    register(json!({"name": "x", "version": "1"})).assert_error(400, "Missing required field: param_schema");
    register(json!({"name": "", "version": "1", "param_schema": schema}))
        .assert_invalid("Field 'name' must not be empty");
    register(json!({"name": "x", "version": [1], "param_schema": schema}))
        .assert_invalid("Field 'version' must be of type string");
    register(json!({"name": "x", "version": "1", "param_schema": []}))
        .assert_invalid("Field 'param_schema' must be of type object");
    register(json!({"name": "x", "version": "1", "param_schema": {"properties": {}}}))
        .assert_error(400, "JSON schema must have a \"type\" property");
    assert_eq!(api.get("/task-types").data(), json!([]));
}

#[test]
fn an_invalid_schema_is_refused_with_the_reason() {
    let api = Api::start();
    let reason = |schema| {
        let answer = api.post("/task-types/register", json!({"name": "x", "version": "1.0.0", "param_schema": schema}));
        assert_eq!(answer.status, 400);
        answer.body["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        reason(json!({"type": "object", "required": "a"})),
        "Invalid JSON schema: /required: \"a\" is not of type \"array\""
    );
    let elsewhere = reason(json!({"type": "object", "$ref": "http://127.0.0.1:9/schema.json"}));
    let why = "Invalid JSON schema: `$ref`: \"http://127.0.0.1:9/schema.json\" is not in the schema, and remote schemas are not fetched";
    assert!(elsewhere.starts_with(why), "{elsewhere}");
    assert!(reason(json!({"type": "object", "properties": {"p": {"pattern": "("}}})).contains("/properties/p/pattern"));
}

#[test]
fn types_are_listed_by_name() {
    let api = Api::start();
    for name in ["b", "a", "c"] {
        api.register_any(name);
    }
    let names = |path: &str| {
        let list = api.get(path).data();
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ["a", "b", "c"];
    assert_eq!(names("/task-types"), all);
    assert_eq!(api.get("/task-types").data()[0], api.get("/task-types/a").data());
    deactivate(&api, "b");
    assert_eq!(names("/task-types?active_only=false"), all);
    assert_eq!(names("/task-types?active_only=true"), ["a", "c"]);
    assert_eq!(names("/task-types?active_only=1"), ["a", "c"]);
    api.get("/task-types?active_only=perhaps").assert_invalid("Field 'active_only' must be of type boolean");
}

#[test]
fn a_type_that_is_not_active_takes_no_tasks() {
    let api = Api::start();
    let id = api.register_any("a");
    let task = api.create("a", json!({"n": 1}));
    deactivate(&api, "a");
    assert_eq!(api.get("/task-types/a").data()["is_active"], json!(0));
    api.post("/tasks", json!({"type": "a", "params": {"n": 2}})).assert_error(400, "Task type is not active");
    assert_eq!(api.claim("w", id).data()["id"], json!(task), "what waits is still worked");
}

#[test]
fn an_unknown_type_is_not_found() {
    let api = Api::start();
    api.get("/task-types/Nope").assert_error(404, "Task type not found");
    api.get("/task-types/%FF").assert_error(404, "Task type not found");
}

#[test]
fn a_name_may_hold_any_character() {
    let api = Api::start();
    let id = api.register_any("a/b č?");
    assert_eq!(api.get("/task-types/a%2Fb%20%C4%8D%3F").data()["id"], json!(id));
}

/// No call does this: it is the operator's to do.
fn deactivate(api: &Api, name: &str) {
    let database = rusqlite::Connection::open(&api.settings.database).unwrap();
    database.execute("UPDATE task_types SET is_active = 0 WHERE name = ?1", [name]).unwrap();
}
