//! A machine that has no open files, processes, threads or memory left. That is the worker's trouble, and no task's.

use std::collections::BTreeSet;
use std::fs::File;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::support::{Answer, EmbeddedTaskManager, Prismq, Rig, Running, ScriptedServer, at_once, recorded, wait_for};

/// A worker in a shell that has first run `limits`.
fn limited(rig: &Rig, limits: &str, arguments: &str) -> Prismq {
    let line = format!("{limits} && exec {} work --drain {arguments}", env!("CARGO_BIN_EXE_prismq"));
    rig.sandbox.program("sh", ["-c", &line])
}

/// The attempts of all tasks that have completed.
fn attempts(rig: &Rig, ids: &[u64]) -> BTreeSet<u32> {
    ids.iter()
        .map(|id| {
            let task = rig.taskmanager.task(*id);
            assert_eq!(task.status, "completed", "task {id}: {:?}", task.error_message);
            task.attempts
        })
        .collect()
}

/// Sets the limit on open files of a worker that runs, and returns the one that it had.
fn limit_open_files(worker: &Running, current: u64) -> u64 {
    let pid = Pid::from_raw(worker.id().try_into().unwrap());
    let maximum = prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(20_000) });
    maximum.unwrap().current.unwrap()
}

#[test]
fn a_raised_soft_limit_is_restored_for_handlers() {
    let rig = Rig::start();
    let ids: Vec<u64> = (0..60).map(|n| rig.case(&format!("c{n}"), "ulimit -Sn")).collect();
    limited(&rig, "ulimit -Sn 64", "--concurrency 30").run().exits(0);
    assert_eq!(attempts(&rig, &ids), BTreeSet::from([1]));
    assert_eq!(rig.taskmanager.task(ids[0]).result.unwrap()["data"], json!(64));
}

#[test]
fn only_as_many_slots_as_fit_are_accepted() {
    let warm = Rig::warm("while next; do answer true; done", "");
    let warm_ids = warm.create_warm(120);
    let once = Rig::start();
    let once_ids: Vec<u64> = (0..120).map(|n| once.case(&format!("c{n}"), "echo 1")).collect();
    at_once([(once, once_ids), (warm, warm_ids)], |(rig, ids)| {
        let refused = limited(&rig, "ulimit -n 256", "--concurrency 200").run().exits(2);
        let line = refused.stderr.lines().last().unwrap();
        assert!(line.starts_with("prismq: 200 slots may need ") && line.contains("the limit is 256;"), "{line}");
        assert!(line.contains("`ulimit -n "), "{line}");
        assert!(ids.iter().all(|id| rig.taskmanager.task(*id).attempts == 0));
        let most = line.split("set --concurrency to ").nth(1).unwrap().split(' ').next().unwrap();
        assert!((10..25).contains(&most.parse().unwrap()), "{line}");
        let worked = limited(&rig, "ulimit -n 256", &format!("--concurrency {most}")).run().exits(0);
        assert!(!worked.stderr.contains("cannot be started now"), "{}", worked.stderr);
        assert_eq!(attempts(&rig, &ids), BTreeSet::from([1]));
        let raised = line.split("`ulimit -n ").nth(1).unwrap().split('`').next().unwrap();
        limited(&rig, &format!("ulimit -n {raised}"), "--concurrency 200").run().exits(0);
    });
}

#[test]
fn not_even_one_slot_may_fit() {
    let rig = Rig::start();
    let refused = limited(&rig, "ulimit -n 40", "").run().exits(2);
    let line = refused.stderr.lines().last().unwrap();
    assert!(line.starts_with("prismq: 1 slots may need ") && line.contains("; raise the limit (`ulimit -n "), "{line}");
}

