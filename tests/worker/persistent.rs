//! Types whose processes work one task after another, through the real worker.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Rig, wait_for};

/// A script that answers each task with its own number.
const LOYAL: &str = "while next; do answer $$; done";

/// How many tasks each process has worked, by its number.
fn tasks_by_process(rig: &Rig) -> BTreeMap<String, usize> {
    let mut tasks = BTreeMap::new();
    for row in rig.rows("results") {
        assert_eq!(row["status"], "completed", "{row}");
        *tasks.entry(row["data"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    tasks
}

/// Whether a process has ended; a zombie that nobody reaps has.
fn is_gone(pid: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
    state.is_empty() || state.starts_with(b"Z")
}

#[test]
fn a_slot_works_all_its_tasks_with_one_process() {
    let rig = Rig::warm(LOYAL, "");
    let ids = rig.create_warm(30);
    rig.drain();
    assert!(ids.iter().all(|id| rig.taskmanager.status(*id) == "completed"));
    let tasks = tasks_by_process(&rig);
    assert_eq!(tasks.values().collect::<Vec<_>>(), [&30]);
    assert!(tasks.keys().all(|pid| is_gone(pid)));
}

#[test]
fn processes_are_limited_by_slots_and_by_type() {
    for (settings, most) in [("", 4), ("concurrency = 1", 1)] {
        let rig = Rig::warm(LOYAL, settings);
        rig.create_warm(40);
        rig.work(["--drain", "--concurrency", "4"]).run().exits(0);
        let tasks = tasks_by_process(&rig);
        assert!(tasks.len() <= most && tasks.values().sum::<usize>() == 40, "{settings}: {tasks:?}");
    }
}

#[test]
fn processes_are_replaced_after_as_many_tasks_as_configured() {
    let rig = Rig::warm(LOYAL, "max_tasks_per_process = 10");
    rig.create_warm(30);
    rig.drain();
    assert_eq!(tasks_by_process(&rig).into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_task_that_spoils_its_process_fails_alone() {
    let rig = Rig::warm(
        r#"while next; do case $line in
            *crash*) kill -KILL $$;;
            *hang*) sleep 60;;
            *nonsense*) echo nonsense;;
            *refuse*) echo "{\"id\":$id,\"success\":false,\"error\":\"no\",\"error_type\":\"validation\"}";;
            *) answer $$;;
        esac; done"#,
        "timeout = '1s'",
    );
    let ways = ["crash", "well", "hang", "well again", "nonsense", "well at last", "refuse", "to the end"];
    for way in ways {
        rig.taskmanager.create("warm", json!({"way": way}));
    }
    rig.drain();
    let results = rig.rows("results");
    let failures: Vec<&Value> = results.iter().map(|row| &row["error_type"]).collect();
    let expected = json!(["crash", null, "timeout", null, "handler", null, "validation", null]);
    assert_eq!(json!(failures), expected);
    let [after_crash, after_hang, after_nonsense, after_refusal] =
        [1, 3, 5, 7].map(|place: usize| &results[place]["data"]);
    assert!(after_crash != after_hang && after_hang != after_nonsense, "{results:?}");
    assert_eq!(after_nonsense, after_refusal, "a process that answers is kept");
}

#[test]
fn standard_error_is_logged_with_the_task_at_hand() {
    let rig = Rig::warm("while next; do echo about $id >&2; answer 1; done", "");
    let ids = rig.create_warm(20);
    let log = rig.drain().stderr;
    for id in ids {
        let line = format!("INFO  about {id} task_id={id} task_type=warm");
        assert!(log.lines().any(|logged| logged.ends_with(&line)), "{line}\n{log}");
    }
}

#[test]
fn the_story_of_a_task_has_what_was_printed_for_it() {
    let rig = Rig::warm("while next; do [ $id = 2 ] || echo about $id >&2; answer 1; done", "");
    let ids = rig.create_warm(3);
    rig.drain();
    let stderr_tail = |id: &u64| {
        let story = rig.sandbox.prismq(["explain", &id.to_string(), "--json"]).run().exits(0).json();
        story["attempts"][0]["last_words"].clone()
    };
    assert_eq!(json!(ids.iter().map(stderr_tail).collect::<Vec<_>>()), json!(["about 1", null, "about 3"]));
    assert_eq!(rig.rows("last_words").len(), 2);
}

#[test]
fn an_idle_worker_exits_soon_after_its_processes() {
    let rig = Rig::warm(&format!("trap 'touch left' EXIT\n{LOYAL}"), "");
    let id = rig.create_warm(1)[0];
    let mut worker = rig.work(["--concurrency", "4"]).start();
    worker.wait_for("the task to end", |_| rig.taskmanager.status(id) == "completed");
    let start = Instant::now();
    worker.terminate();
    worker.wait().exits(0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(rig.sandbox.path("left").exists());
}

#[test]
fn a_process_that_does_not_leave_holds_up_the_end_for_two_seconds_at_most() {
    let rig = Rig::warm("trap '' TERM\nnext; answer $$; while :; do sleep 0.02; done", "");
    let id = rig.create_warm(1)[0];
    let mut worker = rig.work([]).start();
    worker.wait_for("the task to end", |_| rig.taskmanager.status(id) == "completed");
    let start = Instant::now();
    worker.terminate();
    worker.wait().exits(0);
    assert!(start.elapsed() < Duration::from_millis(4500), "SIGKILL by itself comes after 5 s: {:?}", start.elapsed());
    assert!(tasks_by_process(&rig).keys().all(|pid| is_gone(pid)));
}

#[test]
fn a_task_that_runs_at_the_end_of_the_grace_period_is_reported() {
    let rig = Rig::warm("next; answer $$; next; touch started; sleep 60", "");
    let ids = rig.create_warm(2);
    let mut worker = rig.work(["--grace-period", "100ms"]).start();
    wait_for("the second task", || rig.sandbox.path("started").exists().then_some(()));
    worker.terminate();
    worker.wait_for_stderr("stopping");
    worker.wait().exits(0);
    let task = rig.taskmanager.task(ids[1]);
    assert_eq!(task.error_message.as_deref(), Some("stopped: the worker is shutting down"));
    assert!(is_gone(rig.rows("results")[0]["data"].as_str().unwrap()));
}

#[test]
fn a_task_worked_by_hand_ends_its_process() {
    let rig = Rig::warm(&format!("trap 'touch left' EXIT\n{LOYAL}"), "");
    rig.create_warm(1);
    let envelope = rig.sandbox.prismq(["claim", "--run", "--once"]).run().exits(0).json();
    assert!(is_gone(&envelope["data"].to_string()) && rig.sandbox.path("left").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn idle_processes_of_a_killed_worker_leave_nothing_behind() {
    let rig = Rig::warm(&format!("setsid sleep 600 & echo $! > escaped\n{LOYAL}"), "");
    let id = rig.create_warm(1)[0];
    let mut worker = rig.work([]).start();
    worker.wait_for("the task to end", |_| rig.taskmanager.status(id) == "completed");
    let warm = tasks_by_process(&rig).into_keys().next().unwrap();
    let escaped = rig.sandbox.read("escaped");
    worker.crash();
    wait_for("the end of the process", || is_gone(&warm).then_some(()));
    assert!(!is_gone(escaped.trim()), "it does not die with the worker");
    let log = rig.drain().stderr;
    assert!(is_gone(escaped.trim()) && log.contains("orphan killed"), "{log}");
}
