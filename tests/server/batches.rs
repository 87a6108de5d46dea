//! Several tasks claimed or created by one call.

use std::io::ErrorKind;
use std::thread;

use prismq::internals::server::{OfferedFeatures, Server};
use serde_json::{Value, json};

use crate::api::{Api, ApiResponse, Client};
use crate::exchange::exchange;
use crate::support::wait_for;
use crate::waiter::{Waiter, waiting, waiting_with};

/// A server with three types, and their ids.
pub(crate) fn api() -> (Api, [i64; 3]) {
    let api = Api::start();
    let ids = ["a", "b", "c"].map(|name| api.register_any(name));
    (api, ids)
}

/// Creates so many tasks of a type; their ids.
pub(crate) fn create(api: &Api, task_type: &str, count: i64) -> Vec<i64> {
    (0..count).map(|n| api.create(task_type, json!({"n": n}))).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
pub(crate) fn claim(api: &Api, limit: i64, types: Value) -> ApiResponse {
    api.post("/tasks/claim", json!({"worker_id": "w", "limit": limit, "types": types}))
}

/// A field of each item of an answer.
#[track_caller]
fn each(data: &Value, field: &str) -> Vec<Value> {
    data["items"].as_array().unwrap().iter().map(|item| item[field].clone()).collect()
}

#[track_caller]
pub(crate) fn ids(data: &Value) -> Vec<i64> {
    each(data, "id").iter().map(|id| id.as_i64().unwrap()).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
pub(crate) fn complete(api: &Api, results: Value) -> ApiResponse {
    api.post("/tasks/complete", json!({"worker_id": "w", "results": results}))
}

#[test]
fn the_health_names_the_extensions() {
    for (features, names) in [
        (OfferedFeatures::default(), json!(["batch", "renew"])),
        (OfferedFeatures { batch: true, renew: false }, json!(["batch"])),
        (OfferedFeatures { batch: false, renew: true }, json!(["renew"])),
        (OfferedFeatures::NONE, json!(null)),
    ] {
        let api = Api::start_with(|settings| settings.faults.features = features);
        assert_eq!(api.get("/health").data()["features"], names);
    }
    let api = Api::start_with(|settings| settings.faults.published = true);
    let health = api.get("/health");
    assert_eq!((health.status, &health.body["data"]["features"]), (200, &json!(null)));
}

#[test]
fn a_disabled_extension_is_unknown() {
    for published in [false, true] {
        let api = Api::start_with(|settings| {
            settings.faults.published = published;
            settings.faults.features = if published { OfferedFeatures::default() } else { OfferedFeatures::NONE };
        });
        api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": {"type": "object"}}));
        api.post("/tasks", json!({"tasks": [{"type": "a", "params": {"n": 1}}]}))
            .assert_error(400, "Missing required field: type");
        api.post("/tasks", json!({"type": "a", "params": {"n": 1}}));
        let body = json!({"worker_id": "w", "task_type_id": 1, "limit": 5, "types": [{"id": 1}], "renews": true});
        let claimed = api.post("/tasks/claim", body);
        assert_eq!((&claimed.body["data"]["id"], &claimed.body["data"]["expires_in"]), (&json!(1), &json!(null)));
        complete(&api, json!([{"id": 1, "attempt": 1, "success": true}])).assert_error(404, "Endpoint not found");
        api.post("/tasks/renew", json!({"worker_id": "w", "ids": [1]})).assert_error(404, "Endpoint not found");
        let report = json!({"worker_id": "w", "attempt": 1, "success": true});
        assert_eq!(api.post("/tasks/1/complete", report.clone()).status, 200);
        api.post("/tasks/1/complete", report).assert_error(400, "Task is not in claimed state");
    }
}

#[test]
fn several_tasks_are_claimed_at_once() {
    let (api, [a, ..]) = api();
    create(&api, "a", 5);
    let claimed = api.post("/tasks/claim", json!({"worker_id": "w", "task_type_id": a, "limit": 3})).data();
    let task = |n: i64| json!({"id": n + 1, "type": "a", "params": {"n": n}, "attempts": 1, "priority": 0});
    assert_eq!(claimed, json!({"items": [task(0), task(1), task(2)]}));
    assert_eq!(api.task(3)["claimed_by"], json!("w"));
    assert_eq!(api.task(4)["status"], json!("pending"));
    assert_eq!(ids(&claim(&api, 100, json!([{"id": a}])).data()), [4, 5]);
    claim(&api, 100, json!([{"id": a}])).assert_error(404, "No available tasks");
}

#[test]
fn limits_hold_for_each_type_and_in_total() {
    let (api, [a, b, c]) = api();
    for name in ["a", "b", "c"] {
        create(&api, name, 5);
    }
    let types = |limits: [i64; 3]| -> Value {
        [a, b, c].iter().zip(limits).map(|(id, limit)| json!({"id": id, "limit": limit})).collect()
    };
    assert_eq!(ids(&claim(&api, 100, types([1, 2, 1])).data()), [1, 6, 7, 11]);
    assert_eq!(ids(&claim(&api, 3, types([2, 2, 2])).data()), [2, 3, 8]);
    // A type of its own beside them has no limit but the whole; among them, it has the one that it has there.
    let body = json!({"worker_id": "w", "task_type_id": a, "limit": 4, "types": [{"id": b, "limit": 1}]});
    assert_eq!(ids(&api.post("/tasks/claim", body).data()), [4, 5, 9]);
    let body = json!({"worker_id": "w", "task_type_id": c, "limit": 4, "types": [{"id": c, "limit": 3}, {"id": b}]});
    assert_eq!(ids(&api.post("/tasks/claim", body).data()), [10, 12, 13, 14]);
}

#[test]
fn a_claim_of_several_types_gets_the_first_tasks_of_all() {
    let orders = [
        (json!({}), [1, 2, 3, 4]),
        (json!({"sort_order": "DESC"}), [6, 5, 4, 3]),
        (json!({"sort_by": "priority"}), [5, 1, 2, 6]),
        (json!({"sort_by": "priority", "sort_order": "DESC"}), [3, 4, 2, 6]),
        (json!({"sort_by": "id", "sort_order": "DESC"}), [6, 5, 4, 3]),
        (json!({"sort_by": "attempts"}), [2, 3, 4, 5]),
        (json!({"sort_by": "attempts", "sort_order": "DESC"}), [1, 2, 3, 4]),
    ];
    for (order, expected) in orders {
        let (api, [a, b, c]) = api();
        for (n, (name, priority)) in [("a", 1), ("b", 2), ("c", 9), ("a", 9), ("b", 0), ("c", 2)].iter().enumerate() {
            api.post("/tasks", json!({"type": name, "params": {"n": n}, "priority": priority})).data();
        }
        assert_eq!(api.claim("w", a).data()["id"], json!(1));
        api.post("/tasks/1/complete", json!({"worker_id": "w", "success": false})).data();
        let mut body = order.clone();
        body["worker_id"] = json!("w");
        body["limit"] = json!(4);
        body["types"] = json!([{"id": c}, {"id": a}, {"id": b}]);
        assert_eq!(ids(&api.post("/tasks/claim", body).data()), expected, "{order}");
    }
}

#[test]
fn expired_claims_are_handed_out_with_pending_tasks() {
    let api = Api::start_with(|settings| settings.claim_timeout = Some(std::time::Duration::from_millis(1)));
    let types = ["a", "b"].map(|name| json!({"id": api.register_any(name)}));
    for name in ["a", "b"] {
        create(&api, name, 2);
    }
    assert_eq!(ids(&claim(&api, 3, json!(types)).data()), [1, 2, 3]);
    let again = wait_for("all claims to expire", || {
        let claimed = claim(&api, 4, json!(types)).data();
        (claimed["items"].as_array().unwrap().len() == 4).then_some(claimed)
    });
    assert_eq!(ids(&again), [1, 2, 3, 4]);
    let limited = json!([{"id": types[0]["id"], "limit": 1}, types[1]]);
    let limited = wait_for("three claims to expire", || {
        let claimed = claim(&api, 100, limited.clone()).data();
        (claimed["items"].as_array().unwrap().len() == 3).then_some(claimed)
    });
    let of_a = each(&limited, "type").iter().filter(|name| **name == "a").count();
    assert_eq!(of_a, 1, "{limited}");
}

#[test]
fn invalid_claims_of_several_tasks_are_refused() {
    let (api, [a, b, _]) = api();
    create(&api, "a", 1);
    let types = json!([{"id": a}]);
    claim(&api, 0, types.clone()).assert_invalid("Field 'limit' must be at least 1");
    claim(&api, 101, types.clone()).assert_invalid("Field 'limit' must be at most 100");
    claim(&api, 1, json!([])).assert_invalid("Field 'types' must have at least 1 entry");
    claim(&api, 1, json!({"id": a})).assert_invalid("Field 'types' must be of type array");
    claim(&api, 1, json!([{"id": a}, 4])).assert_invalid("Field 'types[1]' must be of type object");
    claim(&api, 1, json!([{"id": a}, {}])).assert_error(400, "Missing required field: types[1].id");
    claim(&api, 1, json!([{"id": "1"}])).assert_invalid("Field 'types[0].id' must be of type integer");
    claim(&api, 1, json!([{"id": 0}])).assert_invalid("Field 'types[0].id' must be at least 1");
    claim(&api, 1, json!([{"id": a, "limit": 0}])).assert_invalid("Field 'types[0].limit' must be at least 1");
    claim(&api, 1, json!([{"id": a}, {"id": b}, {"id": a}]))
        .assert_invalid(&format!("Field 'types[2].id' repeats the ID {a}"));
    let many: Vec<Value> = (1..=257).map(|id| json!({"id": id})).collect();
    claim(&api, 1, json!(many)).assert_invalid("Field 'types' must have at most 256 entries; it has 257");
    let post = |body| api.post("/tasks/claim", body);
    post(json!({"worker_id": "w", "types": types})).assert_error(400, "Missing required field: limit");
    post(json!({"worker_id": "w", "limit": 1})).assert_error(400, "Missing required field: task_type_id");
    post(json!({"worker_id": "w", "limit": "1", "types": types}))
        .assert_invalid("Field 'limit' must be of type integer");
    post(json!({"limit": 1, "types": types})).assert_invalid("Worker ID is required");
    let unknown = claim(&api, 1, json!([{"id": a}, {"id": 99}]));
    assert_eq!((unknown.status, &unknown.body["error"]), (404, &json!("Task type not found")));
    assert_eq!(unknown.body["details"], json!(["There is no task type with the ID 99"]));
    assert_eq!(api.task(1)["status"], json!("pending"));
}

#[test]
fn a_pattern_holds_for_all_types_of_a_claim() {
    let (api, [a, b, c]) = api();
    for name in ["a", "b", "c"] {
        create(&api, name, 1);
    }
    let types = json!([{"id": a}, {"id": b}, {"id": c}]);
    let body = |pattern: &str| json!({"worker_id": "w", "limit": 9, "types": types, "type_pattern": pattern});
    assert_eq!(ids(&api.post("/tasks/claim", body("b")).data()), [2]);
    let start = std::time::Instant::now();
    let none = api.send("POST", "/tasks/claim", &[("Prefer", "wait=60")], &body("d%").to_string());
    none.assert_error(404, "No available tasks");
    assert!(start.elapsed().as_secs() < 30, "no task of these types will ever match");
}

#[test]
fn a_claim_of_several_waits_for_the_first_of_any_type() {
    let (api, [a, b, c]) = api();
    let body = json!({"worker_id": "waiter", "limit": 5, "types": [{"id": a, "limit": 2}, {"id": b}]});
    // The other preference is for claims that cannot name their types.
    let mut waiter = waiting_with(&api, &body, &format!("Prefer: wait=60, task-types=\"{c}\"\r\n"));
    create(&api, "c", 1);
    assert!(waiter.is_waiting(), "nobody has asked for that type");
    let created = json!({"tasks": [{"type": "b", "params": {"n": 1}}, {"type": "b", "params": {"n": 2}}]});
    assert_eq!(ids(&api.post("/tasks", created).data()), [2, 3]);
    let answer = waiter.answer();
    assert_eq!((answer.status, answer.applied()), (200, Some("wait")));
    assert_eq!(ids(&answer.body["data"]), [2, 3], "both are there when it looks");
    let tasks: Vec<Value> = (0..3).map(|n| json!({"type": "a", "params": {"n": n}})).collect();
    let mut others = [waiting_with(&api, &body, "Prefer: wait=60\r\n"), waiting(&api, a, "Prefer: wait=60\r\n")];
    api.post("/tasks", json!({"tasks": tasks})).data();
    assert_eq!(ids(&others[0].answer().body["data"]), [4, 5]);
    assert_eq!(others[1].answer().task(), (6, 1), "what it leaves goes to the next");
    let mut waiter = Waiter::new(&api.server);
    waiter.claim_with(&body, "Prefer: wait=1\r\n");
    waiter.answer().is_none();
}

#[test]
fn a_refused_task_does_not_stop_the_creation_of_others() {
    let (api, _) = api();
    api.register("strict", json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}));
    let first = json!({"type": "a", "params": {"n": 1}, "priority": 5});
    let answer = api.post(
        "/tasks",
        json!({"tasks": [
            first,
            {"type": "unknown", "params": {}},
            {"type": "strict", "params": {"n": "one"}},
            {"type": "a", "params": []},
            {"params": {}},
            "task",
            {"type": "a", "params": {"n": 1}},
            {"type": "strict", "params": {"n": 1}},
            {"type": "", "params": {}},
        ]}),
    );
    let items = answer.data()["items"].take();
    let alone = api.post("/tasks", first).data();
    assert_eq!((&items[0]["id"], &items[0]["status"]), (&json!(1), &json!("pending")));
    assert_eq!(items[6], alone, "as a single creation answers it");
    assert_eq!(items[1], json!({"error": "Task type not found", "code": 404}));
    let checked = &items[2];
    assert!(checked["error"].as_str().unwrap().starts_with("Parameter validation failed: /n: "), "{checked}");
    let invalid = |detail: &str| json!({"error": "Validation failed", "code": 400, "details": [detail]});
    assert_eq!(items[3], invalid("Field 'tasks[3].params' must be of type object"));
    assert_eq!(items[4], json!({"error": "Missing required field: tasks[4].type", "code": 400}));
    assert_eq!(items[5], invalid("Field 'tasks[5]' must be of type object"));
    assert_eq!((&items[7]["id"], &items[7]["type"]), (&json!(2), &json!("strict")));
    assert_eq!(items[8], invalid("Field 'tasks[8].type' must not be empty"));
    assert_eq!(api.get("/tasks").data().as_array().unwrap().len(), 2);
    assert_eq!(api.task(1)["priority"], json!(5));
}

