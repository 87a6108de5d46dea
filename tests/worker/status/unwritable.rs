//! The results file cannot be written for a while: the disk is full, over its quota, read-only, or fails.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, Sandbox, StatusWorker, rows, wait_for};

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const EROFS: i32 = 30;
const EIO: i32 = 5;

/// A worker whose writes to the results file fail while there is a file `errno` in its folder.
fn watched(rig: &Rig, arguments: &[&str]) -> StatusWorker {
    let source = rig.sandbox.write("writes.c", include_str!("writes.c"));
    let library = rig.sandbox.path("writes.so");
    // The C compiler that SQLite takes as well.
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    StatusWorker::of(rig.work(arguments.iter().copied()).env("LD_PRELOAD", library.to_str().unwrap()))
}

fn break_with(sandbox: &Sandbox, number: i32) {
    let new = sandbox.write("errno.new", number.to_string());
    fs::rename(new, sandbox.path("errno")).unwrap();
}

fn mend(sandbox: &Sandbox) {
    fs::remove_file(sandbox.path("errno")).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_survives_every_kind_of_unwritable_results_file() {
    // No claim outlasts a second, nor does it wait for longer to be noted.
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "timeout = '1s'")]);
    rig.script("it", "echo 1");
    let mut worker = watched(&rig, &["--concurrency", "2"]);
    worker.running.wait_for_stderr("ready");
    wait_for("a poll", || (!rows(&rig.sandbox, "workers")[0]["last_poll_at"].is_null()).then_some(()));
    for (number, error) in [EDQUOT, ENOSPC, EROFS, EIO].into_iter().enumerate() {
        break_with(&rig.sandbox, error);
        let id = rig.taskmanager.create("case", json!({"case": "it", "n": number}));
        worker
            .running
            .wait_for("nothing to be claimed", |it| it.stderr().matches("claiming paused").count() == number + 1);
        let health = worker.health();
        assert_eq!(
            (&health["healthy"], &health["results_writable"]),
            (&json!(false), &json!(false)),
            "{error}: {health}"
        );
        assert!(health["reason"].as_str().unwrap().contains("results.db"), "{health}");
        mend(&rig.sandbox);
        wait_for("the task to end", || (rig.taskmanager.status(id) == "completed").then_some(()));
        assert!(rig.taskmanager.task(id).attempts <= 2, "{error}");
        worker.running.wait_for("claims as usual", |it| it.stderr().matches("storage recovered").count() == number + 1);
        assert_eq!(worker.health()["healthy"], true);
    }
    let log = worker.running.stderr();
    assert_eq!((log.matches("claiming paused").count(), log.matches("storage recovered").count()), (4, 4), "{log}");
    worker.running.terminate();
    worker.running.wait().exits(0);
    assert_eq!(
        (
            rows(&rig.sandbox, "results").iter().filter(|row| row["reported_at"].is_string()).count(),
            rows(&rig.sandbox, "claims")
        ),
        (4, vec![])
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_without_room_is_reported_anyway() {
    let rig = Rig::start();
    let waits = "touch started; until [ -e go ]; do sleep 0.03; done; echo 42";
    let first = rig.case("first", waits);
    let mut worker = watched(&rig, &[]);
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    break_with(&rig.sandbox, ENOSPC);
    rig.sandbox.write("go", "");
    wait_for("the report", || (rig.taskmanager.status(first) == "completed").then_some(()));
    worker.running.wait_for_stderr("cannot store result: reported anyway");
    let second = rig.case("second", "echo 43");
    assert_eq!(worker.health()["healthy"], false);
    mend(&rig.sandbox);
    wait_for("the next task", || (rig.taskmanager.status(second) == "completed").then_some(()));
    assert_eq!(rig.taskmanager.task(second).attempts, 1);
    worker.running.terminate();
    worker.running.wait().exits(0);
    assert_eq!((rows(&rig.sandbox, "results").len(), rows(&rig.sandbox, "claims")), (1, vec![] as Vec<Value>));
}

/// The mark that a result has arrived is made up for, though the task is long done.
#[test]
#[cfg(target_os = "linux")]
fn a_confirmed_result_is_marked_when_there_is_room_again() {
    let mut rig = Rig::start();
    let id = rig.case("one", "touch started; until [ -e go ]; do sleep 0.03; done; echo 42");
    let mut worker = watched(&rig, &[]);
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    wait_for("the result", || (rows(&rig.sandbox, "results").len() == 1).then_some(()));
    break_with(&rig.sandbox, EDQUOT);
    rig.taskmanager.restart();
    worker.running.wait_for_stderr("claiming paused");
    assert_eq!(rig.taskmanager.status(id), "completed");
    mend(&rig.sandbox);
    wait_for("the mark", || (!rows(&rig.sandbox, "results")[0]["reported_at"].is_null()).then_some(()));
    worker.running.terminate();
    worker.running.wait().exits(0);
}
