//! A TaskManager with batches and renewals some of whose answers are lost, and one that refuses a single entry of a batch.

use std::time::Duration;

use prismq::internals::server::{OfferedFeatures, Settings};
use serde_json::{Value, json};

use super::server_kills::lines;
use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, Output, Refusal, Sandbox, cases, is_alive, pid_in, rows, wait_for};

const TASKS: usize = 12;

/// A TaskManager in front of which answers are lost, and a worker's sandbox.
struct Fronted {
    taskmanager: PublishedServer,
    sandbox: Sandbox,
    ids: Vec<u64>,
}

impl Fronted {
    /// Starts one with tasks that run `script`.
    fn start(change: impl FnOnce(&mut Settings), tasks: usize, script: &str) -> Self {
        let taskmanager = PublishedServer::with(&["case"], change);
        let sandbox = taskmanager.sandbox(&cases("case", "timeout = \"1h\""));
        sandbox.write("it.sh", script);
        let ids = (0..tasks).map(|n| taskmanager.create("case", json!({"case": "it", "n": n}))).collect();
        Self { taskmanager, sandbox, ids }
    }

    fn drain(&self) -> Output {
        self.sandbox.prismq(["work", "--drain", "--concurrency", "4"]).run().exits(0)
    }

    /// The results, by task.
    fn results(&self) -> Vec<Value> {
        let mut rows = rows(&self.sandbox, "results");
        rows.sort_by_key(|row| row["task_id"].as_u64());
        rows
    }

    /// Each of these tasks was completed at its first attempt, and has one result, which was reported.
    #[track_caller]
    fn assert_completed_once(&self, ids: &[u64], what: &str) {
        for id in ids {
            let task = self.taskmanager.task(*id);
            assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{what}: task {id}");
            let rows = self.results();
            let of_task: Vec<&Value> = rows.iter().filter(|row| row["task_id"] == json!(id)).collect();
            assert_eq!(of_task.len(), 1, "{what}: {rows:?}");
            assert!(of_task[0]["status"] == "completed" && of_task[0]["reported_at"].is_string(), "{what}: {rows:?}");
        }
    }

    fn runs(&self) -> usize {
        self.sandbox.read("runs").lines().count()
    }
}

/// The ways in which an answer is lost after the server has acted.
fn losses() -> [(&'static str, Fault); 4] {
    [
        ("closed", Fault::AnswerLost),
        ("reset", Fault::AnswerReset),
        ("cut", Fault::AnswerCut),
        ("a proxy's error", Fault::AnsweredBy(Answer::page(502))),
    ]
}

/// Loses two answers in a row to these calls in each way, with and without batches.
#[track_caller]
fn lose_answers(call: &str) {
    for (what, fault) in losses() {
        let front = Fronted::start(|_| (), TASKS, "echo run >> runs; echo 1");
        for _ in 0..2 {
            front.taskmanager.inject(call, fault.clone());
        }
        front.drain();
        front.assert_completed_once(&front.ids, what);
        assert_eq!(front.runs(), TASKS, "{what}: none runs twice");
    }
}

#[test]
fn lost_answers_to_claims_lose_no_task() {
    lose_answers("POST /tasks/claim");
}

#[test]
fn lost_answers_to_reports_lose_no_result() {
    lose_answers("POST /tasks/complete");
}

#[test]
fn lost_answers_to_renewals_lose_no_claim() {
    let short = |settings: &mut Settings| settings.claim_timeout = Some(Duration::from_secs(6));
    let front = Fronted::start(short, 4, "echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1");
    for (_, fault) in losses() {
        front.taskmanager.inject("POST /tasks/renew", fault);
    }
    let worker = front.sandbox.prismq(["work", "--drain", "--concurrency", "4"]).start();
    wait_for("a renewal to be answered", || (front.taskmanager.count("POST /tasks/renew") > 5).then_some(()));
    front.sandbox.write("go", "");
    worker.wait().exits(0);
    front.assert_completed_once(&front.ids, "renewals");
    assert_eq!(front.runs(), 4);
}

#[test]
fn lost_answers_to_creations_create_no_task_twice() {
    let lines = lines(500);
    for (what, fault) in losses() {
        let front = Fronted::start(|_| (), 0, "");
        front.taskmanager.inject("POST /tasks", fault.clone());
        let create = front.sandbox.prismq(["create-task", "case", "--from", "-"]).stdin(lines.clone());
        let mut ids: Vec<u64> = create.run().exits(0).stdout.lines().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=500).collect::<Vec<_>>(), "{what}");
    }
}

/// Runs a worker whose batch has one entry that the TaskManager refuses; returns the row of that task.
#[track_caller]
fn refuse_one(refusal: impl Fn(u64) -> Refusal) -> (Fronted, Value) {
    let front = Fronted::start(|_| (), 4, "until [ -e go ]; do sleep 0.03; done; echo run >> runs; echo 1");
    let refused = front.ids[1];
    front.taskmanager.refuse(refusal(refused));
    let worker = front.sandbox.prismq(["work", "--concurrency", "4"]).start();
    wait_for("all to be claimed", || {
        front.ids.iter().all(|id| front.taskmanager.task(*id).status == "claimed").then_some(())
    });
    front.sandbox.write("go", "");
    let others: Vec<u64> = front.ids.iter().copied().filter(|id| *id != refused).collect();
    wait_for("the others to be completed", || {
        let is_marked = |row: &Value| row["task_id"] == json!(refused) || row["reported_at"].is_string();
        let rows = front.results();
        (rows.len() == 4 && rows.iter().all(is_marked)).then_some(())
    });
    worker.terminate();
    worker.wait().exits(0);
    front.assert_completed_once(&others, "others");
    assert_eq!(front.runs(), 4);
    let row = front.results().remove(1);
    (front, row)
}

