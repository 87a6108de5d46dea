//! SIGKILL of a worker at each step of a batch, against a server with and without batches and renewals.

use std::time::Duration;

use prismq::internals::server::OfferedFeatures;
use serde_json::json;

use super::kills::KILLED;
use crate::support::{EmbeddedTaskManager, Rig, wait_for};

const SLOTS: usize = 4;
const TASKS: usize = 12;

/// The steps of a batch, at which passage the worker is killed, and how many tasks may have run by then whose results were
/// not stored. `claimed` and `reporting` are passed once for each batch.
const STEPS: [(&str, usize, usize); 10] = [
    ("answered", 0, 0),
    ("answered", 2, SLOTS - 1),
    ("claimed", 0, 0),
    ("noted", 0, SLOTS - 1),
    ("noted", 2, SLOTS - 1),
    ("ran", 1, SLOTS),
    ("stored", 2, SLOTS - 1),
    ("reporting", 0, SLOTS),
    ("reported", 0, SLOTS),
    ("marked", 2, SLOTS),
];

fn rig(batch: bool, renew: bool) -> Rig {
    let features = OfferedFeatures { batch, renew };
    Rig::of(EmbeddedTaskManager::with(|settings| settings.faults.features = features), &[("case", "")])
}

fn create(rig: &Rig, script: &str, count: usize) -> Vec<u64> {
    rig.script("it", script);
    (0..count).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect()
}

fn runs(rig: &Rig) -> usize {
    rig.sandbox.read("runs").lines().count()
}

/// Each task was completed at its first attempt, and has one result, which was reported.
#[track_caller]
fn assert_completed_once(rig: &Rig, ids: &[u64], what: &str) {
    for id in ids {
        let task = rig.taskmanager.task(*id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{what}: task {id}");
    }
    let mut rows = rig.rows("results");
    rows.sort_by_key(|row| row["task_id"].as_u64());
    assert_eq!(rows.iter().map(|row| row["task_id"].as_u64().unwrap()).collect::<Vec<_>>(), ids, "{what}");
    let is_reported = |row: &serde_json::Value| row["status"] == "completed" && row["reported_at"].is_string();
    assert!(rows.iter().all(is_reported), "{what}: {rows:?}");
    assert!(rig.rows("claims").is_empty() && rig.rows("deaths").is_empty(), "{what}");
}

/// Kills a worker at each step; another, with an ID of its own, does the rest.
#[track_caller]
fn kill_at_each_step(batch: bool, renew: bool) {
    for (point, passage, lost_runs) in STEPS {
        // Without batches, each slot claims and notes its own task, while others run.
        let lost_runs = if batch { lost_runs } else { SLOTS };
        let what = format!("{point} {passage}");
        let rig = rig(batch, renew);
        let ids = create(&rig, "echo run >> runs; echo 1", TASKS);
        let work = |worker_id| rig.work(["--drain", "--concurrency", "4", "--worker-id", worker_id]);
        work("old").env("FAILPOINTS", &format!("{point}={passage}*off->return")).run().exits(KILLED);
        work("new").run().exits(0);
        assert_completed_once(&rig, &ids, &what);
        assert!((TASKS..=TASKS + lost_runs).contains(&runs(&rig)), "{what}: {} runs", runs(&rig));
    }
}

#[test]
fn with_batches_and_renewals_nothing_is_lost() {
    kill_at_each_step(true, true);
}

#[test]
fn with_batches_alone_nothing_is_lost() {
    kill_at_each_step(true, false);
}

#[test]
fn with_renewals_alone_nothing_is_lost() {
    kill_at_each_step(false, true);
}

#[test]
fn without_either_nothing_is_lost() {
    kill_at_each_step(false, false);
}

#[test]
fn killed_while_a_batch_runs_all_of_it_is_run_again() {
    for batch in [true, false] {
        let rig = rig(batch, batch);
        let ids = create(&rig, "echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1", SLOTS);
        let worker = rig.work(["--drain", "--concurrency", "4"]).start();
        wait_for("all to run", || (runs(&rig) == SLOTS).then_some(()));
        worker.crash();
        rig.sandbox.write("go", "");
        rig.drain();
        assert_completed_once(&rig, &ids, "running");
        assert_eq!(runs(&rig), 2 * SLOTS);
    }
}

#[test]
fn killed_with_a_part_of_a_batch_stored_only_the_rest_is_run_again() {
    for batch in [true, false] {
        let mut rig = rig(batch, batch);
        // The first two end when they may begin, the others wait.
        let script = "until [ -e open ]; do sleep 0.03; done; echo run >> runs
            mkdir a 2>&- || mkdir b 2>&- || until [ -e go ]; do sleep 0.03; done; echo 1";
        let ids = create(&rig, script, SLOTS);
        let worker = rig.work(["--drain", "--concurrency", "4"]).start();
        wait_for("all to be claimed", || ids.iter().all(|id| rig.taskmanager.status(*id) == "claimed").then_some(()));
        // So that nothing can be reported before the kill.
        rig.taskmanager.stop();
        rig.sandbox.write("open", "");
        wait_for("a part to be stored, and the rest to run", || {
            (rig.rows("results").len() == 2 && runs(&rig) == SLOTS).then_some(())
        });
        worker.crash();
        rig.sandbox.write("go", "");
        rig.taskmanager.restart();
        rig.drain();
        assert_completed_once(&rig, &ids, "partly stored");
        assert_eq!(runs(&rig), SLOTS + 2);
    }
}

/// The first worker of another machine that asks gets them; the results are shown to have lost their claims.
#[test]
fn the_tasks_of_a_killed_worker_go_to_another() {
    let rig = Rig::of(EmbeddedTaskManager::with(|it| it.claim_timeout = Some(Duration::from_secs(2))), &[("case", "")]);
    let ids = create(&rig, "echo run >> runs; echo 1", SLOTS);
    let work = |worker_id| rig.work(["--drain", "--concurrency", "4", "--worker-id", worker_id]);
    work("old").env("FAILPOINTS", "reporting=return").run().exits(KILLED);
    let stored = rig.rows("results").len();
    // It is on another machine, and knows nothing of the results.
    let elsewhere = rig.work(["--max-tasks", "4", "--concurrency", "4"]).env("PRISMQ_RESULTS", "elsewhere.db");
    elsewhere.env("WORKER_ID", "elsewhere").run().exits(0);
    assert!(ids.iter().all(|id| rig.taskmanager.status(*id) == "completed"));
    work("new").run().exits(0);
    let rows = rig.rows("results");
    assert_eq!(rows.iter().filter(|row| row["status"] == "lost").count(), rows.len(), "{rows:?}");
    assert!(rows.len() >= stored && rows.iter().all(|row| row["reported_at"].is_string()), "{rows:?}");
}
