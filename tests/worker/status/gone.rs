//! Files that the worker relies on are deleted, replaced or moved while it runs.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{EmbeddedTaskManager, Output, Rig, StatusWorker, at_once, read_rows, wait_for};

/// Says that it runs, then waits for the file `go`. Each run is a line of `runs`.
const WAITS: &str = "echo run >> runs; touch started; until [ -e go ]; do sleep 0.03; done; echo 42";

/// A rig whose results file lies in a folder of its own.
fn rig() -> Rig {
    let mut rig = Rig::start();
    rig.sandbox = rig.sandbox.env("PRISMQ_RESULTS", "data/results.db");
    rig
}

#[track_caller]
fn assert_named(output: &Output, words: &str) {
    let last = output.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("prismq: the ")
            && last.contains(words)
            && last.contains(" while it was in use; start it again"),
        "{last}"
    );
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

#[test]
fn an_idle_worker_exits_when_its_results_file_is_gone() {
    let cases = [
        ("rm data/results.db", "results.db was deleted or moved while it was in use"),
        ("rm data/results.db*", "results.db was deleted or moved"),
        ("mv data/results.db data/old.db", "results.db was deleted or moved"),
        ("cp data/results.db data/new.db; mv data/new.db data/results.db", "results.db was replaced by another file"),
        ("rm data/results.db; touch data/results.db", "results.db was replaced by another file"),
        ("mv data elsewhere", "results.db was deleted or moved"),
        ("mv data elsewhere; mkdir data", "results.db was deleted or moved"),
        ("rm -r data; touch data", "results.db was deleted or moved"),
        ("rm data/results.db-wal", "results.db-wal was deleted or moved"),
        ("rm data/results.db-shm", "results.db-shm was deleted or moved"),
        ("> data/results.db", "results.db was emptied"),
    ];
    at_once(cases, |(disturb, words)| {
        let rig = rig();
        let mut worker = StatusWorker::start(&rig, []);
        worker.running.wait_for_stderr("ready");
        rig.sandbox.program("sh", ["-c", disturb]).run().exits(0);
        assert_named(&worker.running.wait().exits(1), words);
    });
}

#[test]
fn running_tasks_are_reported_and_claiming_stops_when_the_results_file_is_deleted() {
    let rig = rig();
    let (first, second) = (rig.case("first", WAITS), rig.case("second", "echo 2"));
    let mut worker = StatusWorker::start(&rig, []);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    fs::remove_file(rig.sandbox.path("data/results.db")).unwrap();
    worker.running.wait_for_stderr("results.db was deleted or moved while it was in use");
    let (status, health) = worker.get("/health");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["healthy"], &health["results_writable"]), (503, &json!(false), &json!(false)));
    assert!(health["reason"].as_str().unwrap().contains("was deleted or moved"), "{health}");
    rig.sandbox.write("go", "");
    assert_named(&worker.running.wait().exits(1), "results.db was deleted or moved");
    let task = rig.taskmanager.task(first);
    assert_eq!((task.status.as_str(), &task.result.unwrap()["data"]), ("completed", &json!(42)));
    assert_eq!(rig.taskmanager.task(second).attempts, 0);
}

#[test]
fn results_that_wait_are_reported_before_the_end() {
    let mut rig = rig();
    let id = rig.case("one", "echo 42");
    rig.script("one", WAITS);
    let mut worker = StatusWorker::start(&rig, []);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    worker.running.wait_for_stderr("TaskManager unavailable");
    wait_for("the result", || (read_rows(&rig.sandbox.path("data/results.db"), "results").len() == 1).then_some(()));
    fs::remove_file(rig.sandbox.path("data/results.db")).unwrap();
    rig.taskmanager.restart();
    worker.running.wait().exits(1);
    assert_eq!(rig.taskmanager.status(id), "completed");
}

