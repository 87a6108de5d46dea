//! The TaskManager goes away, comes back, or turns against the worker, while it works.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, wait_for};

#[test]
fn a_server_restart_is_logged_in_two_lines() {
    let mut rig = Rig::start();
    rig.script("it", "echo x >>runs; until [ -e go ]; do sleep 0.03; done; echo 1");
    let ids: Vec<u64> = (0..20).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect();
    let mut worker = rig.work(["--concurrency", "3", "--debug"]).start();
    worker.wait_for("three to run", |_| rig.sandbox.read("runs").lines().count() == 3);
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    worker.wait_for("three reports to fail", |it| it.stderr().matches("report postponed").count() == 3);
    let failed_at = Instant::now();
    rig.taskmanager.restart();
    let away = failed_at.elapsed();
    worker.wait_for("all to end", |_| ids.iter().all(|id| rig.taskmanager.status(*id) == "completed"));
    worker.wait_for_stderr("TaskManager available again");
    worker.terminate();
    let log = worker.wait().exits(0).stderr;

    assert_eq!(log.matches("TaskManager unavailable").count(), 1, "{log}");
    let back: Vec<&str> = log.lines().filter(|line| line.contains("available again")).collect();
    let [back] = &back[..] else { panic!("{log}") };
    let number = |name: &str| -> f64 {
        let (_, value) = back.split_once(&format!(" {name}=")).unwrap();
        value.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(number("failed_calls") >= 3.0 && number("outage_s") > away.as_secs_f64(), "{back}");
    let problems = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert_eq!(problems, 1, "{log}");
    let rows = rig.rows("results");
    assert!(rows.iter().all(|row| row["status"] == json!("completed") && row["reported_at"].is_string()));
    assert_eq!((rows.len(), rig.sandbox.read("runs").lines().count()), (20, 20), "each ran once");
}

#[test]
fn a_key_that_is_taken_away_ends_the_worker_after_what_runs() {
    let mut rig = Rig::start();
    let slow = rig.case("slow", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    let mut worker = rig.work(["--concurrency", "2"]).env("TASKMANAGER_API_KEY", "the-old-key").start();
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.taskmanager.restart_with_key("the-new-key");
    worker.wait_for_stderr("claiming no more tasks in_flight=1");
    assert!(worker.is_running());
    rig.sandbox.write("go", "");
    let output = worker.wait().exits(5);
    assert!(output.stderr.lines().last().unwrap().contains("refused the key"), "{}", output.stderr);
    assert!(!output.stderr.contains("the-old-key"), "{}", output.stderr);
    let row = &rig.rows("results")[0];
    assert_eq!((&row["status"], &row["reported_at"]), (&json!("completed"), &Value::Null));

    rig.work(["--drain"]).env("TASKMANAGER_API_KEY", "the-new-key").run().exits(0);
    let row = &rig.rows("results")[0];
    assert!(row["status"] == json!("completed") && row["reported_at"].is_string(), "{row}");
    assert_eq!(rig.taskmanager.status(slow), "completed");
}

#[test]
fn a_server_that_was_set_up_anew_is_worked_on() {
    let mut rig = Rig::start();
    rig.script("it", "echo 1");
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("ready");
    rig.taskmanager.stop();
    rig.taskmanager.restart_anew();
    worker.wait_for_stderr("task type no longer registered task_type=case");
    rig.taskmanager.register("another");
    rig.taskmanager.register("case");
    let id = rig.taskmanager.create("case", json!({"case": "it"}));
    worker.wait_for("the task to end", |_| rig.taskmanager.status(id) == "completed");
    assert_eq!(worker.stderr().matches("no longer registered").count(), 1, "{}", worker.stderr());
}

#[test]
fn a_number_that_is_another_types_by_now_hands_no_task_to_the_wrong_handler() {
    let mut rig = Rig::start();
    rig.script("it", "echo run >>runs");
    let mut worker = rig.work(["--poll-interval", "300ms", "--max-backoff", "300ms"]).start();
    worker.wait_for_stderr("ready");
    let other = EmbeddedTaskManager::start();
    for name in ["another", "case"] {
        other.register(name);
    }
    let wrong = other.create("another", json!({"case": "it"}));
    rig.taskmanager.replace_by(other);
    worker.wait_for_stderr("claimed task has another type");
    let right = rig.taskmanager.create("case", json!({"case": "it"}));
    worker.wait_for("its own task to end", |_| rig.taskmanager.status(right) == "completed");
    assert_eq!((rig.sandbox.read("runs"), rig.taskmanager.status(wrong)), ("run\n".into(), "claimed".into()));
}

#[test]
fn a_claim_that_ran_out_is_another_workers() {
    let taskmanager = EmbeddedTaskManager::expiring(std::time::Duration::from_millis(300));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    // This worker believes that it has the task for 300 s. Another takes it meanwhile.
    let id =
        rig.case("late", "echo x >>runs; [ $(wc -l <runs) -gt 1 ] || until [ -e go ]; do sleep 0.03; done; echo 1");
    let mut slow = rig.work([]).start();
    wait_for("the first handler", || (!rig.sandbox.read("runs").is_empty()).then_some(()));
    let other = rig.work(["--max-tasks", "1", "--results", "other.db"]).env("WORKER_ID", "worker-2").start();
    other.wait().exits(0);
    rig.sandbox.write("go", "");
    slow.wait_for_stderr("claim lost");
    slow.terminate();
    slow.wait().exits(0);
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.claimed_by.as_deref(), task.attempts), ("completed", Some("worker-2"), 2));
    let row = &rig.rows("results")[0];
    assert!(row["status"] == json!("lost") && row["reported_at"].is_string() && row["data"].is_string(), "{row}");
}
