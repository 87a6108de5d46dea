//! `claim --run`: runs a task by hand.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ANY, Output, Rig, complains};

/// A rig with one task of [`ANY`], handled by this shell command.
fn rig(line: &str, params: &Value) -> Rig {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{line}'''\n"));
    rig.create(ANY, params);
    rig
}

fn run(rig: &Rig) -> Output {
    rig.run("claim example.any --run --once --worker-id me")
}

/// Asserts the state of task 1 in the results file and the TaskManager after its only attempt.
fn assert_kept(rig: &Rig, status: &str, task_status: &str) -> (Value, Value) {
    let rows = rig.results();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["task_id"], &row["attempt"], &row["worker_id"]), (&json!(1), &json!(1), &json!("me")));
    assert_eq!(row["status"], status);
    assert!(row["reported_at"].is_string(), "{row}");
    let task = rig.task(1);
    assert_eq!(task["status"], task_status);
    (row.clone(), task)
}

#[test]
fn the_outcome_is_printed_and_reported() {
    let rig = rig("wc -w; echo counted >&2", &json!({"text": "a b"}));
    let output = run(&rig).exits(0);
    let envelope = output.json();
    assert_eq!((&envelope["success"], &envelope["data"]), (&json!(true), &json!(2)));
    assert_eq!(envelope["metadata"]["worker_id"], "me");
    let stderr: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(stderr, ["running task 1 (example.any), attempt 1", "counted", "reported: task 1 completed"]);
    let (row, task) = assert_kept(&rig, "completed", "completed");
    assert_eq!(row["data"], 2);
    assert_eq!(task["result"], envelope);
    run(&rig).exits(3);
}

#[test]
fn progress_is_shown_at_most_once_a_second() {
    let reports = "for n in $(seq 40); do echo '{\"progress\":40,\"message\":\"half\"}' >&3; done";
    let rig = rig(&format!("{reports}; until test -e go; do sleep 0.03; done"), &json!({}));
    let mut running = rig.spawn("claim example.any --run");
    running.wait_for_stderr("40 %: half\n");
    rig.sandbox.write("go", "");
    let output = running.wait().exits(0);
    // A busy machine may take some seconds to read all lines.
    assert!(output.stderr.matches("40 %").count() < 20, "{}", output.stderr);
}

#[test]
fn handler_output_is_shown_immediately() {
    let rig = rig("echo first >&2; until test -e go; do sleep 0.03; done; echo second >&2", &json!({}));
    let mut running = rig.spawn("claim example.any --run --json");
    running.wait_for_stderr("first\n");
    assert!(running.is_running() && !running.stderr().contains("second"));
    assert_eq!(running.stdout(), "");
    rig.sandbox.write("go", "");
    let output = running.wait().exits(0);
    assert!(output.stderr.contains("second\n"), "{}", output.stderr);
    assert_eq!((output.stdout.lines().count(), output.json()["success"].clone()), (1, json!(true)));
}

#[test]
fn a_failure_is_reported_with_exit_code_1() {
    let rig = rig("echo no such luck >&2; exit 65", &json!({}));
    let envelope = run(&rig).exits(1).json();
    assert_eq!((&envelope["success"], &envelope["error_type"]), (&json!(false), &json!("validation")));
    assert_eq!(envelope["retryable"], false);
    let (row, task) = assert_kept(&rig, "failed", "pending");
    assert!(row["error"].as_str().unwrap().contains("no such luck"), "{row}");
    assert_eq!(task["error_message"], envelope["error"]);
}

#[test]
fn no_report_leaves_the_task_claimed() {
    let rig = rig("wc -w", &json!({"text": "a b"}));
    let output = rig.run("claim example.any --run --no-report --worker-id me").exits(0);
    assert_eq!(output.json()["data"], 2);
    assert!(output.stderr.contains("not reported: task 1 stays claimed until 2"), "{}", output.stderr);
    assert_eq!(rig.task(1)["status"], "claimed");
    assert_eq!(rig.results(), [] as [Value; 0]);
    rig.run("complete 1 --result 3").exits(0);
    assert_eq!(rig.task(1)["result"]["data"], 3);
    rig.run("claim example.any --no-report").exits(2);
}

#[test]
fn params_that_violate_the_schema_are_not_run() {
    let rig = rig("touch ran", &json!({"n": 9}));
    let schema = "schema = { type = \"object\", properties = { n = { maximum = 5 } } }\n";
    let config = rig.sandbox.read("prismq.toml") + schema;
    rig.sandbox.write("prismq.toml", config);
    let envelope = run(&rig).exits(1).json();
    assert_eq!(envelope["error_type"], "validation");
    assert!(envelope["error"].as_str().unwrap().starts_with("params/n: "), "{envelope}");
    assert!(!rig.sandbox.path("ran").exists());
    assert_kept(&rig, "failed", "pending");
}

#[test]
fn no_task_is_claimed_if_the_handler_cannot_run() {
    let rig = rig("true", &json!({}));
    for (config, words) in [
        ("", ["no handler", "prismq.toml"]),
        ("[[task_type]]\nname = \"example.any\"\n", ["no handler", "exec"]),
        ("[[task_type]]\nname = \"example.any\"\nexec = [\"no-such-program\"]\n", ["no-such-program", ""]),
        ("[[task_type]]\nname = \"example.any\"\nexec = [\"./prismq.toml\"]\n", ["prismq.toml", "execut"]),
    ] {
        rig.sandbox.write("prismq.toml", config);
        complains(&run(&rig), 2, &words);
        assert_eq!(rig.task(1)["status"], "pending");
    }
}

#[test]
fn a_signal_ends_the_handler_and_the_failure_is_reported() {
    for signal in [Signal::INT, Signal::TERM] {
        let rig = rig("echo started >&2; exec sleep 60", &json!({}));
        let mut running = rig.spawn("claim example.any --run --worker-id me");
        running.wait_for_stderr("started\n");
        running.signal(signal);
        let envelope = running.wait().exits(130).json();
        assert_eq!((&envelope["error_type"], &envelope["retryable"]), (&json!("shutdown"), &json!(true)));
        assert_kept(&rig, "failed", "pending");
    }
}

#[test]
fn a_second_signal_kills_the_handler() {
    let rig = rig("trap '' TERM; echo started >&2; while :; do sleep 0.05; done", &json!({}));
    let mut running = rig.spawn("claim example.any --run --worker-id me");
    running.wait_for_stderr("started\n");
    running.signal(Signal::INT);
    thread::sleep(Duration::from_millis(150)); // two at once would be one
    running.signal(Signal::TERM);
    let envelope = running.wait().exits(130).json();
    assert_eq!(envelope["success"], false);
    assert_kept(&rig, "failed", "pending");
}