fn report_refused(task_id: u64, status: u16, error: &'static str) -> Refusal {
    Refusal { task_id, calls: &["complete"], status, error, shown: None, is_whole: false }
}

#[test]
fn a_refused_result_does_not_hold_up_its_batch() {
    let (front, row) = refuse_one(|id| report_refused(id, 400, "Validation failed"));
    assert_eq!(
        (&row["status"], &row["reported_at"]),
        (&json!("completed"), &Value::Null),
        "it is still to be reported"
    );
    assert_eq!(front.taskmanager.task(front.ids[1]).status, "claimed");
}

#[test]
fn a_lost_claim_does_not_hold_up_its_batch() {
    for (status, error) in [
        (404, "Task not found"),
        (403, "Task is claimed by another worker"),
        (409, "Attempt is over"),
        (409, "Task was cancelled"),
        (400, "Task is not in claimed state"),
    ] {
        let (_front, row) = refuse_one(|id| report_refused(id, status, error));
        assert!(row["status"] == "lost" && row["reported_at"].is_string(), "{error}: {row}");
    }
}

#[test]
fn a_report_that_a_server_refuses_with_its_batch_is_found_by_halves() {
    const MANY: usize = 64;
    let front = Fronted::start(|_| (), MANY, "until [ -e go ]; do sleep 0.03; done; echo 1");
    let refused = front.ids[20];
    let whole = Refusal { is_whole: true, ..report_refused(refused, 400, "Request blocked") };
    front.taskmanager.refuse(whole);
    // All results are stored, and none is reported, when the worker is killed.
    let worker = front.sandbox.prismq(["work", "--concurrency", "64"]).env("FAILPOINTS", "reporting=pause").start();
    wait_for("all to be claimed", || {
        front.ids.iter().all(|id| front.taskmanager.task(*id).status == "claimed").then_some(())
    });
    front.sandbox.write("go", "");
    wait_for("all to be stored", || (front.results().len() == MANY).then_some(()));
    worker.crash();
    let worker = front.sandbox.prismq(["work"]).start();
    wait_for("the others to be reported", || {
        (front.results().iter().filter(|row| row["reported_at"].is_string()).count() == MANY - 1).then_some(())
    });
    worker.terminate();
    worker.wait().exits(0);
    let calls = front.taskmanager.server.calls().iter().filter(|call| call.ends_with("/complete")).count();
    // One call for each half of 64, 32, 16, 8, 4 and 2, and some more for the refused one later.
    assert!(calls <= 20, "{calls} calls");
}

/// A renewal says that one of several tasks was cancelled.
#[track_caller]
fn cancel_one(features: OfferedFeatures) {
    let change = |settings: &mut Settings| {
        settings.claim_timeout = Some(Duration::from_secs(6));
        settings.faults.features = features;
    };
    let script = "echo $$ > pid.$PRISMQ_TASK_ID; echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1";
    let front = Fronted::start(change, 4, script);
    let worker = front.sandbox.prismq(["work", "--max-tasks", "4", "--concurrency", "4"]).start();
    wait_for("all to run", || (front.runs() == 4).then_some(()));
    let cancelled = front.ids[2];
    let renewals = front.taskmanager.count("POST /tasks/renew");
    front.taskmanager.refuse(Refusal::cancelled(cancelled));
    wait_for("it to be stopped and settled", || {
        front.results().iter().any(|row| row["reported_at"].is_string()).then_some(())
    });
    // One may have been under way.
    let renewals = front.taskmanager.count("POST /tasks/renew") - renewals;
    assert!((1..=2).contains(&renewals), "{renewals} renewals");
    let row = &front.results()[0];
    assert_eq!((&row["task_id"], &row["status"]), (&json!(cancelled), &json!("lost")), "{row}");
    assert_eq!(row["error_type"], json!("claim_lost"), "{row}");
    for id in &front.ids {
        let handler = pid_in(&front.sandbox.path(&format!("pid.{id}")));
        assert_eq!(is_alive(handler), *id != cancelled, "only its handler is stopped");
    }
    front.sandbox.write("go", "");
    worker.wait().exits(0);
    let others: Vec<u64> = front.ids.iter().copied().filter(|id| *id != cancelled).collect();
    front.assert_completed_once(&others, "others");
    assert_eq!((front.runs(), front.results().len()), (4, 4));
}

#[test]
fn only_the_cancelled_task_of_a_batch_is_stopped() {
    cancel_one(OfferedFeatures::default());
}

#[test]
fn a_cancelled_task_is_stopped_without_batches_too() {
    cancel_one(OfferedFeatures { batch: false, renew: true });
}
