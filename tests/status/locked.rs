//! Another process holds the results file.

use rusqlite::Connection;
use serde_json::json;

use crate::rig::Rig;
use crate::support::wait_for;
use crate::watched::Watched;

/// Says that it runs, then waits for the file `go`.
const WAITS: &str = "touch started; until [ -e go ]; do sleep 0.01; done; echo 42";

#[test]
fn tasks_wait_until_another_process_lets_the_results_file_go() {
    let rig = Rig::start();
    let mut worker = Watched::start(&rig, ["--concurrency", "2"]);
    worker.running.wait_for_stderr("ready");
    let first = rig.case("first", WAITS);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.sandbox.write("go", "");
    let second = rig.case("second", "echo 43");
    worker.running.wait_for_stderr("another process has held it for 10 s; trying again");
    assert_eq!(worker.health()["results_writable"], json!(false));
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
fn a_claim_goes_back_where_the_results_file_is_held_until_it_is_over() {
    let rig = Rig::of(crate::rig::TaskManager::start(), &[("case", "timeout = '2s'")]);
    let mut worker = Watched::start(&rig, []);
    worker.running.wait_for_stderr("ready");
    wait_for("a poll", || (!rig.rows("workers")[0]["last_poll_at"].is_null()).then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = rig.case("one", "echo 42");
    worker.running.wait_for_stderr("given back: ");
    let log = worker.running.stderr();
    assert!(log.lines().any(|line| line.contains("given back: ") && line.contains(&format!("task_id={id}"))), "{log}");
    other.execute_batch("ROLLBACK").unwrap();
    worker.running.wait().exits(1);
    assert_eq!(rig.taskmanager.status(id), "pending");
    rig.drain();
    assert_eq!(rig.taskmanager.status(id), "completed");
}

#[test]
fn a_confirmed_result_is_marked_when_another_process_lets_the_results_file_go() {
    let mut rig = Rig::start();
    let id = rig.case("one", WAITS);
    let mut worker = Watched::start(&rig, []);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    wait_for("the result", || (rig.rows("results").len() == 1).then_some(()));
    let other = Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.taskmanager.restart();
    worker.running.wait_for_stderr("another process has held it for 10 s; trying again");
    assert_eq!(rig.taskmanager.status(id), "completed");
    other.execute_batch("ROLLBACK").unwrap();
    wait_for("the mark", || (!rig.rows("results")[0]["reported_at"].is_null()).then_some(()));
    worker.running.terminate();
    worker.running.wait().exits(0);
}