#[test]
fn a_task_waits_until_its_handler_can_be_started() {
    // EMFILE, ENFILE, EAGAIN, ENOMEM, ETXTBSY.
    at_once([24, 23, 11, 12, 26], |number| {
        let once = Rig::start();
        let once_id = once.case("one", "echo 42");
        let warm = Rig::warm("while next; do answer true; done", "");
        let warm_id = warm.create_warm(1)[0];
        for (rig, id) in [(once, once_id), (warm, warm_id)] {
            let failpoint = format!("start=4*return({number})->off");
            let worked = rig.work(["--drain"]).env("FAILPOINTS", &failpoint).run().exits(0);
            assert_eq!(attempts(&rig, &[id]), BTreeSet::from([1]));
            assert_eq!(worked.stderr.matches("cannot be started now").count(), 1, "{}", worked.stderr);
            assert_eq!(rig.worked(), [id]);
        }
    });
}

#[test]
fn open_files_that_run_out_while_it_works_are_waited_for() {
    let rig = Rig::start();
    let mut worker = rig.work(["--concurrency", "4"]).start();
    worker.wait_for_stderr("ready");
    let before = limit_open_files(&worker, 12);
    let ids: Vec<u64> = (0..12).map(|n| rig.case(&format!("c{n}"), "echo 1")).collect();
    worker.wait_for_stderr("cannot be started now");
    assert!(ids.iter().all(|id| rig.taskmanager.status(*id) != "failed"));
    limit_open_files(&worker, before);
    wait_for("the tasks", || ids.iter().all(|id| rig.taskmanager.status(*id) == "completed").then_some(()));
    assert_eq!(attempts(&rig, &ids), BTreeSet::from([1]));
    worker.terminate();
    let ended = worker.wait().exits(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_program_that_is_just_being_written_is_waited_for() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[]);
    rig.taskmanager.register("binary");
    std::fs::copy("/bin/cat", rig.sandbox.path("binary")).unwrap();
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = 'binary'\nexec = ['./binary']\n");
    let id = rig.taskmanager.create("binary", json!({"n": 1}));
    let written = File::options().append(true).open(rig.sandbox.path("binary")).unwrap();
    let mut worker = rig.work(["--drain"]).start();
    worker.wait_for_stderr("cannot be started now: text file busy");
    drop(written);
    worker.wait().exits(0);
    assert_eq!(attempts(&rig, &[id]), BTreeSet::from([1]));
}

#[test]
fn a_long_shortage_returns_the_task_without_opening_the_circuit() {
    let settings = "timeout = '200ms'\nretry = { max_attempts = 3, delay = '10ms' }";
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 20), &[("case", settings)]);
    let ids: Vec<u64> = (0..7).map(|n| rig.case(&format!("c{n}"), "echo 1")).collect();
    let mut worker =
        rig.work(["--max-tasks", "7", "--max-attempts", "20"]).env("FAILPOINTS", "start=return(24)").start();
    worker.wait_for_stderr("task returned");
    let ended = worker.wait().exits(0);
    assert!(!ended.stderr.contains("circuit open"), "{}", ended.stderr);
    for row in rig.rows("results") {
        let error = row["error"].as_str().unwrap();
        assert!(error.starts_with("not run: cannot start ") && error.contains("too many open files"));
        assert_eq!((&row["error_type"], &row["retryable"]), (&json!("worker"), &json!(1)));
    }
    let stats = rig.sandbox.prismq(["stats", "--json"]).run().exits(0).json();
    assert_eq!(stats["groups"], json!([]), "{stats}");
    rig.work(["--drain", "--max-attempts", "20"]).run().exits(0);
    attempts(&rig, &ids);
    let handed_out: u32 = ids.iter().map(|id| rig.taskmanager.task(*id).attempts).sum();
    assert_eq!(handed_out, 7 + 7, "each return took an attempt");
    let story = rig.sandbox.prismq(["explain", &ids[0].to_string()]).run().exits(0).stdout;
    assert!(story.contains("returned: not run: "), "{story}");
}

#[test]
fn a_handler_cannot_say_that_it_was_not_run() {
    let rig = Rig::start();
    let says = r#"echo '{"success":false,"error":"x","error_type":"worker","metadata":{"not_run":true}}'"#;
    let id = rig.case("one", says);
    rig.drain();
    let row: Value = rig.rows("results").remove(0);
    assert_eq!((row["task_id"].as_u64(), row["metadata"].as_str()), (Some(id), None), "{row}");
}

