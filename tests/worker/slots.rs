//! Several tasks at once.

use serde_json::json;

use crate::support::{EmbeddedTaskManager, Rig};

/// Waits up to 10 s until `condition` holds; fails the task otherwise.
fn until(condition: &str) -> String {
    format!("n=0; until {condition}; do n=$((n+1)); [ $n -lt 500 ] || exit 1; sleep 0.02; done\n")
}

#[test]
fn slots_work_at_the_same_time() {
    let rig = Rig::start();
    let all_are_there = until("[ -e at-1 ] && [ -e at-2 ] && [ -e at-3 ] && [ -e at-4 ]");
    let ids = [1, 2, 3, 4].map(|n| rig.case(&format!("meet-{n}"), &format!("touch at-{n}\n{all_are_there}")));
    rig.work(["--drain", "--concurrency", "4"]).run().exits(0);
    assert_eq!(ids.map(|id| rig.taskmanager.status(id)), ["completed"; 4]);
}

#[test]
fn one_slot_works_one_task_at_a_time() {
    let rig = Rig::start();
    let alone = "mkdir busy || exit 1\nsleep 0.05\nrmdir busy";
    let ids = [1, 2, 3].map(|n| rig.case(&format!("alone-{n}"), alone));
    rig.drain();
    assert_eq!(ids.map(|id| rig.taskmanager.status(id)), ["completed"; 3]);
}

#[test]
fn a_types_limit_holds_while_others_go_on() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("scarce", "concurrency = 1"), ("free", "")]);
    // Each task of the scarce type waits for one of the other, and none may meet another of its own.
    for n in [1, 2, 3] {
        let wait = until(&format!("[ -e free-{n} ]"));
        rig.case_of("scarce", &format!("scarce-{n}"), &format!("mkdir busy || exit 1\n{wait}rmdir busy"));
        let wait = until("[ -e busy ]");
        rig.case_of("free", &format!("free-{n}"), &format!("{wait}touch free-{n}"));
    }
    rig.work(["--drain", "--concurrency", "4"]).run().exits(0);
    for id in 1..=6 {
        let task = rig.taskmanager.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{task:?}");
    }
}

#[test]
fn a_full_type_wakes_its_waiting_slots() {
    // Long waits: whoever slept through the end of a task would not be back before the test's patience ends.
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("scarce", "concurrency = 2"), ("empty", "")]);
    rig.script("it", "echo 1");
    for n in 0..12 {
        rig.taskmanager.create("scarce", json!({"case": "it", "n": n}));
    }
    let mut worker = rig.work(["--concurrency", "8", "--poll-interval", "10m", "--max-backoff", "10m"]).start();
    worker.wait_for("all tasks to end", |_| (1..=12).all(|id| rig.taskmanager.status(id) == "completed"));
}