#[test]
fn a_task_that_fails_in_the_database_does_not_stop_the_creation_of_others() {
    let (api, _) = api();
    let database = rusqlite::Connection::open(&api.settings.database).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON tasks WHEN new.params = '{\"n\":2}'
                  BEGIN SELECT raise(ABORT, 'broken'); END";
    database.execute_batch(broken).unwrap();
    let task = |n: i64| json!({"type": "a", "params": {"n": n}});
    let create = |numbers: [i64; 3]| api.post("/tasks", json!({"tasks": numbers.map(task)}));
    let items = create([1, 2, 3]).data()["items"].take();
    assert_eq!((&items[0]["id"], &items[1]["code"], &items[2]["id"]), (&json!(1), &json!(500), &json!(2)));
    assert_eq!(create([2, 2, 2]).status, 500, "nothing was done");
    database.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(create([1, 2, 3]).data()["items"][1]["id"], json!(3));
}

#[test]
fn at_most_a_thousand_tasks_are_created_at_once() {
    let (api, [a, ..]) = api();
    let tasks = |count: usize| -> Vec<Value> { (0..count).map(|n| json!({"type": "a", "params": {"n": n}})).collect() };
    let create = |tasks: Vec<Value>| api.post("/tasks", json!({"tasks": tasks}));
    create(tasks(1001)).assert_invalid("Field 'tasks' must have at most 1000 entries; it has 1001");
    create(vec![]).assert_invalid("Field 'tasks' must have at least 1 entry");
    api.post("/tasks", json!({"tasks": "all"})).assert_invalid("Field 'tasks' must be of type array");
    assert_eq!(ids(&create(tasks(1000)).data()), (1..=1000).collect::<Vec<_>>());
    let again = create(tasks(1000)).data();
    assert!(each(&again, "deduplicated").iter().all(|it| *it == true));
    // A task that names a type is a single one, whatever else it names.
    let single = json!({"type": "a", "params": {"tasks": 1}, "tasks": tasks(2)});
    assert_eq!(api.post("/tasks", single).data()["id"], json!(1001));
    for _ in 0..10 {
        assert_eq!(ids(&claim(&api, 100, json!([{"id": a}])).data()).len(), 100);
    }
    assert_eq!(ids(&claim(&api, 100, json!([{"id": a}])).data()), [1001]);
}

