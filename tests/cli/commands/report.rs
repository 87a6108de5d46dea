//! `complete`, `fail` and `progress`.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer, complains, complains_in_json, type_found, wait_for};

/// A rig with task 1 claimed by `me`.
fn claimed() -> Rig {
    let rig = Rig::new();
    rig.create(ANY, &json!({"n": 1}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig
}

/// The only row of the results file.
fn row(rig: &Rig) -> Value {
    let rows = rig.results();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

#[test]
fn a_claimed_task_is_completed() {
    let rig = claimed();
    let output = rig.run("complete 1 --result {\"answer\":42}").exits(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("task 1 completed\n", ""));
    let (task, row) = (rig.task(1), row(&rig));
    assert_eq!((&task["status"], &task["claimed_by"]), (&json!("completed"), &json!("me")));
    let result = &task["result"];
    assert_eq!((&result["success"], &result["data"]), (&json!(true), &json!({"answer": 42})));
    assert_eq!(result["metadata"]["worker_id"], "me");
    assert!(result["metadata"]["processed_at"].is_string() && result["metadata"]["processing_time"].is_number());
    let expected = json!({"task_id": 1, "task_type": ANY, "attempt": 1, "worker_id": "me", "api_url": rig.url(),
        "status": "completed", "params": {"n": 1}, "data": {"answer": 42}, "message": null, "error": null});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(row[key], *value, "{key}");
    }
    assert!(row["reported_at"].is_string());
    for line in ["complete 1", "fail 1 --error x", "progress 1 50"] {
        let output = rig.run(line);
        complains(&output, 1, &["task 1 is already completed: reported here at 2"]);
        assert!(!output.stderr.contains("prismq claim"), "nobody can claim it: {output:?}");
    }
}

#[test]
fn the_envelope_is_printed_with_json() {
    let rig = claimed();
    let envelope = rig.run("complete 1 --result 5 --json").exits(0).json();
    assert_eq!(envelope, rig.task(1)["result"]);
}

#[test]
fn a_result_is_read_from_all_sources() {
    for (argument, stdin, data) in [
        ("[1,2]", "", json!([1, 2])),
        ("\"text\"", "", json!("text")),
        ("-5", "", json!(-5)),
        ("@result.json", "", json!({"from": "a file"})),
        ("-", "{\"from\":\n\"stdin\"}", json!({"from": "stdin"})),
    ] {
        let rig = claimed();
        rig.sandbox.write("result.json", "{\"from\": \"a file\"}\n");
        rig.sandbox.prismq(["complete", "1", "--result", argument]).stdin(stdin).run().exits(0);
        assert_eq!(rig.task(1)["result"]["data"], data, "{argument}");
    }
    let rig = claimed();
    rig.run("complete 1").exits(0);
    assert_eq!(rig.task(1)["result"]["data"], Value::Null);
}

#[test]
fn an_envelope_is_accepted_as_a_result() {
    let rig = claimed();
    let envelope = r#"{"success":true,"data":[7],"message":"all good","metadata":{"model":"small"}}"#;
    rig.sandbox.prismq(["complete", "1", "--result", envelope]).run().exits(0);
    let result = rig.task(1)["result"].clone();
    assert_eq!((&result["data"], &result["message"]), (&json!([7]), &json!("all good")));
    assert_eq!((&result["metadata"]["model"], &result["metadata"]["worker_id"]), (&json!("small"), &json!("me")));

    let rig = claimed();
    let envelope = r#"{"success":false,"error":"no quota","error_type":"quota","retryable":true}"#;
    let output = rig.sandbox.prismq(["complete", "1", "--result", envelope]).run().exits(0);
    assert_eq!(output.stdout, "attempt 1 of task 1 failed; it is pending again and will be retried\n");
    let row = row(&rig);
    assert_eq!((&row["error"], &row["error_type"]), (&json!("no quota"), &json!("quota")));
    assert_eq!((&row["status"], &row["retryable"]), (&json!("failed"), &json!(true)));
}

#[test]
fn a_failure_is_reported_with_its_error() {
    let rig = claimed();
    let output = rig.sandbox.prismq(["fail", "1", "--error", "the page is gone"]).run().exits(0);
    let again = "attempt 1 of task 1 failed; it is pending again and will be retried\n";
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (again, ""));
    let task = rig.task(1);
    assert_eq!((&task["status"], &task["error_message"]), (&json!("pending"), &json!("the page is gone")));
    assert_eq!(row(&rig)["error"], "the page is gone");

    rig.run("claim example.any --once").exits(0);
    let envelope = rig.sandbox.prismq(["fail", "1", "--error", "again", "--json"]).run().exits(0).json();
    let expected = [json!(false), json!("again"), json!("handler"), json!(false)];
    assert_eq!(["success", "error", "error_type", "retryable"].map(|key| envelope[key].clone()), expected);
    rig.run("fail 1").exits(2);
    complains(
        &rig.run("fail 1 --error x"),
        1,
        &["attempt 2 of task 1 has already failed: reported here at 2", "prismq claim"],
    );
    rig.run("claim example.any --once").exits(0);
    assert_eq!(rig.run("fail 1 --error x").exits(0).stdout, "task 1 failed\n", "the last of its attempts");
}

#[test]
fn progress_is_reported_and_printed_with_json_only() {
    let rig = claimed();
    for (percent, flags) in [("0", &[][..]), ("40", &["--message", "half way"]), ("100", &["--json"])] {
        let printed = if flags == ["--json"] { "{\"id\":1,\"message\":null,\"progress\":100}\n" } else { "" };
        let output = rig.sandbox.prismq(["progress", "1", percent]).args(flags.iter().copied()).run().exits(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (printed, ""));
        assert_eq!(rig.task(1)["progress"].to_string(), percent);
    }
    rig.run("progress 1 101").exits(2);
    rig.run("progress 1 50.5").exits(2);
    rig.run("complete 1").exits(0);
}

#[test]
fn progress_may_have_a_message() {
    let server = ScriptedServer::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", _) => type_found(),
        (_, "/tasks/claim") => Answer::data(&json!({"id": 5, "type": ANY, "params": {}, "attempts": 1})),
        _ => Answer::data(&json!({"id": "5", "progress": 40})),
    });
    let sandbox = Sandbox::at(&server.url());
    sandbox.prismq(["claim", ANY, "--worker-id", "me"]).run().exits(0);
    sandbox.prismq(["progress", "5", "40", "--message", "half way"]).run().exits(0);
    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.path, "/tasks/5/progress");
    assert_eq!(sent.json(), json!({"worker_id": "me", "progress": 40, "message": "half way"}));
}

