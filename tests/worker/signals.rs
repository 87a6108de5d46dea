//! Asked to end: what runs may finish, what cannot is reported, nothing is lost.

use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::taskmanager::TaskView;
use serde_json::{Value, json};

use crate::support::published::PublishedServer;
use crate::support::{Rig, Running, cases, wait_for};

/// Says that it runs, then waits for the file `go`.
const WAITS: &str = "touch started; until [ -e go ]; do sleep 0.03; done; echo went";
/// The same, deaf to SIGTERM.
const DEAF: &str = "trap '' TERM; touch started; until [ -e go ]; do sleep 0.03; done; echo went";

/// A worker at its first task, with another in the queue.
fn busy(script: &str, arguments: &[&str]) -> (Rig, Running) {
    let rig = Rig::start();
    assert_eq!([rig.case("first", script), rig.case("second", "echo 2")], [1, 2]);
    let worker = rig.work(arguments.iter().copied()).start();
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    (rig, worker)
}

fn ask_to_end(worker: &mut Running) {
    worker.terminate();
    worker.wait_for_stderr("stopping");
}

/// The second of two signals: not so soon that both are one.
fn signal_again(worker: &Running) {
    thread::sleep(Duration::from_millis(150));
    worker.terminate();
}

#[track_caller]
fn assert_unclaimed(task: &TaskView) {
    assert_eq!((task.status.as_str(), task.attempts), ("pending", 0), "{task:?}");
}

#[track_caller]
fn assert_shut_down(rig: &Rig) {
    let task = rig.taskmanager.task(1);
    assert_eq!((task.status.as_str(), task.attempts), ("pending", 1), "{task:?}");
    assert_eq!(task.error_message.as_deref(), Some("stopped: the worker is shutting down"));
    let result = task.result.unwrap();
    assert_eq!((&result["error_type"], &result["retryable"]), (&json!("shutdown"), &json!(true)));
    let row = &rig.rows("results")[0];
    assert_eq!(
        (&row["status"], &row["error_type"], &row["retryable"]),
        (&json!("failed"), &json!("shutdown"), &json!(1))
    );
    assert!(row["reported_at"].is_string() && rig.rows("claims").is_empty(), "{row}");
}

#[test]
fn running_tasks_finish_after_a_signal() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let (rig, mut worker) = busy(WAITS, &[]);
        worker.signal(signal);
        worker.wait_for_stderr("stopping: waiting for running tasks; signal again to kill them in_flight=1");
        assert!(worker.is_running());
        rig.sandbox.write("go", "");
        worker.wait().exits(0);
        let task = rig.taskmanager.task(1);
        assert_eq!((task.status.as_str(), &task.result.unwrap()["data"]), ("completed", &json!({"output": "went"})));
        assert_unclaimed(&rig.taskmanager.task(2));
    }
}

#[test]
fn tasks_that_exceed_the_grace_period_are_stopped_and_reported() {
    let (rig, mut worker) = busy(WAITS, &["--grace-period", "200ms"]);
    let start = Instant::now();
    ask_to_end(&mut worker);
    worker.wait().exits(0);
    let took = start.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_shut_down(&rig);
    assert_unclaimed(&rig.taskmanager.task(2));
}

#[test]
fn two_signals_at_once_are_one() {
    let (rig, mut worker) = busy(WAITS, &[]);
    ask_to_end(&mut worker);
    worker.terminate();
    rig.sandbox.write("go", "");
    worker.wait().exits(0);
    assert_eq!(rig.taskmanager.task(1).status, "completed");
}

#[test]
fn a_second_signal_ends_what_runs_now() {
    let (rig, mut worker) = busy(DEAF, &["--grace-period", "1h"]);
    ask_to_end(&mut worker);
    assert!(worker.is_running());
    let start = Instant::now();
    signal_again(&worker);
    worker.wait().exits(0);
    assert!(start.elapsed() < Duration::from_millis(4500), "SIGKILL by itself comes after 5 s: {:?}", start.elapsed());
    assert_shut_down(&rig);
}

