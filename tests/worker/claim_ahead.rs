//! If calls take longer than tasks, more tasks are claimed than slots are free. Those that wait for a slot keep their
//! claims.

use std::time::Duration;

use prismq::internals::server::OfferedFeatures;
use rusqlite::types::Value;
use serde_json::json;

use crate::support::{EmbeddedTaskManager, Rig, wait_for};

/// Tasks that a worker with two slots claims in its first four calls if it claims ahead: 2, 4, 6 and 10.
const SHORT: usize = 22;
const LONG: usize = 8;

/// Starts a TaskManager that answers each call late, with short tasks and then long ones, which wait for the file `go`.
/// Returns the ids of both.
fn start(claims_last: u64, features: OfferedFeatures) -> (Rig, Vec<u64>, Vec<u64>) {
    let taskmanager = EmbeddedTaskManager::with(|settings| {
        settings.claim_timeout = Some(Duration::from_secs(claims_last));
        (settings.faults.latency, settings.faults.delay) = (1.0, Duration::from_millis(100));
        settings.faults.features = features;
    });
    let rig = Rig::of(taskmanager, &[("case", "")]);
    rig.script("short", "echo 1");
    rig.script("long", "echo $PRISMQ_TASK_ID >> runs; while ! [ -e go ]; do sleep 0.03; done; echo 1");
    let line = |n| json!({"case": if n < SHORT { "short" } else { "long" }, "n": n}).to_string();
    rig.sandbox.write("params", (0..SHORT + LONG).map(line).collect::<Vec<_>>().join("\n"));
    let created = rig.sandbox.prismq(["create-task", "case", "--from", "params"]).run().exits(0);
    let mut ids: Vec<u64> = created.stdout.lines().map(|id| id.parse().unwrap()).collect();
    let mut long = ids.split_off(SHORT);
    // Several calls may create them at the same time.
    long.sort_unstable();
    (rig, ids, long)
}

/// Returns how many of the tasks have this status.
fn count(rig: &Rig, ids: &[u64], status: &str) -> usize {
    ids.iter().filter(|id| rig.taskmanager.status(**id) == status).count()
}

fn database(rig: &Rig) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    file.busy_timeout(Duration::from_secs(20)).unwrap();
    file
}

/// Returns when the task's claim expires.
fn expiry(file: &rusqlite::Connection, id: u64) -> Value {
    file.query_row("SELECT expires_at FROM tasks WHERE id = ?1", [id], |row| row.get(0)).unwrap()
}

#[test]
fn tasks_that_wait_for_a_slot_keep_their_claims_and_one_whose_claim_is_lost_does_not_run() {
    let (rig, short, long) = start(2, OfferedFeatures::default());
    let worker = rig.work(["--concurrency", "2"]).start();
    wait_for("tasks wait for a slot", || (count(&rig, &long, "claimed") > 3).then_some(()));
    wait_for("the short ones are done", || (count(&rig, &short, "completed") == SHORT).then_some(()));
    let claimed: Vec<u64> = long.iter().copied().filter(|id| rig.taskmanager.status(*id) == "claimed").collect();
    let file = database(&rig);
    let before: Vec<Value> = claimed.iter().map(|id| expiry(&file, *id)).collect();
    wait_for("their claims are renewed", || {
        claimed.iter().zip(&before).all(|(id, before)| expiry(&file, *id) != *before).then_some(())
    });
    let lost = *claimed.last().unwrap();
    file.execute("UPDATE tasks SET claimed_by = 'another' WHERE id = ?1", [lost]).unwrap();
    // When the second begins, the answer to the first has arrived.
    for _ in 0..2 {
        let before = expiry(&file, claimed[0]);
        wait_for("another renewal", || (expiry(&file, claimed[0]) != before).then_some(()));
    }
    rig.sandbox.write("go", "");
    wait_for("all are done", || (count(&rig, &long, "completed") == LONG).then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    let runs = rig.sandbox.read("runs");
    let mut runs: Vec<u64> = runs.lines().map(|id| id.parse().unwrap()).collect();
    runs.sort_unstable();
    assert_eq!(runs, long, "each ran once, the lost one under a later claim");
    let attempts: Vec<u32> = long.iter().map(|id| rig.taskmanager.task(*id).attempts).collect();
    let expected: Vec<u32> = long.iter().map(|id| if *id == lost { 2 } else { 1 }).collect();
    assert_eq!(attempts, expected);
}

#[test]
fn one_that_is_stopped_leaves_no_claim() {
    let (rig, _, long) = start(60, OfferedFeatures::default());
    let worker = rig.work(["--concurrency", "2", "--grace-period", "1s"]).start();
    wait_for("tasks wait for a slot", || (count(&rig, &long, "claimed") > 3).then_some(()));
    worker.terminate();
    worker.wait();
    assert_eq!((count(&rig, &long, "claimed"), rig.rows("claims").len()), (0, 0));
}
