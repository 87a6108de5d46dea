//! A TaskManager that renews claims: tasks may take longer than a claim lasts, and those whose claim was lost are stopped.

use std::thread;
use std::time::Duration;

use prismq::internals::server::OfferedFeatures;
use serde_json::json;

use crate::support::published::PublishedServer;
use crate::support::{EmbeddedTaskManager, Refusal, Rig, cases, wait_for};

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
fn a_claim_is_renewed_while_its_result_waits_to_be_stored() {
    let rig = Rig::of(short_claims(OfferedFeatures::default()), &[("case", "timeout = \"1h\"")]);
    let id = rig.case("one", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    let worker = rig.work(["--concurrency", "2"]).start();
    wait_for("it runs", || rig.sandbox.path("started").exists().then_some(()));
    let other = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.sandbox.write("go", "");
    thread::sleep(Duration::from_secs(5));
    other.execute_batch("ROLLBACK").unwrap();
    wait_for("it to be completed", || (rig.taskmanager.status(id) == "completed").then_some(()));
    assert_eq!(rig.taskmanager.task(id).attempts, 1);
    worker.terminate();
    worker.wait().exits(0);
}

#[test]
fn a_claim_is_renewed_while_its_report_is_being_sent() {
    let taskmanager =
        PublishedServer::with(&["case"], |settings| settings.claim_timeout = Some(Duration::from_secs(2)));
    let sandbox = taskmanager.sandbox(&cases("case", "timeout = \"1h\""));
    sandbox.write("it.sh", "echo 1");
    let id = taskmanager.create("case", json!({"case": "it"}));
    taskmanager.hold(&format!("POST /tasks/{id}/complete"));
    let worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    wait_for("the report", || taskmanager.is_holding().then_some(()));
    thread::sleep(Duration::from_secs(5));
    taskmanager.release();
    wait_for("it to be completed", || (taskmanager.task(id).status == "completed").then_some(()));
    assert_eq!(taskmanager.task(id).attempts, 1);
    worker.terminate();
    worker.wait().exits(0);
}

#[test]
fn a_refused_renewal_does_not_hold_up_those_of_other_workers() {
    let taskmanager =
        PublishedServer::with(&["case"], |settings| settings.claim_timeout = Some(Duration::from_secs(6)));
    let sandbox = taskmanager.sandbox(&cases("case", "timeout = \"1h\""));
    sandbox.write("it.sh", "until [ -e go ]; do sleep 0.03; done; echo 1");
    let create = |n| taskmanager.create("case", json!({"case": "it", "n": n}));
    let work = |worker_id| sandbox.prismq(["work", "--worker-id", worker_id, "--concurrency", "2"]).start();
    let is_claimed = |id| (taskmanager.task(id).status == "claimed").then_some(());
    let left = create(1);
    let dead = work("a");
    wait_for("it to be claimed", || is_claimed(left));
    dead.crash();
    taskmanager.refuse(Refusal {
        task_id: left,
        calls: &["renew"],
        status: 400,
        error: "Request blocked",
        shown: None,
        is_whole: true,
    });
    let mut worker = work("b");
    worker.wait_for("recovered task", |it| it.stderr().contains("recovered task"));
    let own = create(2);
    wait_for("it to be claimed", || is_claimed(own));
    thread::sleep(Duration::from_secs(8));
    sandbox.write("go", "");
    wait_for("it to be completed", || (taskmanager.task(own).status == "completed").then_some(()));
    assert_eq!(taskmanager.task(own).attempts, 1, "its claim has not expired");
    worker.terminate();
    worker.wait().exits(0);
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