#[test]
fn a_second_signal_also_ends_what_was_asked_to_end_before() {
    let (rig, mut worker) = busy(DEAF, &["--grace-period", "0"]);
    worker.terminate();
    worker.wait_for_stderr("stopping");
    let start = Instant::now();
    signal_again(&worker);
    worker.wait().exits(0);
    assert!(start.elapsed() < Duration::from_millis(4500), "SIGKILL by itself comes after 5 s: {:?}", start.elapsed());
    assert_shut_down(&rig);
}

#[test]
fn calls_cut_off_by_a_second_signal_are_recovered_by_the_next_worker() {
    for call in ["POST /tasks/claim", "POST /tasks/1/complete"] {
        let published = PublishedServer::start(&["case"]);
        let sandbox = published.sandbox(&cases("case", ""));
        sandbox.write("it.sh", "echo ran >>runs");
        published.create("case", json!({"case": "it"}));
        published.hold(call);
        let mut worker = sandbox.prismq(["work"]).start();
        wait_for("the call", || published.is_holding().then_some(()));
        ask_to_end(&mut worker);
        let start = Instant::now();
        signal_again(&worker);
        worker.wait().exits(0);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        // The TaskManager does what it was asked for, and finds nobody to tell.
        published.release();
        wait_for("the late call", || (published.task(1).status != "pending").then_some(()));
        sandbox.prismq(["work", "--drain"]).run().exits(0);
        let (task, runs) = (published.task(1), sandbox.read("runs"));
        assert_eq!((task.status.as_str(), runs.as_str()), ("completed", "ran\n"), "{call}");
    }
}

#[test]
fn waiting_to_try_again_ends_at_once() {
    let rig = Rig::start();
    rig.sandbox.write("prismq.toml", cases("case", "retry = { max_attempts = 5, delay = \"60s\" }"));
    let id = rig.case("busy", "exit 75");
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("retrying");
    worker.terminate();
    worker.wait().exits(0);
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.error_message.as_deref()), ("pending", Some("exit code 75")));
}

#[test]
fn no_other_type_is_asked_after_the_signal() {
    let published = PublishedServer::start(&["case", "other"]);
    let sandbox = published.sandbox(&(cases("case", "") + &cases("other", "")));
    published.hold("POST /tasks/claim 1");
    let mut worker = sandbox.prismq(["work"]).start();
    wait_for("the claim", || published.is_holding().then_some(()));
    published.create("other", json!({"case": "it"}));
    ask_to_end(&mut worker);
    published.release();
    worker.wait().exits(0);
    let types: Vec<Value> = published
        .server
        .requests()
        .iter()
        .filter(|it| it.path == "/tasks/claim")
        .map(|it| it.json()["task_type_id"].clone())
        .collect();
    assert_eq!(types, [json!(1)]);
}

#[test]
fn a_task_that_came_with_the_signal_is_worked() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    published.create("case", json!({"case": "it"}));
    published.hold("POST /tasks/claim");
    let mut worker = sandbox.prismq(["work"]).start();
    wait_for("the claim", || published.is_holding().then_some(()));
    ask_to_end(&mut worker);
    published.release();
    worker.wait().exits(0);
    assert_eq!(published.task(1).status, "completed");
}

#[test]
fn results_that_cannot_be_reported_wait_for_the_next_worker() {
    let (mut rig, mut worker) = busy(&format!("echo ran >>runs; {WAITS}"), &[]);
    ask_to_end(&mut worker);
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    let output = worker.wait().exits(0);
    assert!(output.stderr.contains("worker stopped completed=1 failed=0 unreported=1"), "{}", output.stderr);
    let row = &rig.rows("results")[0];
    assert_eq!((&row["status"], &row["reported_at"]), (&json!("completed"), &Value::Null));

    rig.taskmanager.restart();
    rig.drain();
    let row = &rig.rows("results")[0];
    assert!(row["status"] == json!("completed") && row["reported_at"].is_string(), "{row}");
    let task = rig.taskmanager.task(1);
    assert_eq!((task.status.as_str(), task.attempts), ("completed", 1));
    assert_eq!(rig.sandbox.read("runs"), "ran\n");
    assert_eq!(rig.worked(), [1, 2]);
}
