//! What a starting worker takes up, and what it leaves alone.

use std::thread;
use std::time::Duration;

use prismq::internals::taskmanager::Order;
use serde_json::{Value, json};

use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, EmbeddedTaskManager, Rig, WORKER, cases, wait_for};

const WAITS: &str = "echo run >> runs; while ! [ -e go ]; do sleep 0.03; done; echo 1";

#[test]
fn a_live_process_keeps_its_tasks() {
    let rig = Rig::start();
    let id = rig.case("slow", WAITS);
    let first = rig.work(["--max-tasks", "1"]).start();
    wait_for("it runs", || (!rig.sandbox.read("runs").is_empty()).then_some(()));
    rig.work(["--drain", "--worker-id", "another"]).run().exits(0);
    rig.sandbox.write("go", "");
    first.wait().exits(0);
    assert_eq!(rig.sandbox.read("runs"), "run\n");
    assert_eq!(rig.taskmanager.task(id).claimed_by.as_deref(), Some(WORKER));
}

#[test]
fn a_worker_id_in_use_is_refused() {
    let rig = Rig::start();
    let mut first = rig.work([]).start();
    first.wait_for_stderr("ready");
    let second = rig.work(["--drain"]).run().exits(2);
    let pid = first.id().to_string();
    assert!(second.stderr.contains("worker-1 is in use") && second.stderr.contains(&pid), "{}", second.stderr);
    first.crash();
    rig.drain();
}

#[test]
fn a_claim_whose_answer_was_lost_is_taken_up() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; cat > input; echo 1");
    let client = rig.taskmanager.client();
    let type_id = client.task_type("case").unwrap().unwrap().id;
    client.claim(WORKER, type_id, Order::OldestFirst).unwrap().unwrap();
    rig.drain();
    assert_eq!(rig.sandbox.read("runs"), "run\n");
    let task = rig.taskmanager.task(id);
    assert_eq!((task.status.as_str(), task.attempts), ("completed", 1));
}

#[test]
fn a_claim_of_another_worker_is_left_alone() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs");
    let client = rig.taskmanager.client();
    let type_id = client.task_type("case").unwrap().unwrap().id;
    client.claim("another", type_id, Order::OldestFirst).unwrap().unwrap();
    rig.drain();
    assert_eq!(rig.sandbox.read("runs"), "");
    assert_eq!(rig.taskmanager.status(id), "claimed");
}

#[test]
fn a_task_that_another_worker_has_by_now_is_not_taken_up() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo 1");
    rig.work(["--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    // The claim ran out, and the next worker is done already.
    let connection = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    connection.execute("UPDATE tasks SET claimed_by = 'another', attempts = 2", []).unwrap();
    rig.drain();
    assert_eq!(rig.sandbox.read("runs"), "");
    assert_eq!(rig.rows("claims").len(), 0);
    assert_eq!(rig.taskmanager.task(id).claimed_by.as_deref(), Some("another"));
}

#[test]
fn a_task_that_is_taken_up_has_its_whole_time_again() {
    let rig = Rig::start();
    rig.sandbox.write("prismq.toml", cases("case", "timeout = \"2s\""));
    let id = rig.case("slow", "echo run >> runs; [ $(wc -l < runs) -gt 1 ] || exec sleep 60; sleep 1.5; echo 1");
    let first = rig.work([]).start();
    wait_for("it runs", || (!rig.sandbox.read("runs").is_empty()).then_some(()));
    thread::sleep(Duration::from_secs(1));
    first.crash();
    rig.drain();
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("completed", "run\nrun\n"));
}

#[test]
fn a_task_whose_claim_is_over_by_this_clock_is_taken_up_while_the_server_still_grants_it() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs");
    rig.work(["--drain", "--claim-timeout", "1s"]).env("FAILPOINTS", "noted=return").run().exits(137);
    let claim = &rig.rows("claims")[0];
    let deadline: jiff::Timestamp = claim["deadline"].as_str().unwrap().parse().unwrap();
    wait_for("the end of the claim", || (deadline < jiff::Timestamp::now()).then_some(()));
    rig.work(["--drain", "--worker-id", "another", "--claim-timeout", "1s"]).run().exits(0);
    assert_eq!((rig.sandbox.read("runs").as_str(), rig.rows("claims").len()), ("run\n", 0));
    assert_eq!(rig.taskmanager.task(id).attempts, 1);
}

