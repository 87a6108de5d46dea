//! SIGKILL at each step between claim and 'marked reported'.

use serde_json::{Value, json};

use super::overlaps::wait_for_waiting_claim;
use crate::support::published::{Fault, PublishedServer};
use crate::support::{Output, Rig, cases, recorded, rows, wait_for};

/// The exit code of a process that SIGKILL ended.
pub(super) const KILLED: i32 = 137;

/// Kills a worker at a point, starts another, and returns how often the handler ran: the same, whether each task has a
/// process of its own or not.
#[track_caller]
fn kill_and_restart(point: &str) -> usize {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo '{\"answer\":42}'");
    let once = assert_delivered(point, &rig, id);
    let rig = Rig::warm("while next; do echo run >> runs; answer '{\"answer\":42}'; done", "");
    let id = rig.create_warm(1)[0];
    assert_eq!(assert_delivered(point, &rig, id), once);
    once
}

#[track_caller]
fn assert_delivered(point: &str, rig: &Rig, id: u64) -> usize {
    rig.work(["--drain"]).env("FAILPOINTS", &format!("{point}=return")).run().exits(KILLED);
    let second = rig.drain();

    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.attempts), ("completed", 1), "{}", second.stderr);
    assert_eq!(task.result.unwrap()["data"], json!({"answer": 42}));
    let rows = rig.rows("results");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["status"], &rows[0]["attempt"]), (&json!("completed"), &json!(1)));
    assert_ne!(rows[0]["reported_at"], Value::Null);
    assert_eq!(rig.rows("claims"), [] as [Value; 0]);
    assert_eq!(rig.rows("deaths"), [] as [Value; 0]);
    rig.sandbox.read("runs").lines().count()
}

#[test]
fn killed_after_the_claim_the_task_is_found_at_the_taskmanager() {
    assert_eq!(kill_and_restart("claimed"), 1);
}

#[test]
fn killed_with_the_claim_noted_the_task_is_taken_up_again() {
    assert_eq!(kill_and_restart("noted"), 1);
}

#[test]
fn killed_after_the_run_the_task_is_run_again() {
    assert_eq!(kill_and_restart("ran"), 2);
}

#[test]
fn killed_with_the_result_stored_it_is_reported_without_another_run() {
    assert_eq!(kill_and_restart("stored"), 1);
}

#[test]
fn killed_after_the_report_it_is_not_reported_again() {
    assert_eq!(kill_and_restart("reported"), 1);
}

#[test]
fn killed_when_all_is_done_nothing_is_left_to_do() {
    assert_eq!(kill_and_restart("marked"), 1);
}

#[test]
fn killed_with_the_result_stored_under_a_later_claim_it_is_reported_for_that() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo run >> runs; while ! [ -e go ]; do sleep 0.03; done; echo 1");
    let id = published.create("case", json!({"case": "it"}));
    let work = || sandbox.prismq(["work", "--concurrency", "2"]);
    let mut worker = work().env("FAILPOINTS", "stored=return").start();
    wait_for("it runs", || (!sandbox.read("runs").is_empty()).then_some(()));
    published.expire(id);
    worker.wait_for_stderr("claimed again while in flight");
    sandbox.write("go", "");
    worker.wait().exits(KILLED);
    work().args(["--drain"]).run().exits(0);
    assert_eq!((published.task(id).status.as_str(), sandbox.read("runs").as_str()), ("completed", "run\n"));
}

