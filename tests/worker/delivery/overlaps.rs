//! Where two attempts at a task meet in one process: the next is claimed before the last one's report is settled.

use serde_json::{Value, json};

use crate::support::published::{Fault, PublishedServer};
use crate::support::{EmbeddedTaskManager, Rig, Sandbox, cases, rows, wait_for};

/// Waits until a claim waits for the fate of an earlier report of its task.
#[track_caller]
pub(crate) fn wait_for_waiting_claim(sandbox: &Sandbox) {
    wait_for("a claim that waits", || rows(sandbox, "claims").iter().any(|row| row["running"] == 0).then_some(()));
}

/// The attempts of the results file, each with its error.
fn attempts(sandbox: &Sandbox) -> Vec<(u64, Value)> {
    rows(sandbox, "results").iter().map(|row| (row["attempt"].as_u64().unwrap(), row["error"].clone())).collect()
}

/// A failed task goes straight back to the queue, and another slot claims it before the first has read the answer.
#[test]
fn the_next_attempt_of_a_failed_task_runs_though_its_report_is_not_yet_settled() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", ""), ("other", "")]);
    let ids = ["a", "b", "c", "d"].map(|name| {
        rig.case_of(
            if name == "a" { "case" } else { "other" },
            name,
            "echo $PRISMQ_TASK_ID.$PRISMQ_ATTEMPT >> runs; exit 1",
        )
    });
    rig.work(["--drain", "--concurrency", "4"]).env("FAILPOINTS", "reported=sleep(60)").run().exits(0);
    let statuses = ids.map(|id| rig.taskmanager.status(id));
    assert_eq!(statuses, ["failed"; 4]);
    let mut runs: Vec<String> = rig.sandbox.read("runs").lines().map(str::to_owned).collect();
    runs.sort();
    let expected: Vec<String> = ids.iter().flat_map(|id| [1, 2, 3].map(|attempt| format!("{id}.{attempt}"))).collect();
    assert_eq!(runs, expected);
    assert!(rig.rows("results").iter().all(|row| row["status"] == "failed"));
    assert!(rig.rows("claims").is_empty());
}

/// The answer to the report is lost, and the failure has made room for the next attempt, which is claimed here.
#[test]
fn a_failure_whose_answer_was_lost_is_not_reported_again_for_the_next_attempt() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo $PRISMQ_ATTEMPT >> runs; [ $PRISMQ_ATTEMPT = 2 ] || { echo oops >&2; exit 1; }");
    let id = published.create("case", json!({"case": "it"}));
    published.inject("POST /tasks/1/complete", Fault::AnswerLost);
    published.hold("GET /tasks/1");
    let mut worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    worker.wait_for_stderr("ready");
    wait_for_waiting_claim(&sandbox);
    published.release();
    wait_for("it is completed", || (published.task(id).status == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(sandbox.read("runs"), "1\n2\n");
    assert_eq!(attempts(&sandbox), [(1, json!("oops")), (2, Value::Null)]);
    assert!(rows(&sandbox, "results").iter().all(|row| row["status"] != "lost"));
}

/// The same where the report had not arrived, and the claim expired: then the result goes under the new claim.
#[test]
fn a_failure_that_did_not_arrive_goes_under_the_next_claim() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo $PRISMQ_ATTEMPT >> runs; echo oops >&2; exit 1");
    let id = published.create_handed_out("case", json!({"case": "it"}), 1);
    published.hold("POST /tasks/1/complete");
    let worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    wait_for("the report", || published.is_holding().then_some(()));
    published.expire(id);
    wait_for_waiting_claim(&sandbox);
    published.inject("POST /tasks/1/complete", Fault::Answer(crate::support::recorded("complete the same again")));
    published.release();
    wait_for("it has failed", || (published.task(id).status == "failed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!((sandbox.read("runs").as_str(), published.task(id).attempts), ("2\n", 3));
    assert_eq!(attempts(&sandbox), [(3, json!("oops"))]);
}

/// While a report is not answered, the next claim of its task waits, but not for longer than the worker may.
#[test]
fn a_claim_that_waits_is_left_to_the_next_worker_when_this_one_is_stopped() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo $PRISMQ_ATTEMPT >> runs; [ $PRISMQ_ATTEMPT = 2 ] || { echo oops >&2; exit 1; }");
    let id = published.create("case", json!({"case": "it"}));
    published.inject("POST /tasks/1/complete", Fault::AnswerLost);
    published.hold("GET /tasks/1");
    let mut worker = sandbox.prismq(["work", "--concurrency", "2", "--grace-period", "200ms"]).start();
    worker.wait_for_stderr("ready");
    wait_for_waiting_claim(&sandbox);
    worker.terminate();
    worker.wait_for_stderr("task not run task_id=1");
    published.release();
    worker.wait().exits(0);
    sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert_eq!((published.task(id).status.as_str(), sandbox.read("runs").as_str()), ("completed", "1\n2\n"));
    assert!(rows(&sandbox, "deaths").is_empty(), "it says nothing of the task");
}

/// Nor for longer than its claim lasts: then a look finds it again, when the fate of the report is known.
#[test]
fn a_claim_whose_wait_timed_out_is_found_again() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", "timeout = '1s'"));
    sandbox.write("it.sh", "echo $PRISMQ_ATTEMPT >> runs; [ $PRISMQ_ATTEMPT = 2 ] || { echo oops >&2; exit 1; }");
    let id = published.create("case", json!({"case": "it"}));
    published.inject("POST /tasks/1/complete", Fault::AnswerLost);
    published.hold("GET /tasks/1");
    let mut worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    worker.wait_for_stderr("task not run task_id=1");
    assert_eq!((published.task(id).attempts, sandbox.read("runs").as_str()), (2, "1\n"));
    published.release();
    worker.wait_for("it is completed", |_| published.task(id).status == "completed");
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!((published.task(id).attempts, sandbox.read("runs").as_str()), (2, "1\n2\n"));
    assert_eq!(attempts(&sandbox), [(1, json!("oops")), (2, Value::Null)]);
}

/// What the TaskManager hands out again is run, whatever the attempt before failed with.
#[test]
fn each_attempt_that_is_handed_out_runs_except_after_refused_params() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "")]);
    let codes = [1, 69, 75, 78, 3];
    let run = |code: u32| format!("echo ran >> runs.{code}; [ $PRISMQ_ATTEMPT = 3 ] || exit {code}");
    let ids = codes.map(|code| rig.case(&format!("exit-{code}"), &run(code)));
    let said = r#"echo '{"success":false,"error":"no","error_type":"odd","retryable":false}'"#;
    let says = rig.case("says", &format!("echo ran >> runs.says; [ $PRISMQ_ATTEMPT = 3 ] || {said}"));
    let wrong = rig.case("wrong", "echo ran >> runs.wrong; exit 65");
    rig.work(["--drain", "--concurrency", "3"]).run().exits(0);
    assert_eq!(ids.map(|id| rig.taskmanager.status(id)), ["completed"; 5]);
    assert_eq!((rig.taskmanager.status(says), rig.taskmanager.status(wrong)), ("completed".into(), "failed".into()));
    let runs = |name: &str| rig.sandbox.read(&format!("runs.{name}")).lines().count();
    assert_eq!(codes.map(|code| runs(&code.to_string())), [3; 5]);
    assert_eq!((runs("says"), runs("wrong")), (3, 1));
}
