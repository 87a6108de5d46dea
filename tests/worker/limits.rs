//! When a worker ends by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::published::{Fault, PublishedServer};
use crate::support::{Answer, EmbeddedTaskManager, Rig, at_once, cases, recorded, rows, sandbox, wait_for};

/// `count` tasks that the script `it` works.
fn create_many(rig: &Rig, count: u64) {
    for n in 0..count {
        rig.taskmanager.create("case", json!({"case": "it", "n": n}));
    }
}

fn with_status(rig: &Rig, status: &str, count: u64) -> usize {
    (1..=count).filter(|id| rig.taskmanager.status(*id) == status).count()
}

#[test]
fn no_more_tasks_are_claimed_than_asked_for() {
    for concurrency in ["1", "8"] {
        let rig = Rig::start();
        rig.script("it", "echo 1");
        create_many(&rig, 12);
        rig.work(["--max-tasks", "5", "--concurrency", concurrency]).run().exits(0);
        assert_eq!((with_status(&rig, "completed", 12), with_status(&rig, "pending", 12)), (5, 7), "{concurrency}");
    }
}

#[test]
fn failures_count_as_tasks() {
    let rig = Rig::start();
    rig.script("it", "exit 75");
    create_many(&rig, 1);
    rig.work(["--max-tasks", "2", "--concurrency", "8"]).run().exits(0);
    assert_eq!((rig.taskmanager.status(1).as_str(), rig.taskmanager.task(1).attempts), ("pending", 2));
}

#[test]
fn tasks_that_are_missing_are_waited_for() {
    let rig = Rig::start();
    rig.script("it", "echo 1");
    create_many(&rig, 2);
    let mut worker = rig.work(["--max-tasks", "3", "--concurrency", "8"]).start();
    worker.wait_for("both to end", |_| with_status(&rig, "completed", 2) == 2);
    assert!(worker.is_running());
    rig.taskmanager.create("case", json!({"case": "it", "n": "last"}));
    worker.wait().exits(0);
    assert_eq!(with_status(&rig, "completed", 3), 3);
}

#[test]
fn idleness_ends_it_though_the_next_poll_is_far() {
    let rig = Rig::start();
    rig.case("it", "echo 1");
    let start = Instant::now();
    let settings = ["--poll-interval", "10m", "--max-backoff", "10m", "--concurrency", "3"];
    rig.work(["--exit-after-idle", "300ms"]).args(settings).run().exits(0);
    assert_eq!(with_status(&rig, "completed", 1), 1);
    let took = start.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

/// Works two types until idle for a second, with polls that come every `interval`. Returns how the task ended that came
/// after the first.
#[track_caller]
fn task_that_comes_while_idle(
    interval: &str,
    settings: &[&str],
    comes: impl FnOnce(&PublishedServer) -> u64,
) -> String {
    let published = PublishedServer::start(&["other", "case"]);
    let sandbox = published.sandbox(&format!("{}{}", cases("other", ""), cases("case", "")));
    sandbox.write("it.sh", "echo 1");
    let idle = ["--exit-after-idle", "1s", "--poll-interval", interval, "--max-backoff", interval];
    let worker = sandbox.prismq(["work"]).args(idle).args(settings.iter().copied()).start();
    wait_for("the first poll", || (published.count("POST /tasks/claim") >= 2).then_some(()));
    let id = comes(&published);
    worker.wait().exits(0);
    published.task(id).status
}

#[test]
fn an_idle_worker_polls_once_more_before_it_ends() {
    let cases = [(&[][..], "other"), (&["--concurrency", "3"], "case"), (&["--max-tasks", "5"], "case")];
    at_once(cases, |(settings, task_type)| {
        let create = |published: &PublishedServer| published.create(task_type, json!({"case": "it"}));
        assert_eq!(task_that_comes_while_idle("10m", settings, create), "completed", "{settings:?} {task_type}");
    });
}

#[test]
fn an_idle_worker_does_not_end_while_polls_are_not_answered() {
    let status = task_that_comes_while_idle("50ms", &[], |published| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            published.inject("POST /tasks/claim", Fault::Answer(Answer::page(503)));
            std::thread::sleep(Duration::from_millis(1));
        }
        let id = published.create("case", json!({"case": "it"}));
        published.clear_faults();
        id
    });
    assert_eq!(status, "completed");
}

#[test]
fn a_worker_is_not_idle_while_a_task_runs() {
    let rig = Rig::start();
    rig.case("slow", "sleep 0.3; touch slept; until [ -e go ]; do sleep 0.03; done");
    let mut worker = rig.work(["--exit-after-idle", "100ms", "--concurrency", "2"]).start();
    worker.wait_for("a long sleep", |_| rig.sandbox.path("slept").exists());
    let other = rig.case("other", "echo 1");
    worker.wait_for("the other slot", |_| rig.taskmanager.status(other) == "completed");
    rig.sandbox.write("go", "");
    worker.wait().exits(0);
    assert_eq!(with_status(&rig, "completed", 2), 2);
}

