//! A TaskManager that renews claims: tasks may take longer than a claim lasts, and those whose claim was lost are stopped.

use std::time::Duration;

use prismq::internals::server::OfferedFeatures;
use serde_json::json;

use crate::support::{EmbeddedTaskManager, Rig, wait_for};

fn short_claims(features: OfferedFeatures) -> EmbeddedTaskManager {
    EmbeddedTaskManager::with(|settings| {
        settings.claim_timeout = Some(Duration::from_secs(2));
        settings.faults.features = features;
    })
}

#[test]
fn a_task_may_take_longer_than_a_claim_lasts() {
    for batch in [true, false] {
        let rig = Rig::of(short_claims(OfferedFeatures { batch, renew: true }), &[("case", "timeout = \"1h\"")]);
        let id = rig.case("slow", "echo run >> runs; sleep 5; echo 1");
        let output = rig.work(["--drain", "--claim-timeout", "2s", "--concurrency", "2"]).run().exits(0);
        let task = rig.taskmanager.task(id);
        assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{}", output.stderr);
        assert_eq!(rig.sandbox.read("runs"), "run\n");
        assert!(!output.stderr.contains(" WARN "), "{}", output.stderr);
    }
}

#[test]
fn a_handler_whose_claim_was_lost_is_stopped_by_the_next_renewal() {
    let rig = Rig::of(short_claims(OfferedFeatures::default()), &[("case", "")]);
    let id = rig.case("slow", "sleep 250; echo 1");
    let worker = rig.work(["--max-tasks", "1"]).start();
    wait_for("it runs", || (rig.taskmanager.status(id) == "claimed").then_some(()));
    let file = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    file.busy_timeout(Duration::from_secs(20)).unwrap();
    file.execute("UPDATE tasks SET claimed_by = 'another' WHERE id = ?1", [id]).unwrap();
    worker.wait().exits(0);
    let row = &rig.rows("results")[0];
    assert_eq!((&row["error_type"], &row["status"]), (&json!("claim_lost"), &json!("lost")), "{row}");
}

#[test]
fn a_handler_whose_task_is_gone_is_stopped_by_the_next_renewal() {
    let mut rig = Rig::of(short_claims(OfferedFeatures::default()), &[("case", "")]);
    let id = rig.case("slow", "sleep 250; echo 1");
    let worker = rig.work(["--max-tasks", "1"]).start();
    wait_for("it runs", || (rig.taskmanager.status(id) == "claimed").then_some(()));
    rig.taskmanager.stop();
    rig.taskmanager.restart_anew();
    worker.wait().exits(0);
    assert_eq!(rig.rows("results")[0]["error_type"], json!("claim_lost"));
}
