//! The worker against what the published TaskManager answers: what it sends there, and what it makes of it.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::published::{Fault, KEY, PublishedServer};
use crate::support::{Answer, Output, Sandbox, cases, read_rows, recorded, without_moments, without_times};

/// A sandbox that reaches the published TaskManager by two variables, and a file that says how `types` are worked.
fn sandbox(published: &PublishedServer, types: &str) -> Sandbox {
    let sandbox = Sandbox::at(&published.url()).env("TASKMANAGER_API_KEY", KEY);
    sandbox.write("prismq.toml", types);
    sandbox
}

fn drain(sandbox: &Sandbox) -> Output {
    // The waits are the only settings: nobody wants to wait 10 s for the second poll of a test.
    sandbox.prismq(["work", "--drain", "--poll-interval", "50ms"]).run().exits(0)
}

/// Where results go by default.
fn results(sandbox: &Sandbox) -> Vec<Value> {
    let found = find(&sandbox.home(""), "results.db").expect("a results file somewhere at home");
    read_rows(&found, "results")
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find_map(|path| if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) })
}

/// The worker's name for itself, from what it sent.
fn worker_id(published: &PublishedServer) -> String {
    let requests = published.server.requests();
    let mut names = requests.iter().filter(|request| request.method == "POST").map(|it| it.json()["worker_id"].clone());
    let first = names.next().unwrap();
    assert!(names.all(|name| name == first), "one process has one name");
    first.as_str().unwrap().to_owned()
}

/// The bodies sent to complete tasks, without what is different each time.
fn completes(published: &PublishedServer) -> Vec<(u64, Value)> {
    let without_moments = |(id, mut body): (u64, Value)| {
        body["result"] = without_moments(body["result"].take());
        (id, body)
    };
    published.completes().into_iter().map(without_moments).collect()
}

fn success(worker: &str, data: &Value) -> Value {
    let result = json!({"success": true, "data": data, "metadata": {"worker_id": worker}});
    json!({"worker_id": worker, "success": true, "result": result})
}

fn failure(worker: &str, error: &str, error_type: &str, retryable: bool) -> Value {
    let result = json!({
        "success": false, "error": error, "error_type": error_type, "retryable": retryable,
        "metadata": {"worker_id": worker},
    });
    json!({"worker_id": worker, "success": false, "error": error, "result": result})
}

fn not_run(mut failure: Value) -> Value {
    failure["result"]["metadata"]["not_run"] = json!(true);
    failure
}