#[test]
fn pending_tasks_run_before_the_worker_counts_as_idle() {
    let rig = Rig::start();
    rig.script("it", "echo 1");
    create_many(&rig, 3);
    rig.work(["--exit-after-idle", "0"]).run().exits(0);
    assert_eq!(with_status(&rig, "completed", 3), 3);
}

#[test]
fn a_drain_works_what_comes_back_to_the_queue() {
    for concurrency in ["1", "4"] {
        // Five failures in a row would pause the type.
        let taskmanager = EmbeddedTaskManager::with(|settings| settings.max_attempts = 2);
        let rig = Rig::of(taskmanager, &[("case", "")]);
        rig.script("it", "echo x >>runs; exit 75");
        create_many(&rig, 1);
        rig.case("slow", "sleep 0.2; exit 75");
        let output = rig.work(["--drain", "--concurrency", concurrency]).run().exits(0);
        for id in 1..=2 {
            let task = rig.taskmanager.task(id);
            assert_eq!((task.status.as_str(), task.attempts), ("failed", 2));
        }
        assert_eq!((rig.sandbox.read("runs").lines().count(), rig.rows("results").len()), (2, 4));
        assert!(output.stderr.contains("worker stopped completed=0 failed=4 unreported=0"), "{}", output.stderr);
    }
}

#[test]
fn a_drain_does_not_wait_for_a_poll_to_see_that_nothing_is_left() {
    let rig = Rig::start();
    rig.case("slow", "sleep 0.2; exit 75");
    let settings = ["--drain", "--concurrency", "4", "--poll-interval", "10m", "--max-backoff", "10m"];
    rig.work(settings).run().exits(0);
    assert_eq!(rig.taskmanager.task(1).attempts, 3);
}

#[test]
fn a_drain_waits_for_reports_that_fail_at_first() {
    let published = PublishedServer::start(&["case"]);
    let sandbox = published.sandbox(&cases("case", ""));
    sandbox.write("busy.sh", "exit 75");
    let id = published.create("case", json!({"case": "busy"}));
    // One more than a report is tried at once. Until it arrives the failed task is not back in the queue.
    (0..6).for_each(|_| published.inject("POST /tasks/1/complete", Fault::Answer(recorded("backend down"))));
    let far = ["--poll-interval", "10m", "--max-backoff", "10m"]; // the report itself makes it ask again
    let output = sandbox.prismq(["work", "--drain", "--debug"]).args(far).run().exits(0);
    assert!(output.stderr.contains("report postponed"), "{}", output.stderr);
    let task = published.task(id);
    assert_eq!((task.status.as_str(), task.attempts), ("failed", 3));
    let rows = rows(&sandbox, "results");
    assert!(rows.len() == 3 && rows.iter().all(|row| row["reported_at"].is_string()), "{rows:?}");
}

#[test]
fn a_drain_keeps_its_results_if_the_server_goes_away() {
    let mut rig = Rig::start();
    rig.case("it", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    let worker = rig.work(["--drain"]).env("FAILPOINTS", "short_timeouts=return").start();
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    let output = worker.wait().exits(4);
    assert!(output.stderr.lines().last().unwrap().contains("cannot reach the TaskManager"), "{}", output.stderr);
    let row = &rig.rows("results")[0];
    assert_eq!((&row["status"], &row["reported_at"]), (&json!("completed"), &Value::Null));
    rig.taskmanager.restart();
    rig.drain();
    assert_eq!((rig.taskmanager.status(1).as_str(), rig.rows("results").len()), ("completed", 1));
}

#[test]
fn the_last_task_of_a_limit_whose_report_fails_says_so() {
    let mut rig = Rig::start();
    rig.case("it", "touch started; until [ -e go ]; do sleep 0.03; done; echo 1");
    let worker = rig.work(["--max-tasks", "1"]).env("FAILPOINTS", "short_timeouts=return").start();
    wait_for("the handler", || rig.sandbox.path("started").exists().then_some(()));
    rig.taskmanager.stop();
    rig.sandbox.write("go", "");
    let output = worker.wait().exits(4);
    let last = output.stderr.lines().last().unwrap();
    assert!(last.contains("unreported results: 1") && last.contains("results.db"), "{}", output.stderr);
}

#[test]
fn an_embedded_taskmanager_runs_as_long_as_its_worker() {
    let taskmanager = EmbeddedTaskManager::away();
    let sandbox = sandbox(&taskmanager.url());
    sandbox.write("prismq.toml", cases("case", ""));
    sandbox.write("it.sh", "echo 1");
    let mut worker = sandbox.prismq(["work", "--embedded"]).start();
    worker.wait_for_stderr("ready");
    let page = taskmanager.url().trim_end_matches("api").to_owned();
    assert!(worker.stderr().contains(&format!("page_url={page}\n")), "{}", worker.stderr());
    let id = taskmanager.create("case", json!({"case": "it"}));
    worker.wait_for("the task to end", |_| taskmanager.status(id) == "completed");
    worker.terminate();
    worker.wait().exits(0);
    let client = taskmanager.client().with_retries(prismq::internals::taskmanager::Retries::NONE);
    assert!(client.health().is_err());
}
