//! A TaskManager that takes batches: one call claims for all free slots, and one reports all that was stored.

use std::collections::BTreeMap;

use prismq::internals::server::OfferedFeatures;
use serde_json::json;

use crate::support::{EmbeddedTaskManager, Rig, wait_for};

/// How often each call was made, by a worker's debug log.
fn calls(log: &str) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for call in log.lines().filter_map(|line| line.split_once("TaskManager call call=")) {
        *calls.entry(call.1.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    calls
}

/// Creates tasks whose handler leaves a line, and returns their ids.
fn create(rig: &Rig, count: usize) -> Vec<u64> {
    rig.script("it", "echo run >> runs; echo 1");
    (0..count).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect()
}

#[track_caller]
fn assert_all_completed(rig: &Rig, ids: &[u64]) {
    for id in ids {
        let task = rig.taskmanager.task(*id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "task {id}");
    }
    let rows = rig.rows("results");
    assert_eq!(rows.len(), ids.len(), "{rows:?}");
    assert!(rows.iter().all(|row| row["status"] == "completed" && row["reported_at"].is_string()), "{rows:?}");
    assert!(rig.rows("claims").is_empty());
}

#[test]
fn tasks_are_claimed_and_reported_in_batches() {
    let rig = Rig::start();
    let ids = create(&rig, 40);
    let output = rig.work(["--drain", "--concurrency", "8", "--log-level", "debug"]).run().exits(0);
    assert_all_completed(&rig, &ids);
    let calls = calls(&output.stderr);
    assert!(calls["claim"] < 40 && calls["complete"] < 40 && !calls.contains_key("show_task"), "{calls:?}");
}

#[test]
fn no_more_tasks_of_a_type_run_at_once_than_its_limit() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "concurrency = 2"), ("other", "")]);
    // `mkdir` fails if two others run already.
    rig.script("it", "mkdir a 2>&- && dir=a || { mkdir b && dir=b; }; sleep 0.05; rmdir $dir; echo 1");
    rig.script("free", "echo 1");
    for n in 0..10 {
        rig.taskmanager.create("case", json!({"case": "it", "n": n}));
        rig.taskmanager.create("other", json!({"case": "free", "n": n}));
    }
    rig.work(["--drain", "--concurrency", "8"]).run().exits(0);
    let rows = rig.rows("results");
    assert!(rows.len() == 20 && rows.iter().all(|row| row["status"] == "completed"), "{rows:?}");
}

#[test]
fn no_more_tasks_are_claimed_than_the_worker_may_run() {
    let rig = Rig::start();
    let ids = create(&rig, 9);
    rig.work(["--max-tasks", "5", "--concurrency", "8"]).run().exits(0);
    let count = |status: &str| ids.iter().filter(|id| rig.taskmanager.status(**id) == status).count();
    assert_eq!((count("completed"), count("pending")), (5, 4));
}

#[test]
fn a_worker_that_is_stopped_runs_all_that_its_last_call_has_claimed() {
    let rig = Rig::start();
    rig.script("it", "sleep 0.2; echo 1");
    let mut worker = rig.work(["--concurrency", "4"]).start();
    worker.wait_for_stderr("ready");
    let ids: Vec<u64> = (0..12).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect();
    // On a busy machine, some may be done by now.
    wait_for("some are claimed", || ids.iter().any(|id| rig.taskmanager.status(*id) != "pending").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    let left: Vec<String> = ids.iter().map(|id| rig.taskmanager.status(*id)).collect();
    assert!(left.iter().all(|status| status != "claimed"), "{left:?}");
    assert!(rig.rows("claims").is_empty());
}

#[test]
fn one_whose_claim_was_lost_holds_up_none_of_its_batch() {
    let rig = Rig::start();
    rig.script("it", "while ! [ -e go ]; do sleep 0.03; done; echo 1");
    let ids: Vec<u64> = (0..6).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect();
    let worker = rig.work(["--drain", "--concurrency", "6"]).start();
    wait_for("all are claimed", || ids.iter().all(|id| rig.taskmanager.status(*id) == "claimed").then_some(()));
    let file = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    file.execute("UPDATE tasks SET claimed_by = 'another' WHERE id = ?1", [ids[2]]).unwrap();
    rig.sandbox.write("go", "");
    // Nobody works it, so the drain does not end by itself.
    wait_for("the others are reported", || {
        let is_done = |id: &u64| *id == ids[2] || rig.taskmanager.status(*id) == "completed";
        ids.iter().all(is_done).then_some(())
    });
    worker.terminate();
    worker.wait().exits(0);
    let rows = rig.rows("results");
    assert_eq!(rows.len(), 6, "{rows:?}");
    for row in rows {
        let expected = if row["task_id"] == json!(ids[2]) { "lost" } else { "completed" };
        assert_eq!(row["status"], json!(expected), "{row}");
    }
}

#[test]
fn a_server_that_is_replaced_by_one_without_batches_is_used_as_it_is() {
    let mut rig = Rig::start();
    rig.script("it", "echo run >> runs; echo 1");
    let mut worker = rig.work(["--concurrency", "4"]).start();
    worker.wait_for_stderr("ready");
    for (round, features) in
        [OfferedFeatures::default(), OfferedFeatures::NONE, OfferedFeatures::default()].into_iter().enumerate()
    {
        rig.taskmanager.restart_with(|settings| settings.faults.features = features);
        let ids: Vec<u64> =
            (0..6).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n, "round": round}))).collect();
        worker.wait_for("the tasks of this round to end", |_| {
            ids.iter().all(|id| rig.taskmanager.status(*id) == "completed")
        });
    }
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(rig.sandbox.read("runs").lines().count(), 18);
}
