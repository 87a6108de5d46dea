//! The machine's clock is set forward or back by a day while a worker runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Rig, at_once, cases, set_clock, wait_for, with_clock};

const DAY: i64 = 24 * 3600;

/// What a handler does to set the clock.
fn set(seconds: i64) -> String {
    format!("echo {seconds} > clock.new; mv clock.new clock")
}

/// A rig whose clock can be set, with the type `case`.
fn rig_with(settings: &str) -> Rig {
    let Rig { taskmanager, sandbox } = Rig::start();
    let rig = Rig { taskmanager, sandbox: with_clock(sandbox) };
    rig.sandbox.write("prismq.toml", cases("case", settings));
    rig
}

/// The whole milliseconds between two times of a row.
fn between(row: &Value, start: &str, end: &str) -> i64 {
    let [start, end] = [start, end].map(|key| row[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    end.as_millisecond() - start.as_millisecond()
}

#[test]
fn a_task_takes_as_long_as_it_takes_though_the_clock_is_set() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("");
        let id = rig.case("it", &format!("{}; sleep 0.3; echo 1", set(seconds)));
        rig.drain();
        let row = &rig.rows("results")[0];
        let took = row["duration_ms"].as_i64().unwrap();
        assert!((300..10_000).contains(&took), "{row}");
        assert_eq!(between(row, "started_at", "finished_at"), took, "{row}");
        assert!(between(row, "claimed_at", "started_at") < 10_000, "{row}");
        let reported = rig.taskmanager.task(id).result.unwrap()["metadata"]["processing_time"].as_f64().unwrap();
        assert!((0.3..10.0).contains(&reported), "{reported}");
        let stats = rig.sandbox.prismq(["stats", "--json"]).run().exits(0).json();
        let mean = stats["groups"][0]["mean_ms"].as_f64().unwrap();
        assert!((300.0..10_000.0).contains(&mean), "{stats}");
    });
}

#[test]
fn a_task_is_tried_again_though_the_clock_is_set() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("retry = { max_attempts = 2, delay = '10ms' }");
        let id = rig.case("it", &format!("echo run >> runs; [ -e clock ] && exit 0; {}; exit 75", set(seconds)));
        rig.drain();
        let task = rig.taskmanager.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{seconds}");
        assert_eq!(rig.sandbox.read("runs"), "run\nrun\n", "{seconds}");
    });
}

#[test]
fn timeouts_ignore_clock_changes() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("timeout = '1s'\nretry = { max_attempts = 2, delay = '10ms' }");
        rig.case("it", &format!("[ -e clock ] && exec sleep 60; {}; exit 75", set(seconds)));
        let start = Instant::now();
        rig.work(["--max-tasks", "1"]).run().exits(0);
        assert!((1..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        assert_eq!(rig.rows("results")[0]["error_type"], json!("timeout"), "{seconds}");
    });
}

#[test]
fn a_clock_change_between_claim_and_start_is_harmless() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("timeout = '5s'");
        let id = rig.case("it", "echo 1");
        let mut worker = rig.work(["--drain"]).env("FAILPOINTS", "noted=sleep(1000)").start();
        worker.wait_for_stderr("claimed");
        set_clock(&rig.sandbox, seconds);
        worker.wait().exits(0);
        let task = rig.taskmanager.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{seconds}");
    });
}

#[test]
fn a_task_that_waits_to_be_taken_up_is_though_the_clock_is_set() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("concurrency = 1");
        rig.script("it", "echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1");
        let ids = [1, 2].map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n})));
        rig.sandbox.write("prismq.toml", cases("case", ""));
        let first = rig.work(["--concurrency", "2"]).start();
        wait_for("both to run", || (rig.sandbox.read("runs").lines().count() == 2).then_some(()));
        first.crash();
        rig.sandbox.write("prismq.toml", cases("case", "concurrency = 1"));
        let second = rig.work(["--drain"]).start();
        wait_for("one to run again", || (rig.sandbox.read("runs").lines().count() == 3).then_some(()));
        set_clock(&rig.sandbox, seconds);
        rig.sandbox.write("go", "");
        second.wait().exits(0);
        let attempts = ids.map(|id| (rig.taskmanager.status(id), rig.taskmanager.task(id).attempts));
        assert_eq!(attempts, [("completed".into(), 1), ("completed".into(), 1)], "{seconds}");
    });
}

#[test]
fn tasks_of_a_dead_worker_are_recovered_and_time_out_although_the_clock_was_set() {
    at_once([DAY, -DAY], |seconds| {
        let rig = rig_with("timeout = '1s'");
        let id = rig.case("it", "echo run >> runs; exec sleep 60");
        rig.work(["--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
        set_clock(&rig.sandbox, seconds);
        let start = Instant::now();
        rig.work(["--max-tasks", "1", "--worker-id", "next"]).run().exits(0);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!((rig.sandbox.read("runs").as_str(), rig.taskmanager.task(id).attempts), ("run\n", 1), "{seconds}");
        assert_eq!(rig.rows("results")[0]["error_type"], json!("timeout"), "{seconds}");
    });
}