#[test]
fn the_lock_of_a_process_is_put_back_before_another_takes_its_tasks() {
    let rig = rig();
    let id = rig.case("one", WAITS);
    let one = rig.work(["--worker-id", "one"]).start();
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    for disturb in ["rm data/results.db-worker-1", "rm data/results.db-worker-1; touch data/results.db-worker-1"] {
        rig.sandbox.program("sh", ["-c", disturb]).run().exits(0);
        let other = rig.work(["--worker-id", "other", "--exit-after-idle", "200ms"]);
        if disturb.contains("touch") {
            let path = rig.sandbox.path("data/results.db-worker-1");
            wait_for("the lock", || fs::File::open(&path).unwrap().try_lock().is_err().then_some(()));
        }
        other.run().exits(0);
        assert_eq!(rig.sandbox.read("runs"), "run\n", "{disturb}");
        let same = rig.work(["--worker-id", "one"]).run().exits(2);
        assert!(same.stderr.contains("worker id one is in use"), "{}", same.stderr);
    }
    rig.sandbox.write("go", "");
    wait_for("the task", || (rig.taskmanager.status(id) == "completed").then_some(()));
    one.terminate();
    one.wait().exits(0);
    assert_eq!(rig.sandbox.read("runs"), "run\n");
}

#[test]
fn the_database_of_ideas_may_not_go_either() {
    let cases = [
        ("rm ideas.db", "ideas.db was deleted or moved"),
        ("cp ideas.db new.db; mv new.db ideas.db", "ideas.db was replaced by another file"),
    ];
    at_once(cases, |(disturb, words)| {
        let rig = rig();
        let mut worker = StatusWorker::start(&rig, ["--ideas", "ideas.db"]);
        worker.running.wait_for_stderr("ready");
        rig.sandbox.program("sh", ["-c", disturb]).run().exits(0);
        assert_named(&worker.running.wait().exits(1), words);
    });
}

#[test]
fn ideas_never_go_into_a_database_that_is_gone() {
    let rig = rig();
    let script = "rm ideas.db; echo '{\"ideas\":[{\"title\":\"Bees\"}]}'";
    let id = rig.case("one", script);
    rig.work(["--ideas", "ideas.db", "--max-tasks", "1"]).run().exits(1);
    assert_ne!(rig.taskmanager.status(id), "completed");
    rig.script("one", "echo '{\"ideas\":[{\"title\":\"Bees\"}]}'");
    wait_for("the task", || {
        rig.work(["--ideas", "ideas.db", "--drain"]).run().exits(0);
        (rig.taskmanager.status(id) == "completed").then_some(())
    });
    assert_eq!(read_rows(&rig.sandbox.path("ideas.db"), "IdeaInspiration").len(), 1);
}

#[test]
fn a_link_to_the_results_file_must_not_be_redirected() {
    let mut rig = Rig::start();
    fs::create_dir(rig.sandbox.path("real")).unwrap();
    symlink("real/store.db", rig.sandbox.path("link.db")).unwrap();
    rig.sandbox.write("real/store.db", "");
    rig.sandbox = rig.sandbox.env("PRISMQ_RESULTS", "link.db");
    let id = rig.case("one", WAITS);
    let mut worker = StatusWorker::start(&rig, ["--worker-id", "one"]);
    wait_for("the handler to run", || rig.sandbox.path("started").exists().then_some(()));
    let by_path = rig.work(["--worker-id", "other", "--results", "real/store.db", "--exit-after-idle", "1500ms"]);
    by_path.run().exits(0);
    assert_eq!(rig.sandbox.read("runs"), "run\n");
    assert_eq!(worker.health()["healthy"], json!(true));
    rig.sandbox.write("go", "");
    wait_for("the task", || (rig.taskmanager.status(id) == "completed").then_some(()));
    let turn = "cp real/store.db real/copy.db; ln -sf real/copy.db link.db";
    rig.sandbox.program("sh", ["-c", turn]).run().exits(0);
    worker.running.wait_for_stderr("link.db was replaced by another file");
    worker.running.wait().exits(1);
}

#[test]
fn a_manual_claim_fails_if_its_results_file_is_gone() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "")]);
    let id = rig.case("one", "rm results.db; echo 42");
    let claimed = rig.sandbox.prismq(["claim", "--run", "--once"]).run().exits(1);
    assert_named(&claimed, "results.db was deleted or moved");
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), &task.result.unwrap()["data"]), ("completed", &json!(42)));
}
