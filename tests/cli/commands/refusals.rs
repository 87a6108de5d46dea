//! A TaskManager with rate limits: each command waits as requested, then does its work.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use serde_json::json;

use crate::support::{ANY, Answer, Request, Rig, Sandbox, ScriptedServer, at_once, complains, recorded, type_found};

/// Refuses each kind of call this many times before it is answered by `answer`.
fn limited(
    times: usize,
    retry_after: &'static str,
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> ScriptedServer {
    let refused = Mutex::new(HashSet::new());
    ScriptedServer::start(move |request| {
        let mut refused = refused.lock().unwrap();
        let call = |time| (request.method.clone(), request.path.clone(), request.body.clone(), time);
        if (0..times).any(|time| refused.insert(call(time))) {
            return Answer::page(429).header("Retry-After", retry_after);
        }
        answer(request)
    })
}

fn answer(request: &Request) -> Answer {
    let task = json!({"id": 7, "type": ANY, "status": "claimed", "params": {}, "attempts": 1, "claimed_by": "me"});
    match (request.method.as_str(), request.path.split('?').next().unwrap()) {
        ("GET", "/task-types") => Answer::data(&json!([])),
        ("GET", "/task-types/example.any") => type_found(),
        ("GET", "/tasks") if !request.path.contains("&offset=0") => Answer::data(&json!([])),
        ("GET", "/tasks") => Answer::data(&json!([task])),
        ("POST", "/task-types/register") => {
            Answer::data(&json!({"id": 1, "name": ANY, "version": "1.0.0", "created": true}))
        }
        _ => Answer::data(&task),
    }
}

#[test]
fn every_command_waits_for_retry_after() {
    let lines = [
        "register-type example.any --schema {\"type\":\"object\"}",
        "list-types",
        "list-tasks",
        "show-task 7",
        "create-task example.any n:=1",
        "claim example.any --once",
        "claim example.any --timeout 15s",
        "progress 7 50 --worker-id me",
        "complete 7 --worker-id me",
        "fail 7 --error no --worker-id me",
    ];
    thread::scope(|scope| {
        for line in lines {
            // The number of tries of other failed calls.
            let server = limited(5, "0", answer);
            scope.spawn(move || Sandbox::at(&server.url()).prismq(line.split_whitespace()).run().exits(0));
        }
    });
}

#[test]
fn each_line_of_a_file_is_created_despite_rate_limits() {
    // The second is the number of tries of other failed calls.
    at_once([(2, "1"), (5, "0")], |(times, retry_after)| {
        let created = Mutex::new(0);
        let server = limited(times, retry_after, move |_| {
            let mut created = created.lock().unwrap();
            *created += 1;
            Answer::data(&json!({"id": *created, "type": ANY, "status": "pending"}))
        });
        let lines: Vec<String> = (0..20).map(|n| json!({"n": n}).to_string()).collect();
        let sandbox = Sandbox::at(&server.url());
        let create = sandbox.prismq(["create-task", ANY, "--from", "-", "--concurrency", "10"]);
        let output = create.stdin(lines.join("\n")).run().exits(0);
        assert_eq!(output.stdout.lines().collect::<HashSet<_>>().len(), 20, "{output:?}");
        assert!(output.stderr.contains("20 created, 0 already existed, 0 failed"), "{output:?}");
    });
}

#[test]
fn time_limits_hold_while_the_server_limits_calls() {
    let server = ScriptedServer::start(|request| match request.path.as_str() {
        "/task-types/example.any" => type_found(),
        "/tasks" => Answer::data(&json!({"id": 7, "type": ANY, "status": "pending"})),
        _ => recorded("rate limited"),
    });
    for line in ["create-task example.any --wait --timeout 1s", "claim example.any --timeout 1s"] {
        let output = Sandbox::at(&server.url()).prismq(line.split_whitespace()).run();
        assert_eq!((output.code(), output.stdout.as_str()), (4, ""), "{line}: {output:?}");
        assert!(output.stderr.lines().last().unwrap().contains("try again in 60 seconds"), "{line}: {output:?}");
    }
}

#[test]
fn a_signal_ends_the_wait() {
    let server = ScriptedServer::always(recorded("rate limited"));
    let sandbox = Sandbox::at(&server.url());
    for line in ["list-tasks", "create-task example.any n:=1", "create-task example.any --from -", "claim example.any"]
    {
        let mut waiting = sandbox.prismq(line.split_whitespace()).stdin("{\"n\":1}\n").start();
        waiting.wait_for_stderr("retrying");
        waiting.terminate();
        waiting.wait().exits(130);
    }
}

#[test]
fn a_refused_key_is_not_retried() {
    complains(&Rig::with_key("the-key").run("list-tasks"), 5, &["refused"]);
}