#[test]
fn a_mix_of_outcomes_is_completed() {
    let published = PublishedServer::start(&["other", "case"]);
    let sandbox = sandbox(&published, &cases("case", ""));
    let create = |name: &str, script: &str| {
        sandbox.write(&format!("{name}.sh"), script);
        published.create("case", json!({"case": name, "filter": {}}))
    };
    let json = create("json", r#"echo '{"videos":5,"none":{}}'"#);
    let nothing = create("nothing", ":");
    let busy = create("busy", "echo 'quota exceeded' >&2; exit 69");
    let wrong = create("wrong", "echo ran >>runs; echo 'no such channel' >&2; exit 65");
    let long = create("long", "head -c 70000 /dev/zero | tr '\\0' x");
    let wide = create("wide", "yes ž | head -n 22000 | tr -d '\\n'");
    // The server counts other bytes than we do, and refuses the whole result.
    let refused = Fault::Answer(recorded("complete: result over 65,535 bytes"));
    published.inject(&format!("POST /tasks/{wide}/complete"), refused);
    drain(&sandbox);

    let worker = worker_id(&published);
    let summary = |bytes: usize| {
        let mut body = success(&worker, &Value::Null);
        body["result"].as_object_mut().unwrap().remove("data");
        body["result"]["data_bytes"] = json!(bytes);
        body["result"]["data_omitted"] = json!(["output"]);
        body
    };
    let wide_data = json!({"output": "ž".repeat(22_000)});
    let expected = [
        (json, success(&worker, &json!({"videos": 5, "none": {}}))),
        (nothing, success(&worker, &Value::Null)),
        (busy, failure(&worker, "quota exceeded", "connection", true)),
        (busy, failure(&worker, "quota exceeded", "connection", true)),
        (busy, failure(&worker, "quota exceeded", "connection", true)),
        (wrong, failure(&worker, "no such channel", "validation", false)),
        (wrong, not_run(failure(&worker, "no such channel", "validation", false))),
        (wrong, not_run(failure(&worker, "no such channel", "validation", false))),
        (long, summary(70_000 + r#"{"output":""}"#.len())),
        (wide, success(&worker, &wide_data)),
        (wide, summary(wide_data.to_string().len())),
    ];
    // The reports of one task keep their order. A failed task is handed out again when its report has arrived, by which
    // time the slot has taken the next one.
    let mut sent = completes(&published);
    sent.sort_by_key(|(id, _)| *id);
    for (sent, expected) in sent.iter().zip(&expected) {
        assert_eq!(sent, expected);
    }
    assert_eq!(sent.len(), expected.len());

    let statuses = [json, nothing, busy, wrong, long, wide].map(|id| published.task(id).status);
    assert_eq!(statuses, ["completed", "completed", "failed", "failed", "completed", "completed"]);
    assert_eq!(sandbox.read("runs"), "ran\n", "what cannot be mended is not run again");
    let row = without_times(results(&sandbox).remove(0));
    let expected = json!({
        "task_id": json, "task_type": "case", "attempt": 1, "worker_id": worker, "process": 1, "api_url": published.url(),
        "status": "completed", "params": r#"{"case":"json","filter":[]}"#, "data": r#"{"none":{},"videos":5}"#,
        "message": null, "error": null, "error_type": null, "retryable": null, "metadata": null,
    });
    assert_eq!(row, expected);
    let data: Vec<Value> = results(&sandbox).iter().map(|row| row["data"].clone()).collect();
    assert!(data.contains(&json!(wide_data.to_string())), "the file has it all");
}

#[test]
fn empty_params_reach_the_handler_as_an_object() {
    let published = PublishedServer::start(&["cat"]);
    let sandbox = sandbox(&published, "[[task_type]]\nname = \"cat\"\nexec = [\"cat\"]");
    published.create("cat", json!({}));
    drain(&sandbox);
    let [(1, body)] = &published.completes()[..] else { panic!("{:?}", published.completes()) };
    let task = &body["result"]["data"];
    let expected = json!({
        "id": 1, "type": "cat", "params": {}, "attempt": 1, "priority": 0, "worker_id": worker_id(&published),
        "deadline": task["deadline"],
    });
    assert_eq!(task, &expected);
    let deadline: jiff::Timestamp = task["deadline"].as_str().unwrap().parse().unwrap();
    let left = deadline.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((200..=290).contains(&left), "300 s less 10 s to report: {left}");
}

/// Works one task whose script is `script`, on a server into whose calls `inject` injects faults.
fn one_task(script: &str, inject: impl FnOnce(&PublishedServer)) -> (PublishedServer, Vec<Value>, Output) {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox(&published, &cases("case", ""));
    sandbox.write("it.sh", script);
    published.create("case", json!({"case": "it"}));
    inject(&published);
    let output = drain(&sandbox);
    (published, results(&sandbox), output)
}

#[test]
fn a_deadlock_on_complete_is_tried_again() {
    let (published, rows, _) = one_task("echo 1", |published| {
        let deadlock = recorded("complete: deadlock in the server's database");
        published.inject("POST /tasks/1/complete", Fault::Answer(deadlock));
    });
    assert_eq!((published.task(1).status.as_str(), published.count("POST /tasks/1/complete")), ("completed", 2));
    assert_eq!(without_times(rows[0].clone())["status"], json!("completed"));
}

#[test]
fn a_complete_whose_answer_was_lost_is_looked_up() {
    for (script, status) in [("echo 1", "completed"), ("exit 75", "failed")] {
        let (published, rows, _) = one_task(script, |published| {
            published.inject("POST /tasks/1/complete", Fault::AnswerLost);
        });
        assert_eq!(published.task(1).status, status);
        // One for each attempt: nothing is sent twice, and the first failure is not taken for a lost claim.
        let statuses: Vec<_> = rows.into_iter().map(|row| without_times(row)["status"].clone()).collect();
        assert_eq!(statuses, vec![json!(status); published.count("POST /tasks/1/complete")]);
        assert_eq!(published.count("GET /tasks/1"), 1);
    }
}

#[test]
fn a_lost_claim_is_kept_as_lost() {
    let (published, rows, output) = one_task("echo 1", |published| {
        published.inject("POST /tasks/1/complete", Fault::Stolen);
    });
    assert_eq!(published.task(1).status, "claimed", "it is the other worker's");
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let row = without_times(row.clone());
    assert_eq!((&row["status"], &row["data"]), (&json!("lost"), &json!("1")));
    assert!(output.stderr.contains("claim lost: result kept in the results file only"), "{}", output.stderr);
}

#[test]
fn progress_that_is_refused_ends_the_handler() {
    let script = r#"echo '{"progress":50}' >&3; echo on >&2; sleep 20; echo 1"#;
    let (_, rows, _) = one_task(script, |published| published.inject("POST /tasks/1/progress", Fault::Stolen));
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let row = without_times(row.clone());
    let expected = ("lost", "claim_lost", 1);
    assert_eq!(
        (row["status"].as_str().unwrap(), row["error_type"].as_str().unwrap(), row["retryable"].as_i64().unwrap()),
        expected
    );
}

#[test]
fn lost_claims_say_nothing_about_the_service_of_a_type() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = sandbox(&published, &cases("case", ""));
    sandbox.write("lost.sh", r#"echo '{"progress":50}' >&3; sleep 20"#);
    sandbox.write("it.sh", "echo 1");
    for n in 1..=5 {
        let id = published.create("case", json!({"case": "lost", "n": n}));
        published.inject(&format!("POST /tasks/{id}/progress"), Fault::Stolen);
    }
    let last = published.create("case", json!({"case": "it"}));
    let output = drain(&sandbox);
    assert_eq!(results(&sandbox).iter().filter(|row| row["error_type"] == json!("claim_lost")).count(), 5);
    assert_eq!(published.task(last).status, "completed");
    assert!(!output.stderr.contains("circuit open"), "{}", output.stderr);
}

#[test]
fn progress_that_fails_otherwise_harms_nothing() {
    let script = r#"echo '{"progress":50,"message":"half"}' >&3; echo 1"#;
    let (published, rows, _) = one_task(script, |published| {
        published.inject("POST /tasks/1/progress", Fault::Answer(recorded("the server's database is down")));
    });
    assert_eq!(published.task(1).status, "completed");
    assert_eq!(without_times(rows[0].clone())["status"], json!("completed"));
    let requests = published.server.requests();
    let progress = requests.iter().find(|request| request.path == "/tasks/1/progress").unwrap();
    let expected = json!({"worker_id": worker_id(&published), "progress": 50, "message": "half"});
    assert_eq!(progress.json(), expected);
}

#[test]
fn calls_that_fail_on_the_way_are_made_again() {
    let (published, rows, _) = one_task("echo 1", |published| {
        published.inject("GET /task-types/case", Fault::Answer(recorded("backend down")));
        published.inject("POST /tasks/claim", Fault::Answer(recorded("the server's database is down")));
        published.inject("POST /tasks/claim", Fault::Answer(Answer::close()));
        published.inject("POST /tasks/1/complete", Fault::Answer(recorded("backend down")));
    });
    assert_eq!((published.task(1).status.as_str(), rows.len()), ("completed", 1));
}

#[test]
fn every_call_carries_the_key_and_asks_in_the_right_order() {
    let (published, ..) = one_task("echo 1", |_| ());
    let requests = published.server.requests();
    assert!(
        requests.iter().all(|request| request.header("X-API-Key") == Some(KEY) || request.path.ends_with("/health"))
    );
    // The next task is asked for while the result of the last is reported.
    let (claims, others): (Vec<_>, Vec<_>) =
        published.server.calls().into_iter().partition(|call| *call == "POST /tasks/claim");
    assert_eq!(others, ["GET /task-types/case", "GET /health", "POST /tasks/1/complete"]);
    assert!(claims.len() >= 2 && published.server.calls()[2] == claims[0], "{:?}", published.server.calls());
    let claim = json!({
        "worker_id": worker_id(&published), "task_type_id": 1, "sort_by": "created_at", "sort_order": "ASC",
    });
    assert_eq!(requests[2].json(), claim);
}
