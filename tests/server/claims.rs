//! Claiming tasks, and what a worker may do with a claimed one.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, ApiResponse, assert_recent};
use crate::support::wait_for;

#[test]
fn a_claim_hands_out_a_task() {
    let api = Api::start();
    let type_id = api.register_any("a");
    let id = api.create("a", json!({"n": 1}));
    let claimed = api.claim("worker-1", type_id).data();
    assert_eq!(claimed, json!({"id": id, "type": "a", "params": {"n": 1}, "attempts": 1, "priority": 0}));
    let task = api.task(id);
    assert_eq!((&task["status"], &task["claimed_by"]), (&json!("claimed"), &json!("worker-1")));
    assert_recent(&task["claimed_at"]);
    api.claim("worker-1", type_id).assert_error(404, "No available tasks");
}

#[test]
fn a_claim_is_for_one_type() {
    let api = Api::start();
    let empty = api.register_any("empty");
    let full = api.register_any("example.full");
    api.create("example.full", json!({}));
    api.claim("w", empty).assert_error(404, "No available tasks");
    api.claim("w", 99).assert_error(404, "Task type not found");
    let claim = |pattern: &str| {
        api.post("/tasks/claim", json!({"worker_id": "w", "task_type_id": full, "type_pattern": pattern}))
    };
    claim("other.%").assert_error(404, "No available tasks");
    claim("example.%").data();
}

#[test]
fn invalid_claims_are_refused() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    let claim = |body| api.post("/tasks/claim", body);
    claim(json!({"worker_id": "w"})).assert_error(400, "Missing required field: task_type_id");
    claim(json!({"worker_id": "w", "task_type_id": "one"}))
        .assert_error(400, "task_type_id must be a positive integer");
    claim(json!({"task_type_id": type_id})).assert_invalid("Worker ID is required");
    claim(json!({"task_type_id": type_id, "worker_id": ""})).assert_invalid("Worker ID is required");
    claim(json!({"worker_id": "w", "task_type_id": type_id, "sort_by": "name"}))
        .assert_error(400, "Invalid sort_by field. Allowed values: created_at, priority, id, attempts");
    claim(json!({"worker_id": "w", "task_type_id": type_id, "sort_order": "UP"}))
        .assert_error(400, "Invalid sort_order. Allowed values: ASC, DESC");
    assert_eq!(api.task(1)["status"], json!("pending"));
}

/// Three tasks of priority 0, 5 and 5, of which the second has been tried once, the third never.
fn three_tasks() -> (Api, i64) {
    let api = Api::start();
    let type_id = api.register_any("a");
    for (n, priority) in [0, 5, 5].into_iter().enumerate() {
        api.post("/tasks", json!({"type": "a", "params": {"n": n}, "priority": priority})).data();
    }
    for id in [1, 2] {
        assert_eq!(api.claim("w", type_id).data()["id"], json!(id));
    }
    for id in [1, 2] {
        fail(&api, id, "w").data();
    }
    (api, type_id)
}

fn fail(api: &Api, id: i64, worker: &str) -> ApiResponse {
    api.post(&format!("/tasks/{id}/complete"), json!({"worker_id": worker, "success": false, "error": "broken"}))
}

#[test]
fn tasks_are_handed_out_in_the_order_asked_for() {
    let expected = [
        (json!({}), [1, 2, 3]),
        (json!({"sort_by": "created_at", "sort_order": "ASC"}), [1, 2, 3]),
        (json!({"sort_order": "desc"}), [3, 2, 1]),
        (json!({"sort_by": "priority"}), [1, 2, 3]),
        (json!({"sort_by": "priority", "sort_order": "DESC"}), [2, 3, 1]),
        (json!({"sort_by": "id"}), [1, 2, 3]),
        (json!({"sort_by": "id", "sort_order": "DESC"}), [3, 2, 1]),
        (json!({"sort_by": "attempts", "sort_order": "ASC"}), [3, 1, 2]),
        (json!({"sort_by": "attempts", "sort_order": "DESC"}), [1, 2, 3]),
    ];
    for (order, ids) in expected {
        let (api, type_id) = three_tasks();
        let mut body = order.clone();
        body["worker_id"] = json!("w");
        body["task_type_id"] = json!(type_id);
        let claimed = ids.map(|_| api.post("/tasks/claim", body.clone()).data()["id"].as_i64().unwrap());
        assert_eq!(claimed, ids, "{order}");
    }
}

