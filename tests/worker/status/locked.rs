//! Another process holds the results file.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use crate::support::{Rig, StatusWorker, at_once, wait_for};

/// What a worker says that has waited for a second or more.
const HELD: &str = "another process has held it for ";

/// Says that it runs, then waits for the file `go`.
const WAITS: &str = "touch started; until [ -e go ]; do sleep 0.03; done; echo 42";

#[test]
fn tasks_wait_until_another_process_lets_the_results_file_go() {
    let rig = Rig::start();
    let mut worker = StatusWorker::start_with_short_timeouts(&rig, ["--concurrency", "2"]);
    worker.running.wait_for_stderr("ready");
    let first = rig.case("first", WAITS);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.sandbox.write("go", "");
    let second = rig.case("second", "echo 43");
    worker.running.wait_for_stderr(HELD);
    let health = worker.health();
    assert_eq!((&health["results_writable"], &health["healthy"]), (&json!(false), &json!(false)));
    assert!([first, second].iter().all(|id| rig.taskmanager.status(*id) != "completed"));
    other.execute_batch("ROLLBACK").unwrap();
    for id in [first, second] {
        wait_for("the tasks", || (rig.taskmanager.status(id) == "completed").then_some(()));
        assert_eq!(rig.taskmanager.task(id).attempts, 1);
    }
    assert_eq!(worker.health()["results_writable"], json!(true));
    worker.running.terminate();
    worker.running.wait().exits(0);
}

#[test]
fn a_task_is_returned_if_its_claim_cannot_be_noted_in_time() {
    let rig = Rig::of(crate::support::EmbeddedTaskManager::start(), &[("case", "timeout = '2s'")]);
    let mut worker = StatusWorker::start_with_short_timeouts(&rig, []);
    worker.running.wait_for_stderr("ready");
    wait_for("a poll", || (!rig.rows("workers")[0]["last_poll_at"].is_null()).then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = rig.case("one", "echo 42");
    worker.running.wait_for_stderr(HELD);
    let health = worker.health();
    assert_eq!((&health["tasks_in_flight"], &health["healthy"]), (&json!(1), &json!(false)), "{health}");
    worker.running.wait_for_stderr("task returned");
    assert_eq!(worker.health()["tasks_in_flight"], 0);
    let log = worker.running.stderr();
    assert!(log.lines().any(|line| line.contains("task returned") && line.contains(&format!("task_id={id}"))), "{log}");
    other.execute_batch("ROLLBACK").unwrap();
    wait_for("the task", || (rig.taskmanager.status(id) == "completed").then_some(()));
    assert_eq!(worker.health()["healthy"], true);
    worker.running.terminate();
    worker.running.wait().exits(0);
}

/// Whoever waits for the file stops waiting: a slot that notes its claim, one that stores a result.
#[test]
fn a_second_signal_is_obeyed_though_another_process_holds_the_results_file() {
    at_once(["claim", "result"], |what| {
        let rig = Rig::start();
        let mut worker = StatusWorker::start(&rig, []);
        worker.running.wait_for_stderr("ready");
        wait_for("a poll", || (!rig.rows("workers")[0]["last_poll_at"].is_null()).then_some(()));
        let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
        let mut id = 0;
        if what == "result" {
            id = rig.case("one", WAITS);
            wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
        }
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        if what == "claim" {
            id = rig.case("one", "echo 42");
            wait_for("the claim", || (rig.taskmanager.status(id) == "claimed").then_some(()));
        }
        rig.sandbox.write("go", "");
        // The slot has come to the file.
        std::thread::sleep(Duration::from_millis(500));
        worker.running.terminate();
        // What comes sooner is the same signal.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        worker.running.terminate();
        let output = worker.running.wait();
        assert!(start.elapsed().as_secs() < 8, "{what}: {:?}", start.elapsed());
        let waited = (10..20).any(|seconds| output.stderr.contains(&format!("held it for {seconds} s")));
        assert!(!waited, "it did not wait that long: {}", output.stderr);
        let expected = if what == "claim" { "pending" } else { "completed" };
        assert_eq!(rig.taskmanager.status(id), expected, "{what}: the TaskManager hears of it all the same");
    });
}

#[test]
fn confirmed_results_wait_together_for_a_results_file_that_another_process_holds() {
    const TASKS: u64 = 12;
    let mut rig = Rig::start();
    rig.script("one", WAITS);
    let ids: Vec<u64> = (0..TASKS).map(|n| rig.taskmanager.create("case", json!({"case": "one", "n": n}))).collect();
    let mut worker = StatusWorker::start_with_short_timeouts(&rig, ["--concurrency", "12"]);
    wait_for("the claims", || ids.iter().all(|id| rig.taskmanager.status(*id) == "claimed").then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    wait_for("the results", || (rig.rows("results").len() == ids.len()).then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.taskmanager.restart();
    worker.running.wait_for_stderr(HELD);
    worker.running.terminate();
    let log = worker.running.wait().stderr;
    let retried = log.lines().filter(|line| line.contains("write failed: retrying"));
    let tasks: BTreeSet<&str> =
        retried.flat_map(str::split_whitespace).filter(|it| it.starts_with("task_id=")).collect();
    assert!((1..=2).contains(&tasks.len()), "one result waits for all of its batch: {log}");
    assert!(ids.iter().all(|id| rig.taskmanager.status(*id) == "completed"));
}

#[test]
fn a_confirmed_result_is_marked_when_another_process_lets_the_results_file_go() {
    let mut rig = Rig::start();
    let id = rig.case("one", WAITS);
    let mut worker = StatusWorker::start_with_short_timeouts(&rig, []);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    wait_for("the result", || (rig.rows("results").len() == 1).then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.taskmanager.restart();
    worker.running.wait_for_stderr(HELD);
    assert_eq!(rig.taskmanager.status(id), "completed");
    other.execute_batch("ROLLBACK").unwrap();
    wait_for("the mark", || (!rig.rows("results")[0]["reported_at"].is_null()).then_some(()));
    worker.running.terminate();
    worker.running.wait().exits(0);
}