#[test]
fn several_claims_at_once_hand_out_each_task_once() {
    let (api, [a, b, c]) = api();
    for name in ["a", "b", "c"] {
        let tasks: Vec<Value> = (0..100).map(|n| json!({"type": name, "params": {"n": n}})).collect();
        api.post("/tasks", json!({"tasks": tasks})).data();
    }
    let body =
        json!({"worker_id": "w", "limit": 7, "types": [{"id": a}, {"id": b, "limit": 2}, {"id": c}]}).to_string();
    let claim_all = |client: Client| {
        let mut claimed = Vec::new();
        loop {
            let answer = client.send("POST", "/tasks/claim", &[], &body);
            if answer.status == 404 {
                return claimed;
            }
            claimed.extend(ids(&answer.data()));
        }
    };
    let mut claimed: Vec<i64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| claim_all(api.client()))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    claimed.sort_unstable();
    assert_eq!(claimed, (1..=300).collect::<Vec<_>>());
}

#[test]
fn large_tasks_are_claimed_up_to_the_size_of_an_answer() {
    let (api, [a, ..]) = api();
    let mib = 1 << 20;
    for (n, length) in [100, 100_000, 6 * mib, 6 * mib, 6 * mib, 100].into_iter().enumerate() {
        api.create("a", json!({"n": n, "text": "x".repeat(length)}));
    }
    let claim = || claim(&api, 100, json!([{"id": a}])).data();
    assert_eq!(ids(&claim()), [1, 2, 3, 4], "16 MiB of params in one answer");
    assert_eq!(ids(&claim()), [5, 6]);
    let results: Vec<Value> = (1..=6).map(|id| json!({"id": id, "attempt": 1, "success": true})).collect();
    assert!(each(&complete(&api, json!(results)).data(), "status").iter().all(|status| *status == "completed"));
}