#[test]
fn an_unclaimed_task_is_an_error() {
    let rig = Rig::new();
    rig.create(ANY, &json!({"n": 1}));
    for line in ["complete 1", "fail 1 --error x", "progress 1 5", "complete 99"] {
        complains(&rig.run(line), 1, &["was not claimed with this results file", "prismq claim"]);
        complains_in_json(&rig.run(&format!("{line} --json")), 1);
    }
    for line in ["complete 1 --worker-id me", "fail 1 --error x --worker-id me", "progress 1 5 --worker-id me"] {
        complains(&rig.run(line), 1, &["task 1 is not claimed by this worker", "prismq show-task 1"]);
    }
    complains(&rig.run("complete 99 --worker-id me"), 1, &["has no task 99"]);
    assert_eq!(rig.task(1)["status"], "pending");
}

#[test]
fn a_lost_claim_is_an_error_and_the_result_is_kept() {
    let rig = Rig::with_claims_of(std::time::Duration::from_millis(50));
    rig.create(ANY, &json!({"n": 1}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    let elsewhere = ["claim", ANY, "--once", "--worker-id", "another", "--results", "elsewhere.db"];
    wait_for("the claim's end", || (rig.sandbox.prismq(elsewhere).run().code() == 0).then_some(()));
    complains(&rig.run("progress 1 5"), 1, &["task 1 is not claimed by this worker"]);
    complains(&rig.run("complete 1 --result 5"), 1, &["task 1 is not claimed by this worker", "prismq show-task 1"]);
    let row = row(&rig);
    assert_eq!((&row["status"], &row["data"]), (&json!("lost"), &json!(5)));
    assert!(row["reported_at"].is_string());
    let task = rig.task(1);
    assert_eq!((&task["status"], &task["claimed_by"]), (&json!("claimed"), &json!("another")));
}

#[test]
fn worker_id_is_enough_without_a_noted_claim() {
    let rig = claimed();
    let elsewhere = ["--results", "elsewhere.db"];
    let run = |line: &str| rig.prismq(line).args(elsewhere).run();
    complains(&run("complete 1"), 1, &["task 1 was not claimed with this results file"]);
    complains(&run("complete 1 --worker-id somebody"), 1, &["not claimed by this worker"]);
    run("progress 1 30 --worker-id me").exits(0);
    run("complete 1 --result 6 --worker-id me").exits(0);
    let task = rig.task(1);
    assert_eq!((&task["status"], &task["progress"]), (&json!("completed"), &json!(100)));
    let rows = run("results --json").exits(0).json_lines();
    let last = rows.last().unwrap();
    assert_eq!((&last["params"], &last["data"], &last["worker_id"]), (&json!({"n": 1}), &json!(6), &json!("me")));
}

#[test]
fn a_noted_claim_takes_precedence_over_the_environment() {
    let rig = claimed();
    rig.prismq("complete 1 --result 5").env("WORKER_ID", "this-machine").run().exits(0);
    assert_eq!(row(&rig)["worker_id"], "me");
}

#[test]
fn an_unreported_result_is_sent_the_next_time() {
    static REFUSES: AtomicBool = AtomicBool::new(true);
    let server = ScriptedServer::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/tasks/5") => {
            Answer::data(&json!({"id": 5, "type": ANY, "status": "claimed", "attempts": 1, "claimed_by": "me"}))
        }
        ("GET", _) => type_found(),
        (_, "/tasks/claim") => Answer::data(&json!({"id": 5, "type": ANY, "params": {}, "attempts": 1})),
        _ if REFUSES.load(SeqCst) => Answer::json(401, &json!({"error": "Unauthorized", "message": "bad key"})),
        _ => Answer::data(&json!({"id": 5, "status": "completed"})),
    });
    let sandbox = Sandbox::at(&server.url());
    sandbox.prismq(["claim", ANY, "--worker-id", "me"]).run().exits(0);
    for _ in 0..2 {
        let output = sandbox.prismq(["complete", "5", "--result", "42"]).run().exits(5);
        assert!(
            output.stderr.contains("bad key") && output.stderr.contains("is stored in the results file"),
            "{output:?}"
        );
        assert!(output.stderr.contains("`prismq complete 5`"), "{output:?}");
    }
    REFUSES.store(false, SeqCst);
    let output = sandbox.prismq(["complete", "5"]).run().exits(0);
    assert_eq!(output.stdout, "task 5 completed\n");
    assert!(output.stderr.contains("already has an unreported result: sending that one"), "{}", output.stderr);
    assert_eq!(server.requests().pop().unwrap().json()["result"]["data"], 42);
    let rows = sandbox.prismq(["results", "--json"]).run().exits(0).json_lines();
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["reported_at"].is_string(), "{rows:?}");
}