#[test]
fn a_task_handed_out_again_while_the_result_of_a_killed_worker_waits_is_not_run_twice() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo run >> runs; echo 1");
    let id = published.create("case", json!({"case": "it"}));
    sandbox.prismq(["work"]).env("FAILPOINTS", "stored=return").run().exits(KILLED);
    published.expire(id);
    // The first look at what became of the task fails, the next is not answered before the task is handed out again.
    let look = "GET /tasks/1";
    published.inject(look, Fault::Answer(recorded("complete: deadlock in the server's database")));
    published.hold(look);
    published.release_one();
    let mut worker = sandbox.prismq(["work", "--worker-id", "new"]).start();
    worker.wait_for_stderr("ready");
    wait_for_waiting_claim(&sandbox);
    published.release();
    wait_for("it is completed", || (published.task(id).status == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(sandbox.read("runs"), "run\n");
    let rows = rows(&sandbox, "results");
    assert_eq!((rows.len(), &rows[0]["attempt"], &rows[0]["status"]), (1, &json!(2), &json!("completed")));
}

#[test]
fn a_worker_with_a_new_id_takes_up_what_an_old_one_left() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo 1");
    let work = |worker_id: &str| rig.work(["--drain", "--worker-id", worker_id]);
    work("old").env("FAILPOINTS", "noted=return").run().exits(KILLED);
    work("new").run().exits(0);
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.claimed_by.as_deref()), ("completed", Some("old")));
    assert_eq!(rig.rows("results")[0]["worker_id"], json!("old"), "the claim is the old worker's");
}

#[test]
fn a_worker_with_a_new_id_reports_what_an_old_one_stored() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo 1");
    let work = |worker_id: &str| rig.work(["--drain", "--worker-id", worker_id]);
    work("old").env("FAILPOINTS", "stored=return").run().exits(KILLED);
    assert_eq!(rig.taskmanager.status(id), "claimed");
    work("new").run().exits(0);
    assert_eq!(rig.taskmanager.status(id), "completed");
    assert_eq!(rig.sandbox.read("runs"), "run\n");
}

/// Whose worker id it bears is alive, but knows nothing of it.
#[test]
fn results_that_a_dead_worker_stored_for_another_are_reported_although_the_other_is_back() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; until [ -e go ]; do sleep 0.03; done; echo 1");
    let work = |worker_id: &str| rig.work(["--worker-id", worker_id]);
    work("old").env("FAILPOINTS", "noted=return").run().exits(KILLED);
    let taker = work("taker").env("FAILPOINTS", "stored=return").start();
    wait_for("it to be taken up", || (!rig.sandbox.read("runs").is_empty()).then_some(()));
    let mut old = work("old").start();
    old.wait_for_stderr("ready");
    rig.sandbox.write("go", "");
    taker.wait().exits(KILLED);
    work("new").args(["--drain"]).run().exits(0);
    assert_eq!(rig.taskmanager.status(id), "completed");
    assert_ne!(rig.rows("results")[0]["reported_at"], Value::Null);
    old.terminate();
    old.wait().exits(0);
    assert_eq!(rig.sandbox.read("runs"), "run\n");
}

#[test]
fn a_task_that_kills_its_worker_is_failed_unrun_after_three_deaths() {
    let rig = Rig::start();
    let id = rig.case("poison", "echo run >> runs; kill -9 $PPID; sleep 10");
    let worker = || -> Output { rig.work(["--drain"]).run() };
    for _ in 0..3 {
        worker().exits(KILLED);
    }
    worker().exits(0);
    assert_eq!(rig.sandbox.read("runs").lines().count(), 3);
    let row = &rig.rows("results")[0];
    assert_eq!((&row["error_type"], &row["retryable"]), (&json!("worker_died"), &json!(0)));
    let error = rig.taskmanager.task(id).error_message.unwrap();
    assert!(error.contains("died while running this task, 3 times"), "{error}");
}

#[test]
fn deaths_of_workers_that_had_not_yet_taken_a_task_up_again_do_not_count_against_it() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo 1");
    for point in ["noted", "claimed", "claimed", "claimed"] {
        rig.work(["--drain"]).env("FAILPOINTS", &format!("{point}=return")).run().exits(KILLED);
    }
    assert_eq!(rig.rows("deaths")[0]["count"], json!(1));
    rig.drain();
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("completed", "run\n"));
}
