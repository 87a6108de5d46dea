//! The TaskManager goes away, loses answers, or gives tasks to others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prismq::internals::server::Faults;
use prismq::internals::taskmanager::Order;
use serde_json::{Value, json};

use super::overlaps::wait_for_waiting_claim;
use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, EmbeddedTaskManager, Rig, ScriptedServer, at_once, cases, recorded, rows, wait_for};

#[test]
fn results_arrive_soon_after_an_outage() {
    let mut rig = Rig::start();
    let ids: Vec<u64> = ["a", "b", "c"]
        .map(|name| rig.case(name, &format!("touch {name}.started; while ! [ -e go ]; do sleep 0.03; done; echo 1")))
        .into();
    let mut worker = rig.work(["--concurrency", "3", "--max-backoff", "10m"]).start();
    for name in ["a", "b", "c"] {
        wait_for("the handlers run", || rig.sandbox.path(&format!("{name}.started")).exists().then_some(()));
    }
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    worker.wait_for_stderr("the TaskManager at");
    wait_for("all results are stored", || (rig.rows("results").len() == 3).then_some(()));
    assert!(rig.rows("results").iter().all(|row| row["reported_at"] == Value::Null));

    rig.taskmanager.restart();
    let back = Instant::now();
    wait_for("all results are reported", || {
        ids.iter().all(|id| rig.taskmanager.status(*id) == "completed").then_some(())
    });
    // A second is promised; machines are noisy, and the longest wait is a minute.
    assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
    worker.wait_for_stderr("available again");
    worker.terminate();
    let log = worker.wait().exits(0).stderr;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("TaskManager unavailable"), lines("available again")), (1, 1), "{log}");
}

#[test]
fn results_that_waited_arrive_oldest_first_also_by_the_next_start() {
    at_once([false, true], |dies| {
        let mut rig = Rig::start();
        for name in ["a", "b", "c"] {
            rig.case(name, &format!("touch {name}.started; while ! [ -e {name}.go ]; do sleep 0.03; done; echo 1"));
        }
        let mut worker = rig.work(["--concurrency", "3", "--debug"]).start();
        let started = |name: &str| rig.sandbox.path(&format!("{name}.started")).exists();
        worker.wait_for("the handlers", |_| ["a", "b", "c"].into_iter().all(started));
        rig.taskmanager.stop();
        for (number, name) in ["c", "a", "b"].into_iter().enumerate() {
            rig.sandbox.write(&format!("{name}.go"), "");
            worker.wait_for("its report to fail", |it| it.stderr().matches("report postponed").count() > number);
        }
        if dies {
            worker.crash();
            worker = rig.work(["--debug"]).start();
        }
        rig.taskmanager.restart();
        worker.wait_for("all reports", |it| it.stderr().matches(" result reported task_id=").count() == 3);
        let log = worker.stderr();
        let reported = log.lines().filter_map(|line| line.split_once(" result reported task_id=")?.1.parse().ok());
        assert_eq!(reported.collect::<Vec<u64>>(), [3, 1, 2], "{dies}: {log}");
    });
}

#[test]
fn a_pending_report_is_sent_every_second_and_at_exit() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let id = published.create("case", json!({"case": "it"}));
    let down = || Fault::Answer(recorded("backend down"));
    published.inject("POST /tasks/1/complete", down());
    (0..1000).for_each(|_| published.inject("GET /tasks/1", down()));
    // No other call is to wake the reporter.
    let worker = sandbox.prismq(["work", "--poll-interval", "10m", "--max-backoff", "10m"]).start();
    wait_for("many tries", || (published.count("GET /tasks/1") >= 12).then_some(()));
    published.clear_faults();
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(published.task(id).status, "completed");
}