#[test]
fn each_task_is_handed_out_once() {
    let api = Api::start();
    let type_id = api.register_any("a");
    for n in 0..200 {
        api.create("a", json!({"n": n}));
    }
    let ids: Vec<i64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| api.client().claim_all(type_id))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 200);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), (1..=200).collect());
}

#[test]
fn concurrent_creations_of_the_same_task_create_one() {
    let api = Api::start();
    api.register_any("a");
    let body = json!({"type": "a", "params": {"race": 1}}).to_string();
    let answers: Vec<Value> = thread::scope(|scope| {
        let create = || api.client().send("POST", "/tasks", &[], &body).data();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer["id"] == json!(1)), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.get("deduplicated").is_none()).count(), 1);
}

#[test]
fn progress_is_stored() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    let progress = |id: i64, body: Value| api.post(&format!("/tasks/{id}/progress"), body);
    progress(1, json!({"worker_id": "w", "progress": 1})).assert_error(400, "Task is not in claimed state");
    api.claim("w", type_id).data();

    let body = json!({"worker_id": "w", "progress": 40, "message": "two of five"});
    assert_eq!(progress(1, body).data(), json!({"id": 1, "progress": 40}));
    assert_eq!(api.task(1)["progress"], json!(40));

    progress(1, json!({"worker_id": "w", "progress": 101})).assert_invalid("Field 'progress' must be at most 100");
    progress(1, json!({"worker_id": "w", "progress": -1})).assert_invalid("Field 'progress' must be at least 0");
    progress(1, json!({"worker_id": "w", "progress": 1.5})).assert_invalid("Field 'progress' must be of type integer");
    progress(1, json!({"worker_id": "w"})).assert_error(400, "Missing required field: progress");
    progress(1, json!({"progress": 1})).assert_error(400, "Missing required field: worker_id");
    progress(1, json!({"worker_id": "v", "progress": 50})).assert_error(403, "Task is claimed by another worker");
    progress(9, json!({"worker_id": "w", "progress": 50})).assert_error(404, "Task not found");
    assert_eq!(api.task(1)["progress"], json!(40));
}

#[test]
fn a_result_is_stored() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("w", type_id).data();
    let result = json!({"success": true, "data": {"videos": 5}});
    let body = json!({"worker_id": "w", "success": true, "result": result});
    let answer = api.post("/tasks/1/complete", body.clone()).data();
    assert_eq!(answer, json!({"id": 1, "status": "completed"}));
    let task = api.task(1);
    assert_recent(&task["completed_at"]);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &result));
    assert_eq!((&task["claimed_by"], &task["progress"]), (&json!("w"), &json!(100)));
    assert_eq!(task["error_message"], json!(null));
    api.post("/tasks/1/complete", body).assert_error(400, "Task is not in claimed state");
}

#[test]
fn invalid_reports_are_refused() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("w", type_id).data();
    let complete = |id: &str, body| api.post(&format!("/tasks/{id}/complete"), body);
    complete("1", json!({"worker_id": "w"})).assert_error(400, "Missing required field: success");
    complete("1", json!({"success": true})).assert_error(400, "Missing required field: worker_id");
    complete("1", json!({"worker_id": "w", "success": null})).assert_error(400, "Missing required field: success");
    complete("1", json!({"worker_id": "v", "success": true})).assert_error(403, "Task is claimed by another worker");
    complete("9", json!({"worker_id": "w", "success": true})).assert_error(404, "Task not found");
    complete("abc", json!({"worker_id": "w", "success": true})).assert_error(404, "Task not found");
    assert_eq!(api.task(1)["status"], json!("claimed"));
}

