//! Tasks: creating, deduplicating, showing, listing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{Api, assert_recent};

#[test]
fn a_task_is_created_only_once() {
    let api = Api::start();
    let type_id = api.register_any("example.a");
    let created = api.post("/tasks", json!({"type": "example.a", "params": {"a": 1, "b": [{}]}})).data();
    let key = created["dedupe_key"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    assert_eq!(created, json!({"id": 1, "type": "example.a", "status": "pending", "dedupe_key": key}));

    let raw = r#"{"priority":5, "params": { "b" : [ {} ], "a": 1 }, "type": "example.a"}"#;
    let again = api.send("POST", "/tasks", &[], raw).data();
    let mut expected = created.clone();
    expected["deduplicated"] = json!(true);
    assert_eq!(again, expected);

    api.claim("w", type_id).data();
    api.post("/tasks/1/complete", json!({"worker_id": "w", "success": true})).data();
    expected["status"] = json!("completed");
    assert_eq!(api.send("POST", "/tasks", &[], raw).data(), expected);

    api.register_any("example.b");
    assert_ne!(api.create("example.b", json!({"a": 1, "b": [{}]})), 1, "another type, another task");
    assert_ne!(api.create("example.a", json!({"a": 1.0, "b": [{}]})), 1, "another number, another task");
}

#[test]
fn a_task_is_shown_with_everything() {
    let api = Api::start();
    api.register_any("example.a");
    let id = api.create("example.a", json!({"a": 1}));
    let task = api.task(id);
    assert_recent(&task["created_at"]);
    assert_eq!(
        task,
        json!({
            "id": id, "type": "example.a", "status": "pending", "params": {"a": 1}, "result": null,
            "error_message": null, "priority": 0, "progress": 0, "attempts": 0, "claimed_by": null,
            "claimed_at": null, "completed_at": null, "created_at": task["created_at"],
        })
    );
    assert_eq!(api.get(&format!("/tasks/{id}/")).data(), task, "with a slash at the end");
    api.get("/tasks/999").assert_error(404, "Task not found");
    api.get("/tasks/abc").assert_error(404, "Task not found");
}

#[test]
fn values_come_back_as_they_went() {
    let api = Api::start();
    let type_id = api.register_any("example.a");
    let params = json!({
        "empty_object": {}, "empty_list": [], "text": "žluťoučký kůň 🐎\u{0}", "big": 12_345_678_901_234_567_890_u64,
        "one": 1.0, "wide": 9_007_199_254_740_993_i64, "null": null,
    });
    let id = api.create("example.a", params.clone());
    let claimed = api.claim("w", type_id).data();
    assert_eq!(claimed["params"].to_string(), params.to_string());
    api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": true, "result": params})).data();
    assert_eq!(api.task(id)["params"].to_string(), params.to_string());
    assert_eq!(api.task(id)["result"].to_string(), params.to_string());

    let empty = api.create("example.a", json!({}));
    assert_eq!(api.claim("w", type_id).data()["params"], json!({}));
    api.post(&format!("/tasks/{empty}/complete"), json!({"worker_id": "w", "success": true, "result": {}})).data();
    assert_eq!((&api.task(empty)["params"], &api.task(empty)["result"]), (&json!({}), &json!({})));
}

#[test]
fn params_and_results_may_be_long() {
    let api = Api::start();
    let type_id = api.register_any("example.a");
    let long = json!({"text": "x".repeat(1 << 20)});
    let id = api.create("example.a", long.clone());
    assert!(api.claim("w", type_id).data()["params"] == long);
    api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": "w", "success": true, "result": long})).data();
    assert!(api.task(id)["result"] == long);
}

#[test]
fn params_are_checked_by_full_json_schema() {
    let api = Api::start();
    api.register(
        "example.a",
        json!({
            "type": "object",
            "required": ["query"],
            "properties": {
                "query": {"type": "string"},
                "max": {"type": "number", "maximum": 50},
                "day": {"type": "string", "format": "date"},
                "a/b": {"items": {"oneOf": [{"type": "string"}, {"const": 5}]}},
            },
        }),
    );
    let breach = |params: Value| {
        let answer = api.post("/tasks", json!({"type": "example.a", "params": params}));
        assert_eq!(answer.status, 400, "{}", answer.body);
        let error = answer.body["error"].as_str().unwrap();
        error.strip_prefix("Parameter validation failed: ").unwrap().to_owned()
    };
    assert_eq!(breach(json!({})), "\"query\" is a required property");
    assert_eq!(breach(json!({"query": "q", "max": 99})), "/max: value is greater than the maximum of 50");
    assert_eq!(breach(json!({"query": "q", "day": "tomorrow"})), "/day: value is not a \"date\"");
    assert!(breach(json!({"query": "q", "a/b": ["x", 4]})).starts_with("/a~1b/1: "));
    let good = json!({"query": "q", "max": 5, "day": "2026-02-28", "a/b": ["x", 5]});
    api.create("example.a", good);
    assert_eq!(api.get("/tasks").data().as_array().unwrap().len(), 1);
}

#[test]
fn params_are_checked_by_the_schema_of_now() {
    let api = Api::start();
    api.register("example.a", json!({"type": "object", "maxProperties": 1}));
    api.create("example.a", json!({"a": 1}));
    api.register("example.a", json!({"type": "object", "maxProperties": 2}));
    api.create("example.a", json!({"a": 1, "b": 2}));
}

#[test]
fn invalid_tasks_are_refused() {
    let api = Api::start();
    api.register_any("example.a");
    let create = |body| api.post("/tasks", body);
    create(json!({"params": {}})).assert_error(400, "Missing required field: type");
    create(json!({"type": "example.a"})).assert_error(400, "Missing required field: params");
    create(json!({"type": "example.a", "params": null})).assert_error(400, "Missing required field: params");
    create(json!({"type": "example.a", "params": [1]})).assert_invalid("Field 'params' must be of type object");
    create(json!({"type": "Nope", "params": {}})).assert_error(404, "Task type not found");
    assert_eq!(api.get("/tasks").data(), json!([]));
}

#[test]
fn tasks_are_listed_newest_first() {
    let api = Api::start();
    let type_id = api.register_any("a.one");
    api.register_any("a.two");
    api.register_any("a_three");
    for n in 0..60 {
        api.create(["a.one", "a.two", "a_three"][n % 3], json!({"n": n}));
    }
    let claimed = api.claim("w", type_id).data()["id"].clone();
    let ids = |query: &str| {
        let list = api.get(&format!("/tasks{query}")).data();
        list.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(""), (11..=60).rev().collect::<Vec<_>>());
    assert_eq!(ids("?limit=3"), [60, 59, 58]);
    assert_eq!(ids("/?limit=3&offset=58"), [2, 1]);
    assert_eq!(ids("?limit=1000").len(), 60);
    assert_eq!(ids("?status=claimed"), [claimed.as_i64().unwrap()]);
    assert_eq!(ids("?status=pending&limit=1000").len(), 59);
    assert_eq!(ids("?type=a.two&limit=2"), [59, 56]);
    assert_eq!(ids("?type=a.%25&limit=2"), [59, 58]);
    assert_eq!(ids(r"?type=a%5C_%25&limit=2"), [60, 57], "an underscore that is none of LIKE's");
    assert_eq!(ids("?type=a%25&status=claimed"), [1]);
    assert_eq!(ids("?type=none"), [0; 0]);
    assert_eq!(ids("?before=59&limit=3"), [58, 57, 56]);
    assert_eq!(ids("?before=3&offset=50"), [2, 1], "who goes on from a task need not count");
    assert_eq!(ids("?before=59&type=a.%25&limit=2"), [58, 56]);
    assert_eq!(ids("?before=4&status=pending&type=a%25"), [3, 2]);
    assert_eq!(ids("?before=1"), [0; 0]);
}

#[test]
fn the_published_server_knows_no_key_to_page_by() {
    let api = Api::start_with(|settings| settings.faults.published = true);
    api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
    for n in 1..=3 {
        api.post("/tasks", json!({"type": "a", "params": {"n": n}}));
    }
    let list = |query: &str| api.get(&format!("/tasks?{query}")).body["data"].take();
    assert_eq!(list("limit=10&before=1")["count"], 3);
    assert_eq!(list("limit=2&before=1"), list("limit=2"));
    assert_eq!(list("limit=10&before=1&offset=1")["count"], 2);
}

#[test]
fn the_published_server_sorts_by_the_second_alone() {
    let api = Api::start_with(|settings| settings.faults.published = true);
    api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
    for n in 1..=60 {
        api.post("/tasks", json!({"type": "a", "params": {"n": n}}));
    }
    let list = |query: &str| -> Vec<(u64, String)> {
        let items = api.get(&format!("/tasks?{query}")).body["data"]["items"].take();
        let task = |it: &Value| (it["id"].as_u64().unwrap(), it["created_at"].as_str().unwrap().to_owned());
        items.as_array().unwrap().iter().map(task).collect()
    };
    let pages: Vec<_> = (0..6).flat_map(|n| list(&format!("limit=10&offset={}", 10 * n))).collect();
    assert!(pages.iter().map(|task| &task.1).is_sorted_by(|one, other| one >= other), "{pages:?}");
    let once: BTreeSet<u64> = pages.iter().map(|task| task.0).collect();
    assert!(once.len() < 60, "some are listed twice, and others not at all: {pages:?}");
    let whole: BTreeSet<u64> = list("limit=100").into_iter().map(|task| task.0).collect();
    assert_eq!(whole.len(), 60);
}

#[test]
fn a_task_in_a_list_has_no_long_fields() {
    let api = Api::start();
    api.register_any("a");
    api.create("a", json!({"a": 1}));
    let task = api.get("/tasks").data()[0].take();
    assert_eq!(
        task,
        json!({
            "id": 1, "type": "a", "status": "pending", "priority": 0, "progress": 0, "attempts": 0,
            "claimed_by": null, "claimed_at": null, "completed_at": null, "created_at": task["created_at"],
        })
    );
}

#[test]
fn invalid_list_queries_are_refused() {
    let api = Api::start();
    api.get("/tasks?limit=-1").assert_invalid("Field 'limit' must be at least 0");
    api.get("/tasks?limit=-99999999999999999999").assert_invalid("Field 'limit' must be at least 0");
    api.get("/tasks?before=0").assert_invalid("Field 'before' must be at least 1");
    api.get("/tasks?offset=-1").assert_invalid("Field 'offset' must be at least 0");
}

#[test]
fn a_list_says_which_part_it_is() {
    let api = Api::start();
    api.register_any("a");
    let part = |query: &str| {
        let answer = api.get(&format!("/tasks{query}"));
        assert_eq!(answer.body["data"], json!([]));
        answer.body["pagination"].clone()
    };
    assert_eq!(part(""), json!({"limit": 50, "offset": 0}));
    assert_eq!(part("?limit=5&offset=7"), json!({"limit": 5, "offset": 7}));
    assert_eq!(part("?limit=10001"), json!({"limit": 10_000, "offset": 0}));
    for beyond in ["9223372036854775807", "9223372036854775808", "99999999999999999999999999"] {
        for more in ["", "&type=a", "&status=failed&type=%25"] {
            let largest = json!({"limit": 10_000, "offset": i64::MAX});
            assert_eq!(part(&format!("?limit={beyond}&offset={beyond}{more}")), largest);
        }
    }
    // Nor is a text without a number one, as for the published server.
    for nothing in ["inf", "nan", "x"] {
        assert_eq!(part(&format!("?limit={nothing}&offset={nothing}")), json!({"limit": 0, "offset": 0}));
    }
    assert_eq!(part("?status=lost"), json!({"limit": 50, "offset": 0}));
}
