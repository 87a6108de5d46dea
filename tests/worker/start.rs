//! Before the first claim.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::{Answer, EmbeddedTaskManager, Output, Rig, ScriptedServer, cases, sandbox};

/// What a worker with more `arguments` says to a server that answers everything with `answer`.
fn answered(answer: Answer, arguments: &[&str]) -> (Output, usize) {
    let server = ScriptedServer::always(answer);
    let sandbox = sandbox(&server.url());
    sandbox.write("prismq.toml", cases("case", ""));
    let output = sandbox.prismq(["work"]).args(arguments.iter().copied()).run();
    (output, server.requests().len())
}

#[track_caller]
fn assert_says(output: &Output, parts: &[&str]) {
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(parts.iter().all(|part| last.contains(part)), "{}", output.stderr);
}

#[test]
fn a_refused_key_ends_it_at_once() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.api_key = Some("the-right-key".into()));
    taskmanager.register("case");
    let sandbox = sandbox(&taskmanager.url());
    sandbox.write("prismq.toml", cases("case", ""));
    let output = sandbox.prismq(["work"]).env("TASKMANAGER_API_KEY", "the-wrong-key").run().exits(5);
    assert_says(&output, &["refused the key", "check TASKMANAGER_API_KEY"]);
    assert!(!output.stderr.contains("the-wrong-key"), "{}", output.stderr);
    let output = sandbox.prismq(["work"]).run().exits(5);
    assert_says(&output, &["without a key", "set TASKMANAGER_API_KEY"]);
    sandbox.prismq(["work", "--drain"]).env("TASKMANAGER_API_KEY", "the-right-key").run().exits(0);
}

#[test]
fn an_unknown_type_ends_it_at_once() {
    let rig = Rig::start();
    rig.sandbox.write("prismq.toml", cases("case", "") + &cases("missing", ""));
    let output = rig.work([]).run().exits(2);
    assert_says(&output, &["has no task type missing", "prismq register-type missing", "--register"]);
    rig.work(["case", "--drain"]).run().exits(0);
}

#[test]
fn a_type_is_registered_where_that_is_asked() {
    let rig = Rig::start();
    let schema = "version = \"2.1.0\"\nschema = { type = \"object\", required = [\"case\"] }";
    rig.sandbox.write("prismq.toml", cases("new", schema));
    let output = rig.work(["--register", "--drain"]).run().exits(0);
    assert!(output.stderr.contains("task type registered task_type=new"), "{}", output.stderr);
    let known = rig.taskmanager.client().task_type("new").unwrap().unwrap();
    assert_eq!(known.version, "2.1.0");
    assert_eq!(known.param_schema, json!({"type": "object", "required": ["case"]}));
}

#[test]
fn a_handler_that_cannot_run_ends_it_before_any_claim() {
    let rig = Rig::start();
    rig.taskmanager.register("broken");
    let id = rig.taskmanager.create("broken", json!({"a": 1}));
    let unusable = rig.sandbox.write("unusable", "#!/bin/sh\n");
    std::fs::set_permissions(&unusable, std::fs::Permissions::from_mode(0o644)).unwrap();
    for program in ["no-such-program-anywhere", "./no-such-file", "./unusable"] {
        let table = format!("[[task_type]]\nname = \"broken\"\nexec = [\"{program}\"]\n");
        rig.sandbox.write("prismq.toml", cases("case", "") + &table);
        let output = rig.work([]).run().exits(2);
        assert_says(&output, &["the handler of broken cannot run", program.trim_start_matches("./")]);
    }
    assert_eq!(rig.taskmanager.task(id).attempts, 0);
}

#[test]
fn a_type_without_a_handler_ends_it() {
    let rig = Rig::start();
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = \"case\"\n");
    assert_says(&rig.work(["case"]).run().exits(2), &["case has no handler", "exec"]);
    assert_says(&rig.work(["other"]).run().exits(2), &["other is not configured", "configured types: case"]);
    assert_says(&rig.work([]).run().exits(2), &["task type"]);
}

#[test]
fn a_handler_may_be_given_on_the_command_line() {
    let rig = Rig::start();
    rig.taskmanager.register("count");
    let id = rig.taskmanager.create("count", json!({"a": 1}));
    rig.work(["--drain", "--handle", "count=wc -l"]).run().exits(0);
    let result = rig.taskmanager.task(id).result.unwrap();
    assert_eq!(result["data"], json!(1));
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let mut taskmanager = EmbeddedTaskManager::away();
    let sandbox = sandbox(&taskmanager.url());
    sandbox.write("prismq.toml", cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let mut worker = sandbox.prismq(["work", "--register"]).start();
    worker.wait_for_stderr("TaskManager unavailable");
    assert!(!worker.stderr().contains("ready"), "{}", worker.stderr());

    taskmanager.restart();
    worker.wait_for_stderr("ready");
    let id = taskmanager.create("case", json!({"case": "it"}));
    worker.wait_for("the task to end", |_| taskmanager.status(id) == "completed");
    let log = worker.stderr();
    assert_eq!(log.matches("cannot reach the TaskManager").count(), 1, "{log}");
    assert_eq!(log.matches("TaskManager available again").count(), 1, "{log}");
}

#[test]
fn a_worker_that_waits_for_the_server_ends_at_once_when_asked() {
    let taskmanager = EmbeddedTaskManager::away();
    let sandbox = sandbox(&taskmanager.url());
    sandbox.write("prismq.toml", cases("case", ""));
    let mut worker = sandbox.prismq(["work", "--poll-interval", "10m", "--max-backoff", "10m"]).start();
    worker.wait_for_stderr("TaskManager unavailable");
    let start = std::time::Instant::now();
    worker.terminate();
    worker.wait().exits(0);
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}

#[test]
fn workers_that_end_report_an_unreachable_server() {
    let url = EmbeddedTaskManager::away().url();
    let sandbox = sandbox(&url);
    sandbox.write("prismq.toml", cases("case", ""));
    let both = [&["work", "--drain"][..], &["work", "--max-tasks", "1"]];
    for worker in both.map(|arguments| sandbox.prismq(arguments.iter().copied()).start()) {
        let output = worker.wait().exits(4);
        assert_says(&output, &["cannot reach the TaskManager at", &url, "TASKMANAGER_API_URL", "prismq serve"]);
    }
}

#[test]
fn retries_bridge_a_gap_for_workers_that_end() {
    let (output, requests) = answered(Answer::page(502), &["--drain"]);
    assert_says(&output.exits(4), &["is unavailable", "502", "try again later"]);
    assert_eq!(requests, 5);
}

#[test]
fn a_server_that_is_none_ends_it() {
    for arguments in [&[][..], &["--drain"], &["--register"]] {
        let (output, requests) = answered(Answer::page(200), arguments);
        assert_says(&output.exits(4), &["no TaskManager at", "an HTML page", "ends in /api"]);
        assert_eq!(requests, 1, "it cannot become one");
    }
    let (output, _) = answered(Answer::json(200, &json!({"success": true, "data": {"id": "x"}})), &[]);
    assert_says(&output.exits(1), &["gave an invalid answer", "GET /task-types/case"]);
}

#[test]
fn a_results_file_that_cannot_be_used_ends_it() {
    let rig = Rig::start();
    rig.sandbox.write("text.db", "this is no database, and is longer than a header of one would be ".repeat(9));
    let output = rig.work(["--results", "text.db"]).run().exits(2);
    assert_says(&output, &["text.db", "not an SQLite database", "--results"]);
}