#[test]
fn a_failed_task_is_retried_up_to_the_maximum_of_attempts() {
    let api = Api::start_with(|settings| settings.max_attempts = 2);
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("w", type_id).data();
    api.post("/tasks/1/progress", json!({"worker_id": "w", "progress": 40})).data();
    assert_eq!(fail(&api, 1, "w").data(), json!({"id": 1, "status": "pending"}));
    let task = api.task(1);
    assert_eq!((&task["status"], &task["attempts"]), (&json!("pending"), &json!(1)));
    assert_eq!((&task["error_message"], &task["claimed_by"]), (&json!("broken"), &json!(null)));
    assert_eq!((&task["claimed_at"], &task["completed_at"]), (&json!(null), &json!(null)));

    assert_eq!(api.claim("w", type_id).data()["attempts"], json!(2));
    assert_eq!(api.task(1)["progress"], json!(0), "a new attempt starts from nothing");
    let body = json!({"worker_id": "w", "success": false, "error": "again", "result": {"error_type": "connection"}});
    assert_eq!(api.post("/tasks/1/complete", body).data(), json!({"id": 1, "status": "failed"}));
    let task = api.task(1);
    assert_recent(&task["completed_at"]);
    assert_eq!((&task["error_message"], &task["claimed_by"]), (&json!("again"), &json!("w")));
    assert_eq!(task["result"], json!({"error_type": "connection"}));
    api.claim("w", type_id).assert_error(404, "No available tasks");
}

#[test]
fn a_success_after_a_failure_clears_the_error() {
    let api = Api::start();
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("w", type_id).data();
    fail(&api, 1, "w").data();
    api.claim("w", type_id).data();
    api.post("/tasks/1/complete", json!({"worker_id": "w", "success": true, "error": "of no account"})).data();
    assert_eq!((&api.task(1)["status"], &api.task(1)["error_message"]), (&json!("completed"), &json!(null)));
}

/// A server whose claims last no longer than it takes to ask again.
fn short_claims() -> (Api, i64) {
    let api = Api::start_with(|settings| settings.claim_timeout = Some(Duration::from_millis(20)));
    let type_id = api.register_any("a");
    api.create("a", json!({}));
    api.claim("first", type_id).data();
    (api, type_id)
}

#[test]
fn an_expired_claim_goes_to_the_next_worker() {
    let (api, type_id) = short_claims();
    let claimed =
        wait_for("the expired claim", || Some(api.claim("second", type_id)).filter(|answer| answer.status == 200))
            .data();
    assert_eq!((&claimed["id"], &claimed["attempts"]), (&json!(1), &json!(2)));
    let report = json!({"worker_id": "first", "success": true, "result": {"late": true}});
    api.post("/tasks/1/complete", report).assert_error(403, "Task is claimed by another worker");
    api.post("/tasks/1/progress", json!({"worker_id": "first", "progress": 90}))
        .assert_error(403, "Task is claimed by another worker");
    api.post("/tasks/1/complete", json!({"worker_id": "second", "success": true})).data();
}

#[test]
fn an_expired_claim_is_valid_until_the_next_claim() {
    let (api, type_id) = short_claims();
    // Another type's claim running out and going on shows that the first one has run out as well.
    let other = api.register_any("b");
    api.create("b", json!({}));
    api.claim("w", other).data();
    wait_for("the other type's task", || Some(api.claim("w", other)).filter(|answer| answer.status == 200));
    let report = json!({"worker_id": "first", "success": true});
    assert_eq!(api.post("/tasks/1/complete", report).data()["status"], json!("completed"));
    api.claim("second", type_id).assert_error(404, "No available tasks");
}

#[test]
fn workers_that_die_use_up_no_attempts() {
    let (api, type_id) = short_claims();
    for attempt in 2..=5 {
        let claimed =
            wait_for("the expired claim", || Some(api.claim("w", type_id)).filter(|answer| answer.status == 200))
                .data();
        assert_eq!(claimed["attempts"], json!(attempt));
    }
}