#[test]
fn lost_answers_lose_no_task() {
    let (api, [a, ..]) = api();
    // Another server on the same file does its work and does not say so.
    let mut settings = api.settings.clone();
    settings.faults.drop = 1.0;
    let silent = Server::start(&settings).unwrap();
    let lost = |path: &str, body: &Value| {
        let error = exchange(silent.address(), ("POST", path), None, &body.to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    };
    let tasks: Vec<Value> = (0..3).map(|n| json!({"type": "a", "params": {"n": n}})).collect();
    let creation = json!({"tasks": tasks});
    lost("/tasks", &creation);
    let created = api.post("/tasks", creation).data();
    assert_eq!(ids(&created), [1, 2, 3]);
    assert!(each(&created, "deduplicated").iter().all(|it| *it == true));
    lost("/tasks/claim", &json!({"worker_id": "w", "limit": 3, "types": [{"id": a}]}));
    let claimed = api.get("/tasks?status=claimed").data();
    let mut results = Vec::new();
    for task in claimed.as_array().unwrap() {
        assert_eq!(task["claimed_by"], json!("w"));
        results.push(json!({"id": task["id"], "attempt": task["attempts"], "success": task["id"] != 2, "error": "e"}));
    }
    assert_eq!(results.len(), 3);
    let report = json!({"worker_id": "w", "results": results});
    lost("/tasks/complete", &report);
    let before: Vec<Value> = (1..=3).map(|id| api.task(id)).collect();
    for _ in 0..2 {
        let again = api.post("/tasks/complete", report.clone()).data();
        assert_eq!(each(&again, "status"), ["completed", "pending", "completed"]);
    }
    assert_eq!((1..=3).map(|id| api.task(id)).collect::<Vec<_>>(), before);
}
