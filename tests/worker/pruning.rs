//! `--keep-results`: the results file stops growing, and nothing that is still needed goes.

use std::iter;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use prismq::internals::{Store, TaskResult};
use prismq::{Outcome, TaskId};
use serde_json::{Value, json};

use crate::support::{Rig, wait_for};

const HOUR: Duration = Duration::from_hours(1);

/// Stores 600 results that were finished two hours ago, all but the first of them reported.
fn store_old_results(rig: &Rig) {
    let store = Store::open(&rig.sandbox.path("results.db")).unwrap();
    let finished_at = Timestamp::now() - 2 * HOUR;
    let store_one = &|number: u64| {
        let mut outcome = Outcome::success(Value::Null);
        outcome.stderr_tail = format!("number {number}");
        let mut result = TaskResult {
            task_id: TaskId(1000 + number),
            task_type: "old".into(),
            attempt: 1,
            worker_id: format!("old-{}", number % 3),
            // Nobody reports there.
            api_url: "http://elsewhere/api".into(),
            params: json!({"padding": "x".repeat(2000)}),
            outcome,
            claimed_at: finished_at,
            started_at: finished_at,
            finished_at,
        };
        let id = store.finish(&mut result).unwrap();
        if number > 0 {
            store.settle_all(iter::once((id, &result, false)), finished_at).unwrap();
        }
    };
    thread::scope(|scope| {
        for slot in 0..20 {
            scope.spawn(move || (slot * 30..slot * 30 + 30).for_each(store_one));
        }
    });
}

fn number(rig: &Rig, sql: &str) -> u64 {
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn old_results(rig: &Rig) -> u64 {
    number(rig, "SELECT count(*) FROM results WHERE task_type = 'old'")
}

#[test]
fn old_results_are_pruned_while_slots_work() {
    let rig = Rig::start();
    let first = rig.case("first", "echo 1");
    rig.drain();
    store_old_results(&rig);
    let mut worker = rig.work(["--keep-results", "1h"]).start();
    worker.wait_for_stderr("ready");
    let second = rig.case("second", "echo 2");
    wait_for("the old results are gone", || (old_results(&rig) == 1).then_some(()));
    wait_for("the task is worked", || (rig.taskmanager.status(second) == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    let stderr_tail: Vec<_> = rig.rows("last_words").into_iter().map(|row| row["text"].clone()).collect();
    assert_eq!(stderr_tail, ["number 0"], "they go with their results");
    let waiting = &rig.rows("results")[1];
    assert_eq!((&waiting["task_id"], &waiting["reported_at"]), (&json!(1000), &Value::Null));
    assert_eq!(rig.worked(), [first, 1000, second]);
    let stats = rig.sandbox.prismq(["stats", "--json"]).run().exits(0).json();
    let counts: Vec<_> = stats["groups"].as_array().unwrap().iter().map(|it| (&it["name"], &it["completed"])).collect();
    assert_eq!(counts, [(&json!("case"), &json!(2)), (&json!("old"), &json!(600))]);
}

#[test]
fn the_file_stops_growing() {
    let rig = Rig::start();
    let mut sizes = Vec::new();
    for round in 1..=3 {
        store_old_results(&rig);
        sizes.push(number(&rig, "PRAGMA page_count"));
        let worker = rig.work(["--keep-results", "1h"]).start();
        wait_for("the old results are gone", || (old_results(&rig) == round).then_some(()));
        worker.terminate();
        worker.wait().exits(0);
    }
    assert!(sizes[2] < sizes[0] + 20, "{sizes:?} pages");
}

#[test]
fn processes_that_ended_long_ago_are_forgotten() {
    let rig = Rig::start();
    rig.drain();
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.execute("UPDATE workers SET stopped_at = '2026-01-01T00:00:00.000Z'", []).unwrap();
    rig.drain();
    assert_eq!(number(&rig, "SELECT CAST(group_concat(process) AS INTEGER) FROM workers"), 2);
}

#[test]
fn results_stay_for_ever_where_nothing_else_is_asked_for() {
    let rig = Rig::start();
    store_old_results(&rig);
    rig.case("first", "echo 1");
    rig.work(["--drain", "--keep-results", "0"]).run().exits(0);
    rig.work(["--drain", "--keep-results", "3h"]).run().exits(0);
    rig.drain();
    assert_eq!(old_results(&rig), 600);
}
