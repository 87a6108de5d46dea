//! Results reported by one call, and reports that are idempotent because they name their attempt.

use serde_json::{Value, json};

use crate::api::Api;
use crate::batches::{api, claim, complete, create, ids};
use crate::support::wait_for;

#[test]
fn a_refused_report_does_not_stop_others() {
    let (api, [a, ..]) = api();
    create(&api, "a", 5);
    assert_eq!(ids(&claim(&api, 4, json!([{"id": a}])).data()).len(), 4);
    api.post("/tasks/4/complete", json!({"worker_id": "w", "success": true})).data();
    let too_long = "x".repeat(65_536);
    let answers = complete(
        &api,
        json!([
            {"id": 1, "attempt": 1, "success": true, "result": {"r": 1}},
            {"id": 99, "attempt": 1, "success": true},
            {"id": 2, "attempt": 1, "success": false, "error": "broken"},
            {"id": 5, "attempt": 1, "success": true},
            {"id": 3},
            {"id": 3, "attempt": 1, "success": false, "error": too_long},
            {"id": 3, "attempt": "1", "success": true},
            {"id": 4, "success": true},
            {"id": 3, "attempt": 1, "success": true},
        ]),
    )
    .data();
    let invalid = |detail: &str| json!({"id": 3, "error": "Validation failed", "code": 400, "details": [detail]});
    let expected = json!([
        {"id": 1, "status": "completed"},
        {"id": 99, "error": "Task not found", "code": 404},
        {"id": 2, "status": "pending"},
        {"id": 5, "error": "Task is not in claimed state", "code": 400},
        {"id": 3, "error": "Missing required field: results[4].success", "code": 400},
        invalid("Field 'results[5].error' is longer than 65535 bytes"),
        invalid("Field 'results[6].attempt' must be of type integer"),
        {"id": 4, "error": "Task is not in claimed state", "code": 400},
        {"id": 3, "status": "completed"},
    ]);
    assert_eq!(answers, json!({"items": expected}));
    assert_eq!((&api.task(1)["result"], &api.task(2)["error_message"]), (&json!({"r": 1}), &json!("broken")));
}

#[test]
fn a_batch_of_reports_without_ids_is_refused() {
    let (api, [a, ..]) = api();
    create(&api, "a", 1);
    claim(&api, 1, json!([{"id": a}])).data();
    let good = json!({"id": 1, "success": true});
    complete(&api, json!([])).assert_invalid("Field 'results' must have at least 1 entry");
    complete(&api, json!([good, 7])).assert_invalid("Field 'results[1]' must be of type object");
    complete(&api, json!([good, {"success": true}])).assert_error(400, "Missing required field: results[1].id");
    complete(&api, json!([good, good, good, {"id": "4"}]))
        .assert_invalid("Field 'results[3].id' must be of type integer");
    complete(&api, json!(vec![good.clone(); 101]))
        .assert_invalid("Field 'results' must have at most 100 entries; it has 101");
    api.post("/tasks/complete", json!({"results": [good]})).assert_error(400, "Missing required field: worker_id");
    api.post("/tasks/complete", json!({"worker_id": "w"})).assert_error(400, "Missing required field: results");
    assert_eq!(api.task(1)["status"], json!("claimed"));
    assert_eq!(complete(&api, json!(vec![good; 100])).data()["items"][99]["code"], json!(400));
}

/// Reports attempt `attempt` of task 1 alone, and in a batch. The answers must say the same; the status or the error.
#[track_caller]
fn report(api: &Api, worker: &str, attempt: i64, success: bool) -> (u16, String) {
    let entry = json!({"id": 1, "attempt": attempt, "success": success, "error": "broken"});
    let mut alone = entry.clone();
    alone["worker_id"] = json!(worker);
    let alone = api.post("/tasks/1/complete", alone);
    let batch = api.post("/tasks/complete", json!({"worker_id": worker, "results": [entry]})).data()["items"][0].take();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = (alone.status, text(&alone.body["data"]["status"]) + &text(&alone.body["error"]));
    let of_batch = (batch["code"].as_u64().unwrap_or(200), text(&batch["status"]) + &text(&batch["error"]));
    assert_eq!(of_batch, (u64::from(said.0), said.1.clone()), "alone and in a batch");
    said
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[test]
fn a_report_with_its_attempt_may_be_sent_again() {
    let (api, [a, ..]) = api();
    create(&api, "a", 1);
    assert_eq!(report(&api, "w", 1, true), said(400, "Task is not in claimed state"), "nobody has claimed it yet");
    api.claim("w", a).data();
    assert_eq!(report(&api, "w", 2, true), said(409, "Attempt is over"), "there is no such attempt");
    assert_eq!(report(&api, "v", 1, true), said(403, "Task is claimed by another worker"));
    for _ in 0..2 {
        assert_eq!(report(&api, "w", 1, false), said(200, "pending"));
    }
    assert_eq!(report(&api, "v", 1, false), said(409, "Attempt is over"), "it was not its attempt");
    api.claim("v", a).data();
    assert_eq!(report(&api, "w", 1, false), said(200, "pending"), "though another has it now");
    assert_eq!(report(&api, "v", 2, false), said(200, "pending"));
    api.claim("w", a).data();
    assert_eq!(report(&api, "w", 3, false), said(200, "failed"));
    assert_eq!(report(&api, "w", 3, true), said(200, "failed"), "what became of it then");
    assert_eq!(report(&api, "v", 2, true), said(200, "pending"));
    assert_eq!(report(&api, "w", 2, true), said(409, "Attempt is over"));
    assert_eq!(report(&api, "v", 3, true), said(409, "Attempt is over"));
    assert_eq!(api.task(1)["status"], json!("failed"), "none of these has changed anything");
}

#[test]
fn a_report_of_an_earlier_attempt_is_refused() {
    let api = Api::start_with(|settings| settings.claim_timeout = Some(std::time::Duration::from_millis(1)));
    let a = api.register_any("a");
    create(&api, "a", 1);
    api.claim("w", a).data();
    wait_for("the claim to expire", || (api.claim("w", a).status == 200).then_some(()));
    let attempts = api.task(1)["attempts"].as_i64().unwrap();
    // Without its attempt, it would be taken for the later one of the same worker.
    assert_eq!(report(&api, "w", 1, true), said(409, "Attempt is over"));
    for _ in 0..2 {
        assert_eq!(report(&api, "w", attempts, true), said(200, "completed"));
    }
    assert_eq!(report(&api, "w", 1, true), said(409, "Attempt is over"));
}

#[test]
fn a_repeated_result_in_a_batch_counts_once() {
    let (api, [a, ..]) = api();
    create(&api, "a", 1);
    api.claim("w", a).data();
    let failed = json!({"id": 1, "attempt": 1, "success": false, "error": "broken"});
    let items = complete(&api, json!([failed, failed])).data();
    assert_eq!(items, json!({"items": [{"id": 1, "status": "pending"}, {"id": 1, "status": "pending"}]}));
    assert_eq!(api.task(1)["attempts"], json!(1));
}