#[test]
fn settings_that_no_program_can_be_started_with_are_no_shortage() {
    let rig = Rig::start();
    let long = format!("env = {{ LONG = \"{}\" }}", "x".repeat(200_000));
    rig.sandbox.write("prismq.toml", crate::support::cases("case", &long));
    let id = rig.case("one", "echo 1");
    rig.work(["--max-tasks", "1"]).run().exits(0);
    let row = rig.rows("results").remove(0);
    let error = row["error"].as_str().unwrap();
    assert!(error.contains("argument list too long") && error.contains("shorten `exec` and `env`"), "{error}");
    assert_eq!((row["task_id"].as_u64(), &row["error_type"]), (Some(id), &json!("configuration")));
}

#[test]
fn nothing_is_claimed_where_not_all_slots_can_be_started() {
    let rig = Rig::start();
    let id = rig.case("one", "echo 1");
    for failpoint in ["thread=return(11)", "thread=3*off->return(11)"] {
        let refused = rig.work(["--concurrency", "4", "--drain"]).env("FAILPOINTS", failpoint).run().exits(1);
        let line = refused.stderr.lines().last().unwrap();
        assert!(line.starts_with("prismq: cannot start threads for 4 slots: resource temporarily"), "{line}");
        assert!(line.contains("lower --concurrency, or raise the limit on processes"), "{line}");
        assert_eq!(rig.taskmanager.task(id).attempts, 0);
    }
}

#[test]
fn results_are_reported_though_there_is_no_thread_to_send_them() {
    let rig = Rig::start();
    for failpoint in ["sender=return(11)", "sender=1*off->return(11)"] {
        let ids: Vec<u64> = (0..12).map(|n| rig.case(&format!("{n}-{}", failpoint.len()), "echo 1")).collect();
        rig.work(["--concurrency", "4", "--drain"]).env("FAILPOINTS", failpoint).run().exits(0);
        assert_eq!(attempts(&rig, &ids), BTreeSet::from([1]), "{failpoint}");
        assert!(rig.rows("results").iter().all(|row| !row["reported_at"].is_null()), "{failpoint}");
    }
}

#[test]
fn a_host_is_looked_up_again_where_there_was_no_thread_for_it() {
    let rig = Rig::start();
    let id = rig.case("one", "echo 1");
    let by_name = rig.taskmanager.url().replace("127.0.0.1", "localhost");
    let worker = rig.work(["--drain"]).env("TASKMANAGER_API_URL", &by_name);
    let output = worker.env("FAILPOINTS", "look-up=2*return(11)->off").run().exits(0);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert_eq!(attempts(&rig, &[id]), BTreeSet::from([1]));
}

/// That is not the TaskManager's fault, and the log does not say so.
#[test]
#[cfg(target_os = "linux")]
fn open_files_that_run_out_for_a_connection_are_named() {
    let server = ScriptedServer::start(|request| {
        let answer = match request.path.as_str() {
            path if path.starts_with("/task-types/") => Answer::data(&json!({"id": 1, "name": "case", "version": "1"})),
            "/tasks/claim" => recorded("claim: queue empty"),
            _ => Answer::data(&json!([])),
        };
        answer.header("Connection", "close")
    });
    let sandbox = crate::support::sandbox(&server.url());
    let mut worker = sandbox.prismq(["work", "--handle", "case=cat"]).start();
    worker.wait_for_stderr("ready");
    let before = limit_open_files(&worker, 3);
    worker.wait_for_stderr("out of open files or memory: too many open files");
    limit_open_files(&worker, before);
    worker.wait_for_stderr("TaskManager available again");
    worker.terminate();
    let log = worker.wait().exits(0).stderr;
    assert!(!log.contains("cannot reach the TaskManager"), "{log}");
}