#[test]
fn retry_after_of_a_report_is_respected_although_other_calls_succeed() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let ids = [0, 1].map(|n| published.create("case", json!({"case": "it", "n": n})));
    published.inject("POST /tasks/1/complete", Fault::Answer(recorded("backend down")));
    (0..4).for_each(|_| published.inject("GET /tasks/1", Fault::Answer(recorded("backend down"))));
    published.inject("GET /tasks/1", Fault::Answer(Answer::page(429).header("Retry-After", "2")));
    let worker = sandbox.prismq(["work"]).start();
    wait_for("both reports", || ids.iter().all(|id| published.task(*id).status == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    let looks: Vec<Instant> =
        published.server.requests().iter().filter(|it| it.path == "/tasks/1").map(|it| it.at).collect();
    assert_eq!(looks.len(), 6);
    assert!(looks[5] - looks[4] >= Duration::from_secs(2), "{looks:?}");
}

#[test]
fn a_task_handed_out_again_while_its_report_is_under_way_is_not_run_twice() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("it.sh", "echo run >> runs; echo 1");
    let id = published.create("case", json!({"case": "it"}));
    published.hold("POST /tasks/1/complete");
    let worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    wait_for("the report", || published.is_holding().then_some(()));
    published.expire(id);
    wait_for_waiting_claim(&sandbox);
    published.inject("POST /tasks/1/complete", Fault::Answer(recorded("complete the same again")));
    published.release();
    wait_for("it is completed", || (published.task(id).status == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(sandbox.read("runs"), "run\n");
    let row = &rows(&sandbox, "results")[0];
    assert_eq!((&row["attempt"], &row["status"]), (&json!(2), &json!("completed")));
}

#[test]
fn a_late_result_is_marked_lost() {
    let taskmanager = EmbeddedTaskManager::expiring(Duration::from_millis(200));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    let id = rig.case("slow", "while ! [ -e go ]; do sleep 0.03; done; echo 1");
    let worker = rig.work(["--max-tasks", "1"]).start();
    wait_for("the task is claimed", || (rig.taskmanager.status(id) == "claimed").then_some(()));
    let client = rig.taskmanager.client();
    let type_id = client.task_type("case").unwrap().unwrap().id;
    let claim = || client.claim("another", type_id, Order::OldestFirst).unwrap();
    wait_for("another worker gets the task", claim);
    rig.sandbox.write("go", "");
    let log = worker.wait().exits(0).stderr;
    assert!(log.contains("claim lost"), "{log}");
    let row = &rig.rows("results")[0];
    assert_eq!((&row["status"], &row["data"]), (&json!("lost"), &json!("1")));
    assert_ne!(row["reported_at"], Value::Null);
    assert_eq!(rig.taskmanager.task(id).claimed_by.as_deref(), Some("another"));
}

#[test]
fn a_handler_whose_claim_was_lost_is_stopped_by_its_next_progress() {
    let taskmanager = EmbeddedTaskManager::expiring(Duration::from_millis(200));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    let script = "while ! [ -e go ]; do sleep 0.03; done; echo '{\"progress\":50}' >&3; sleep 60";
    let id = rig.case("slow", script);
    let worker = rig.work(["--max-tasks", "1"]).start();
    wait_for("the task is claimed", || (rig.taskmanager.status(id) == "claimed").then_some(()));
    let client = rig.taskmanager.client();
    let type_id = client.task_type("case").unwrap().unwrap().id;
    wait_for("another worker gets it", || client.claim("another", type_id, Order::OldestFirst).unwrap());
    rig.sandbox.write("go", "");
    worker.wait().exits(0);
    assert_eq!(rig.rows("results")[0]["error_type"], json!("claim_lost"));
}

#[test]
fn a_task_handed_out_again_while_it_runs_is_not_run_twice() {
    let taskmanager = EmbeddedTaskManager::expiring(Duration::from_millis(500));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    let script = "echo run >> runs; while ! [ -e go ]; do sleep 0.03; done; echo 1";
    let id = rig.case("slow", script);
    let mut worker = rig.work(["--concurrency", "2"]).start();
    worker.wait_for_stderr("claimed again while in flight");
    // No further claim is to run out before the result is reported.
    rig.sandbox.write("go", "");
    wait_for("it is completed", || (rig.taskmanager.status(id) == "completed").then_some(()));
    worker.terminate();
    worker.wait().exits(0);
    assert_eq!(rig.sandbox.read("runs"), "run\n");
    let attempts = rig.taskmanager.task(id).attempts;
    assert!(attempts > 1);
    let rows = rig.rows("results");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["attempt"], &rows[0]["status"]), (&json!(attempts), &json!("completed")));
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_left_alone_by_all_slots() {
    let handed_out = AtomicUsize::new(0);
    let server = ScriptedServer::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/task-types/case") => Answer::data(&json!({"id": 1, "name": "case", "version": "1.0.0"})),
        ("POST", "/tasks/claim") => match handed_out.fetch_add(1, Ordering::SeqCst) {
            number @ 0..4 => Answer::data(&json!({"id": number + 1, "type": "case", "params": {"n": number},
                                                       "attempts": 1, "priority": 0})),
            _ => recorded("rate limited"),
        },
        ("POST", _) => Answer::data(&json!({"id": 1, "status": "completed"})),
        _ => Answer::data(&json!([])),
    });
    let sandbox = crate::support::sandbox(&server.url());
    // The tasks end one after the other, each at the sight of a file of its own.
    let handler = "case=read line; while ! [ -e go$PRISMQ_TASK_ID ]; do sleep 0.03; done; echo 1";
    let mut worker = sandbox.prismq(["work", "--concurrency", "4", "--handle", handler]).start();
    let claims = || server.calls().iter().filter(|call| *call == "POST /tasks/claim").count();
    worker.wait_for("four tasks", |_| claims() == 4);
    let completed = |number: usize| {
        sandbox.write(&format!("go{number}"), "");
        wait_for("the report", || server.calls().contains(&format!("POST /tasks/{number}/complete")).then_some(()));
    };
    completed(1);
    wait_for("the answer 429", || (claims() == 5).then_some(()));
    worker.wait_for_stderr("try again in 60 seconds");
    (2..=4).for_each(completed);
    // A slot that was free to ask would do so at once.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(claims(), 5);
    worker.terminate();
    worker.wait().exits(0);
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_left_alone_when_a_type_has_room_again() {
    let handed_out = AtomicUsize::new(0);
    let server = ScriptedServer::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/task-types/one") => Answer::data(&json!({"id": 1, "name": "one", "version": "1.0.0"})),
        ("GET", "/task-types/two") => Answer::data(&json!({"id": 2, "name": "two", "version": "1.0.0"})),
        ("POST", "/tasks/claim") => {
            match (handed_out.fetch_add(1, Ordering::SeqCst), &request.json()["task_type_id"]) {
                (0..2, number) => {
                    let task_type = if *number == json!(1) { "one" } else { "two" };
                    Answer::data(&json!({"id": number, "type": task_type, "params": {}, "attempts": 1, "priority": 0}))
                }
                _ => recorded("rate limited"),
            }
        }
        ("POST", _) => Answer::data(&json!({"id": 1, "status": "completed"})),
        _ => Answer::data(&json!([])),
    });
    let sandbox = crate::support::sandbox(&server.url());
    let wait = "read line; while ! [ -e go$PRISMQ_TASK_ID ]; do sleep 0.03; done; echo 1";
    let table = |name: &str| format!("[[task_type]]\nname = '{name}'\nexec = '{wait}'\nconcurrency = 1\n");
    sandbox.write("prismq.toml", table("one") + &table("two"));
    let mut worker = sandbox.prismq(["work", "--concurrency", "2"]).start();
    let claims = || server.calls().iter().filter(|call| *call == "POST /tasks/claim").count();
    worker.wait_for("two tasks", |_| claims() == 2);
    sandbox.write("go1", "");
    worker.wait_for_stderr("try again in 60 seconds");
    sandbox.write("go2", "");
    wait_for("the report", || server.calls().contains(&"POST /tasks/2/complete".to_owned()).then_some(()));
    // A slot that was free to ask would do so at once.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(claims(), 3);
    worker.terminate();
    worker.wait().exits(0);
}

/// A server that fails a share of its calls answers the others: a drain goes on, and the log does not tell of outages all
/// the time. (By chance, three calls in a row may fail.)
#[test]
fn a_drain_lives_with_a_server_that_fails_a_share_of_its_calls() {
    let kinds = [
        ("drop", Faults { drop: 0.3, ..Faults::default() }),
        ("html", Faults { html: 0.4, ..Faults::default() }),
        ("reset", Faults { reset: 0.3, ..Faults::default() }),
    ];
    at_once(kinds, |(fault, faults)| {
        let mut rig = Rig::start();
        rig.script("it", "echo 1");
        let ids: Vec<u64> = (0..20).map(|n| rig.taskmanager.create("case", json!({"case": "it", "n": n}))).collect();
        rig.taskmanager.restart_with(|settings| settings.faults = faults);
        let log = rig.work(["--drain", "--concurrency", "4"]).run().exits(0).stderr;
        rig.taskmanager.restart_with(|settings| settings.faults = Faults::default());
        assert!(ids.iter().all(|id| rig.taskmanager.status(*id) == "completed"), "{fault}: {log}");
        assert!(log.matches("TaskManager unavailable").count() <= 2, "{fault}: {log}");
    });
}