#[test]
fn tasks_are_recovered_although_the_server_cannot_tell_who_claimed_them() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let id = published.create("case", json!({"case": "it"}));
    sandbox.prismq(["work", "--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    published.inject(&format!("GET /tasks/{id}"), Fault::Answer(Answer::page(200)));
    sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert_eq!(published.task(id).status, "completed");
}

#[test]
fn the_result_of_what_was_left_is_not_reported_for_a_later_attempt() {
    let rig = Rig::start();
    let id = rig.case("slow", WAITS);
    rig.work(["--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    // Long ago, so that no call of its is on its way: the next worker looks for lost claims when it starts and not again.
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.execute("UPDATE workers SET started_at = '2026-01-01T00:00:00.000Z', last_poll_at = NULL", []).unwrap();
    let worker = rig.work(["--drain"]).start();
    wait_for("it runs", || (!rig.sandbox.read("runs").is_empty()).then_some(()));
    // Another process with the same worker id and another results file has the task by now.
    let connection = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    connection.execute("UPDATE tasks SET attempts = 2", []).unwrap();
    rig.sandbox.write("go", "");
    worker.wait().exits(0);
    assert_eq!((rig.taskmanager.status(id).as_str(), &rig.rows("results")[0]["status"]), ("claimed", &json!("lost")));
}

#[test]
fn recovered_tasks_run_before_new_ones() {
    let rig = Rig::start();
    let left = rig.case("left", "echo 1");
    rig.work(["--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    let new = rig.case("new", "echo 1");
    rig.drain();
    assert_eq!(rig.worked(), [left, new]);
}

#[test]
fn unreported_results_are_reported_before_the_first_claim() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let id = published.create("case", json!({"case": "it"}));
    sandbox.prismq(["work", "--drain"]).env("FAILPOINTS", "stored=return").run().exits(137);
    let claims = || published.count("POST /tasks/claim");
    let before = claims();
    published.hold("POST /tasks/1/complete");
    let worker = sandbox.prismq(["work", "--drain"]).start();
    wait_for("the report", || published.is_holding().then_some(()));
    // A slot that was free to claim would do so at once.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(claims(), before);
    published.release();
    worker.wait().exits(0);
    assert_eq!(published.task(id).status, "completed");
}

#[test]
fn a_live_process_keeps_its_results() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    published.create("case", json!({"case": "it"}));
    published.hold("POST /tasks/1/complete");
    let first = sandbox.prismq(["work", "--max-tasks", "1"]).start();
    wait_for("the report", || published.is_holding().then_some(()));
    sandbox.prismq(["work", "--drain", "--worker-id", "another"]).run().exits(0);
    published.release();
    first.wait().exits(0);
    assert_eq!(published.count("POST /tasks/1/complete"), 1);
}

#[test]
fn the_lost_claim_of_an_attempt_that_was_not_run_is_not_counted() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.claim_timeout = Some(Duration::from_millis(500)));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    rig.case("hopeless", "exit 65");
    rig.work(["--max-tasks", "1"]).run().exits(0);
    // The next result is row 256, with which the rollups are brought up to date: before its claim is lost.
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.execute("UPDATE results SET rowid = 255", []).unwrap();
    rig.work(["--drain"]).env("FAILPOINTS", "stored=return").run().exits(137);
    rig.work(["--max-tasks", "1", "--results", "other.db", "--worker-id", "other"]).run().exits(0);
    rig.drain();
    let statuses: Vec<Value> = rig.rows("results").into_iter().map(|mut row| row["status"].take()).collect();
    assert_eq!(statuses, ["failed", "lost"]);
    let stats = rig.sandbox.prismq(["stats", "--json"]).run().exits(0).json();
    let [group] = &stats["groups"].as_array().unwrap()[..] else { panic!("{stats}") };
    assert_eq!((&group["failed"], &group["lost"]), (&json!(1), &json!(0)), "{stats}");
}

#[test]
fn a_task_that_was_handed_out_to_it_again_is_taken_up_as_that_attempt() {
    let rig = Rig::start();
    let id = rig.case("once", "echo run >> runs; echo 1");
    rig.work(["--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    let connection = rusqlite::Connection::open(rig.taskmanager.database()).unwrap();
    connection.execute("UPDATE tasks SET attempts = 2", []).unwrap();
    rig.drain();
    assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("completed", "run\n"));
    assert_eq!(rig.rows("results")[0]["attempt"], json!(2));
}

#[test]
fn types_that_the_worker_does_not_work_are_left_to_others() {
    let rig = Rig::of(crate::support::EmbeddedTaskManager::start(), &[("case", ""), ("other", "")]);
    let id = rig.case_of("other", "once", "echo run >> runs; echo 1");
    rig.work(["other", "--drain"]).env("FAILPOINTS", "noted=return").run().exits(137);
    rig.work(["case", "--drain"]).run().exits(0);
    assert_eq!((rig.rows("claims").len(), rig.taskmanager.status(id)), (1, "claimed".into()));
    assert_eq!(rig.rows("deaths").len(), 0, "it is not even counted");
    rig.work(["other", "--drain"]).run().exits(0);
    assert_eq!((rig.rows("claims").len(), rig.taskmanager.status(id)), (0, "completed".into()));
    assert_eq!(rig.rows("results")[0]["task_id"], json!(id));
}

#[cfg(target_os = "linux")]
#[test]
fn orphans_of_a_killed_worker_are_killed_by_the_next() {
    let rig = Rig::start();
    // It leaves its process group and outlives its parent; only the mark in its environment tells whose it is.
    rig.case("escapes", "setsid sleep 600 & echo $! > pid; [ -e again ] && exit 0; touch again; sleep 600");
    let first = rig.work([]).start();
    let pid: u32 = wait_for("the escaped process", || rig.sandbox.read("pid").trim().parse().ok());
    let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    wait_for("it to run again next time", || rig.sandbox.path("again").exists().then_some(()));
    first.crash();
    assert!(runs(), "it does not die with the worker");
    let log = rig.drain().stderr;
    assert!(!runs() && log.contains("orphan killed"), "{log}");
}
