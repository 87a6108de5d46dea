//! `create-task --wait`.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ANY, Answer, Rig, Sandbox, ScriptedServer, complains, says_once};

fn shown(status: &str, changes: &Value) -> Answer {
    let mut task = json!({
        "id": 7, "type": ANY, "status": status, "params": {"a": "1"}, "result": null, "error_message": null,
        "priority": 0, "progress": 0, "attempts": 1, "claimed_by": null, "claimed_at": null, "completed_at": null,
        "created_at": "2026-11-22 03:18:35",
    });
    task.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Answer::data(&task)
}

fn created() -> Answer {
    Answer::data(&json!({"id": 7, "type": ANY, "status": "pending", "dedupe_key": "x"}))
}

const WAIT: [&str; 4] = ["create-task", ANY, "a=1", "--wait"];

#[test]
fn wait_prints_the_result() {
    let rig = Rig::new();
    let mut waiting = rig.spawn("create-task example.any a=1 --wait");
    waiting.wait_for_stderr("task 1 created, waiting for it to finish\n");
    rig.run("claim example.any --once").exits(0);
    assert!(waiting.is_running());
    rig.run("complete 1 --result {\"words\":3}").exits(0);
    let output = waiting.wait().exits(0);
    let result = output.json();
    assert_eq!((&result["success"], &result["data"]), (&json!(true), &json!({"words": 3})));
    assert_eq!(output.stdout.lines().count(), 1);

    let again = rig.run("create-task example.any a=1 --wait").exits(0);
    assert_eq!(again.json(), result, "it has ended already");
    assert_eq!(again.stderr, "task 1 already exists with the same params: completed\n");
    let task = rig.run("create-task example.any a=1 --wait --json").exits(0).json();
    assert_eq!((&task["id"], &task["status"], &task["result"]), (&json!(1), &json!("completed"), &result));
}

#[test]
fn a_failure_is_exit_code_1() {
    let failed = json!({"result": {"success": false, "error": "no luck"}, "error_message": "no luck", "attempts": 3});
    for (flags, expected) in [(&[][..], &failed["result"]), (&["--json"][..], &json!(null))] {
        let server = ScriptedServer::queue([created(), shown("claimed", &json!({})), shown("failed", &failed)]);
        let output = Sandbox::at(&server.url()).prismq(WAIT).args(flags.iter().copied()).run().exits(1);
        let printed = output.json();
        if flags.is_empty() {
            assert_eq!(&printed, expected);
            assert!(output.stderr.ends_with("prismq: task 7 failed: no luck\n"), "{}", output.stderr);
        } else {
            assert_eq!((&printed["status"], &printed["error_message"]), (&json!("failed"), &json!("no luck")));
            let error: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(error["code"], 1);
        }
    }
}

#[test]
fn timeout_limits_the_wait() {
    let server = ScriptedServer::start(|request| match request.method.as_str() {
        "POST" => created(),
        _ => shown("pending", &json!({})),
    });
    let sandbox = Sandbox::at(&server.url());
    let start = Instant::now();
    let output = sandbox.prismq(WAIT).args(["--timeout", "250ms"]).run().exits(1);
    assert!(start.elapsed() >= Duration::from_millis(250));
    assert!(output.stderr.contains("prismq: timed out waiting for task 7: it is pending"), "{}", output.stderr);
    assert!(output.stderr.contains("prismq show-task 7"), "{}", output.stderr);
    assert_eq!(output.stdout, "");
}

#[test]
fn a_deleted_task_ends_the_wait() {
    let server = ScriptedServer::queue([created(), Answer::error(404, "Task not found")]);
    let output = Sandbox::at(&server.url()).prismq(WAIT).run().exits(1);
    assert!(output.stderr.ends_with("prismq: task 7 is no longer in the TaskManager\n"), "{}", output.stderr);
}

/// Sends a signal after `count` requests, and expects the command to end at once.
fn ends_at_once(server: &ScriptedServer, count: usize, signal: Signal) {
    let sandbox = Sandbox::at(&server.url());
    let running = sandbox.prismq(WAIT).start();
    server.wait_for_requests(count);
    let start = Instant::now();
    running.signal(signal);
    let output = running.wait().exits(130);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(output.stdout, "");
}

#[test]
fn a_signal_ends_the_wait_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let pending = ScriptedServer::start(|request| match request.method.as_str() {
            "POST" => created(),
            _ => shown("pending", &json!({})),
        });
        // After four polls it sleeps for more than a third of a second.
        ends_at_once(&pending, 5, signal);
        let silent = ScriptedServer::start(|request| match request.method.as_str() {
            "POST" => created(),
            _ => Answer::hang(),
        });
        ends_at_once(&silent, 2, signal);
    }
}

#[test]
fn timeout_requires_wait() {
    let rig = Rig::new();
    rig.run("create-task example.any a=1 --timeout 5s").exits(2);
    rig.run("create-task example.any --from x --wait").exits(2);
    assert_eq!(rig.run("list-tasks --json").exits(0).stdout, "");
    let output = rig.run("create-task no.such a=1 --wait").exits(2);
    says_once(&output, &["no.such"]);
    complains(&rig.run("create-task example.any --params [] --wait"), 2, &["JSON object"]);
}
