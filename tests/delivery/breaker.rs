//! A type whose service is away is left alone for a while; its waiting tasks keep their attempts.

use crate::rig::{Rig, TaskManager};
use crate::support::wait_for;

#[test]
fn a_type_that_keeps_failing_is_paused_and_others_go_on() {
    let taskmanager = TaskManager::with(|settings| settings.max_attempts = 1);
    let rig = Rig::of(taskmanager, &[("case", ""), ("other", "")]);
    rig.script("away", "echo run >> runs; exit 69");
    let create = |number: u64| rig.taskmanager.create("case", serde_json::json!({"case": "away", "number": number}));
    let ids: Vec<u64> = (0..8).map(create).collect();
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("claiming none for a while");
    let other = rig.case_of("other", "fine", "echo 1");
    wait_for("the other type is worked", || (rig.taskmanager.status(other) == "completed").then_some(()));
    let statuses: Vec<String> = ids.iter().map(|id| rig.taskmanager.status(*id)).collect();
    assert_eq!(statuses[..5], ["failed"; 5]);
    assert_eq!(statuses[5..], ["pending"; 3], "their attempts are not burnt");
    assert!(ids[5..].iter().all(|id| rig.taskmanager.task(*id).attempts == 0));
    worker.terminate();
    let log = worker.wait().exits(0).stderr;
    assert!(log.contains("task_type=case pause_s=10"), "{log}");
    assert_eq!(rig.sandbox.read("runs").lines().count(), 5);
}
