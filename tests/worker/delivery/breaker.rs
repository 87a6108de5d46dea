//! A type whose service is away is left alone for a while; its waiting tasks keep their attempts.

use crate::support::{EmbeddedTaskManager, Rig, wait_for};

#[test]
fn a_failing_type_does_not_hold_up_others() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.max_attempts = 1);
    let rig = Rig::of(taskmanager, &[("case", ""), ("other", "")]);
    rig.script("away", "echo run >> runs; exit 69");
    let create = |number: u64| rig.taskmanager.create("case", serde_json::json!({"case": "away", "number": number}));
    let ids: Vec<u64> = (0..8).map(create).collect();
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("circuit open");
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

#[test]
fn a_failure_from_memory_is_no_sign_that_the_service_answers() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.max_attempts = 2);
    let rig = Rig::of(taskmanager, &[("case", "")]);
    let last = rig.case("last", "exit 69");
    rig.case("hopeless", "exit 65");
    rig.work(["--max-tasks", "1", "--strategy", "lifo"]).run().exits(0);
    // The newest go first: four failures, the one from memory, and the fifth.
    for name in ["away", "away-too"] {
        rig.case(name, "exit 69");
    }
    let mut worker = rig.work(["--strategy", "lifo"]).start();
    worker.wait_for_stderr("circuit open");
    assert_eq!(rig.taskmanager.task(last).attempts, 1);
}

#[test]
fn after_the_pause_one_task_tries_and_a_drain_waits_for_it() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.max_attempts = 1);
    let rig = Rig::of(taskmanager, &[("case", "")]);
    rig.script("away", "echo run >> runs; [ -e back ] || exit 69; until [ -e go ]; do sleep 0.03; done; echo 1");
    for number in 0..8 {
        rig.taskmanager.create("case", serde_json::json!({"case": "away", "number": number}));
    }
    let runs = || rig.sandbox.read("runs").lines().count();
    let mut worker = rig.work(["--drain", "--concurrency", "2"]).start();
    worker.wait_for_stderr("circuit open");
    let in_flight = |id: u64| rig.taskmanager.status(id) == "claimed";
    wait_for("what was in flight to fail", || (!(1..=8).any(in_flight)).then_some(()));
    let before = runs();
    rig.sandbox.write("back", "");
    worker.wait_for("one task to try", |_| runs() > before);
    // A second slot that was free to claim would do so at its next poll, within 75 ms.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(runs(), before + 1);
    rig.sandbox.write("go", "");
    let log = worker.wait().exits(0).stderr;
    assert!(log.contains("circuit closed: claiming resumed task_type=case"), "{log}");
    assert_eq!(runs(), 8);
}
