//! Handlers that say until when they want no more tasks.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prismq::internals::Store;
use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, Running, at_once, wait_for};

/// A TaskManager whose failed tasks are not handed out again.
fn one_attempt() -> EmbeddedTaskManager {
    EmbeddedTaskManager::with(|settings| settings.max_attempts = 1)
}

/// A script that notes that it runs, and answers with `envelope` and a time so many seconds after that.
fn holding(seconds: u32, envelope: &str) -> String {
    let until = format!("$(date --utc --date '{seconds} seconds' +%FT%T.%3NZ)");
    let answer = format!("{{{envelope},\"not_before\":\"%s\"}}");
    format!("echo run >>runs; printf '{answer}' \"{until}\"")
}

const QUOTA: &str = r#""success":false,"error":"the quota is used up","error_type":"quota","retryable":true"#;
const DONE: &str = r#""success":true,"data":1"#;

fn create(rig: &Rig, count: u64, name: &str) -> Vec<u64> {
    (0..count).map(|n| rig.taskmanager.create("case", json!({"case": name, "n": n}))).collect()
}

fn runs(rig: &Rig) -> usize {
    rig.sandbox.read("runs").lines().count()
}

fn wait_for_status(rig: &Rig, id: u64, status: &str) {
    wait_for("the task's end", || (rig.taskmanager.status(id) == status).then_some(()));
}

/// Ends a worker; its log.
fn log_of(worker: Running) -> String {
    worker.terminate();
    worker.wait().exits(0).stderr
}

fn count(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_snoozed_type_does_not_hold_up_others() {
    let rig = Rig::of(one_attempt(), &[("case", ""), ("other", "")]);
    rig.script("held", &holding(3600, QUOTA));
    let ids = create(&rig, 5, "held");
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("task type snoozed");
    let others = [1, 2].map(|n| {
        let id = rig.case_of("other", &format!("fine-{n}"), "echo 1");
        wait_for_status(&rig, id, "completed");
        id
    });
    // By then, the type would have been asked for again.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((runs(&rig), rig.taskmanager.status(ids[0]).as_str()), (1, "failed"));
    assert!(ids[1..].iter().all(|id| rig.taskmanager.task(*id).attempts == 0), "their attempts are not burnt");
    assert_eq!(rig.worked(), [ids[0], others[0], others[1]]);
    let log = log_of(worker);
    assert_eq!(count(&log, "task type snoozed"), 1, "{log}");
    let line = log.lines().find(|line| line.contains("task type snoozed")).unwrap();
    assert!(line.contains("reason=\"the quota is used up") && line.contains("task_type=case"), "{line}");
}

#[test]
fn it_is_claimed_again_when_the_time_has_come_though_the_next_poll_is_far() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    let until = Timestamp::now() + Duration::from_secs(4);
    let id = rig.case("held", &format!("echo '{{{DONE},\"not_before\":\"{until}\"}}'"));
    let settings = ["--poll-interval", "10m", "--max-backoff", "10m", "--concurrency", "3"];
    let mut worker = rig.work(settings).start();
    worker.wait_for_stderr("task type snoozed");
    // A claim that waits at the TaskManager is called back.
    thread::sleep(Duration::from_millis(500));
    let next = rig.case("next", "echo 2");
    wait_for_status(&rig, next, "completed");
    let claimed_at: Timestamp = rig.rows("results")[1]["claimed_at"].as_str().unwrap().parse().unwrap();
    let late = claimed_at.duration_since(until).as_millis();
    assert!((0..2000).contains(&late), "{late} ms after the time");
    let log = log_of(worker);
    assert_eq!((rig.worked(), count(&log, "task type snoozed"), count(&log, "snooze over")), (vec![id, next], 1, 1));
}

#[test]
fn a_persistent_process_can_snooze_its_type() {
    let until = Timestamp::now() + Duration::from_secs(3600);
    let answer = format!(r#"{{\"id\":$id,\"success\":true,\"not_before\":\"{until}\"}}"#);
    let rig = Rig::warm(&format!("while next; do echo \"{answer}\"; done"), "");
    let ids = rig.create_warm(2);
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("task type snoozed");
    wait_for_status(&rig, ids[0], "completed");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(rig.taskmanager.status(ids[1]), "pending");
    log_of(worker);
}

#[test]
fn the_time_is_kept_with_the_result() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    let id = rig.case("held", r#"echo '{"success":true,"not_before":"2026-01-01T01:00:00+01:00"}'"#);
    rig.drain();
    let metadata: Value = serde_json::from_str(rig.rows("results")[0]["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(metadata["not_before"], "2026-01-01T00:00:00Z");
    assert_eq!(rig.taskmanager.task(id).result.unwrap()["metadata"]["not_before"], "2026-01-01T00:00:00Z");
}

#[test]
fn a_past_or_invalid_time_snoozes_nothing() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    for (name, time) in
        [("past", r#""2026-01-01T00:00:00Z""#), ("soon", r#""soon""#), ("number", "5"), ("null", "null")]
    {
        rig.case(name, &format!("echo '{{\"success\":true,\"not_before\":{time}}}'"));
    }
    let log = rig.drain().stderr;
    assert_eq!((rig.worked().len(), count(&log, "task type snoozed")), (4, 0), "{log}");
    assert_eq!(count(&log, "`not_before` is ignored"), 2, "{log}");
}

/// The times up to which types are said to be held, by the log.
fn held_until(log: &str) -> Vec<Timestamp> {
    let words =
        |line: &str| line.split_once("task type snoozed ")?.1.split_once("until=")?.1.split(' ').next()?.parse().ok();
    log.lines().filter_map(words).collect()
}

#[test]
fn a_time_that_never_comes_snoozes_for_a_day() {
    let times = [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999+00:00",
        "9999-12-31T23:59:59-12:00",
        "+275760-09-13T00:00:00.000Z",
        "10000-01-01T00:00:00Z",
        "2999-06-30T23:59:60Z",
    ];
    let types: Vec<String> = (0..times.len()).map(|n| format!("type-{n}")).collect();
    let rig = Rig::of(one_attempt(), &types.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>());
    for ((task_type, time), envelope) in types.iter().zip(times).zip([DONE, QUOTA].iter().cycle()) {
        rig.case_of(task_type, task_type, &format!("echo '{{{envelope},\"not_before\":\"{time}\"}}'"));
    }
    let log = rig.drain().stderr;
    let a_day = Timestamp::now() + Duration::from_hours(24);
    let held = held_until(&log);
    assert_eq!((rig.worked().len(), held.len()), (times.len(), times.len()), "{log}");
    for until in held {
        assert!(a_day.duration_since(until).as_secs().abs() < 120, "{until} in {log}");
    }

    let answer = r#"{\"id\":$id,\"success\":true,\"not_before\":\"9999-12-31T23:59:59Z\"}"#;
    let rig = Rig::warm(&format!("while next; do echo \"{answer}\"; done"), "");
    rig.create_warm(1);
    let mut worker = rig.work([]).start();
    worker.wait_for_stderr("task type snoozed");
    let log = log_of(worker);
    assert!(a_day.duration_since(held_until(&log)[0]).as_secs().abs() < 120, "{log}");
}

#[test]
fn an_invalid_time_snoozes_nothing() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    let values = [
        r#""2026-11-22T08:00:00""#,
        r#""9999-12-31T23:59:59.999999""#,
        r#""2026-11-22""#,
        r#""1764489600""#,
        "1764489600",
        "true",
        r#"["2026-11-22T08:00:00Z"]"#,
        r#""""#,
    ];
    for (number, value) in values.iter().enumerate() {
        rig.case(&number.to_string(), &format!("echo '{{\"success\":true,\"not_before\":{value}}}'"));
    }
    let log = rig.drain().stderr;
    assert_eq!((rig.worked().len(), held_until(&log).len()), (values.len(), 0), "{log}");
    for value in values {
        assert_eq!(count(&log, &format!("`not_before` is ignored: {value} is not a time")), 1, "{value} in {log}");
    }
    let warnings = log.lines().filter(|line| line.contains("is ignored") && line.contains(" WARN "));
    assert_eq!(warnings.count(), values.len(), "{log}");
}

#[test]
fn a_drain_waits_for_a_short_time() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    rig.case("held", &holding(2, QUOTA));
    rig.case("next", "echo 1");
    let log = rig.work(["--drain", "--poll-interval", "10m", "--max-backoff", "10m"]).run().exits(0).stderr;
    assert_eq!((rig.worked().len(), count(&log, "snooze over")), (2, 1), "{log}");
}

#[test]
fn a_drain_does_not_wait_for_a_long_snooze() {
    let rig = Rig::of(one_attempt(), &[("case", ""), ("other", "")]);
    rig.script("held", &holding(3600, QUOTA));
    create(&rig, 2, "held");
    rig.case_of("other", "fine", "echo 1");
    let output = rig.work(["--drain"]).run().exits(1);
    assert_eq!(rig.worked().len(), 2);
    let errors = output.stderr.lines().filter(|line| line.contains("tasks left: case is snoozed until"));
    assert_eq!(errors.count(), 1, "{}", output.stderr);
}

#[test]
fn a_drain_that_has_run_all_tasks_ends_although_a_type_is_snoozed() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    rig.case("held", &holding(3600, DONE));
    rig.drain();
    assert_eq!(rig.worked().len(), 1);
}

#[test]
fn a_worker_whose_types_are_snoozed_is_idle() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    rig.script("held", &holding(3600, QUOTA));
    create(&rig, 2, "held");
    rig.work(["--exit-after-idle", "300ms"]).run().exits(0);
    assert_eq!(rig.worked().len(), 1);
}

#[test]
fn no_retry_comes_before_the_time() {
    let rig = Rig::of(one_attempt(), &[("case", "retry = { max_attempts = 2, delay = '10ms' }")]);
    let start = Instant::now();
    rig.case("held", &holding(2, QUOTA));
    rig.drain();
    assert!(start.elapsed() > Duration::from_millis(1500) && runs(&rig) == 2);

    let rig = Rig::of(one_attempt(), &[("case", "retry = { max_attempts = 2, delay = '10ms' }")]);
    rig.case("held", &holding(3600, QUOTA));
    rig.drain();
    assert_eq!(runs(&rig), 1, "the claim would be over before");
}

#[test]
fn failures_that_snooze_a_type_do_not_open_its_circuit() {
    let rig = Rig::of(one_attempt(), &[("case", "")]);
    for n in 0..6 {
        rig.case(&format!("held-{n}"), &format!("sleep 0.2; {}", holding(3, QUOTA)));
    }
    let log = rig.work(["--drain", "--concurrency", "6"]).run().exits(0).stderr;
    assert_eq!((rig.worked().len(), count(&log, "circuit open")), (6, 0), "{log}");
}

#[test]
fn the_day_s_units_of_youtube_are_shown() {
    let rig = Rig::start();
    let stats = |arguments: &[&str]| {
        rig.sandbox
            .prismq(["stats"])
            .args(arguments.iter().copied())
            .env("YOUTUBE_DAILY_QUOTA_LIMIT", "1000")
            .run()
            .exits(0)
    };
    drop(Store::open(&rig.sandbox.path("results.db")).unwrap());
    assert!(stats(&["--json"]).json().get("youtube_quota").is_none(), "nothing has used any");
    assert!(!stats(&[]).stdout.contains("YouTube"));
    let today = Timestamp::now().in_tz("America/Los_Angeles").unwrap();
    let file = rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap();
    file.execute("INSERT INTO youtube_quota (day, used) VALUES (?1, 101)", [today.date().to_string()]).unwrap();
    let quota = stats(&["--json"]).json()["youtube_quota"].take();
    let midnight = today.date().tomorrow().unwrap().in_tz("America/Los_Angeles").unwrap().timestamp();
    assert_eq!(quota, json!({"limit": 1000, "used": 101, "left": 899, "resets_at": midnight.to_string()}));
    let line = format!("YouTube: 101 of 1000 units used, 899 left until {midnight}");
    assert!(stats(&[]).stdout.lines().any(|it| it == line), "{line}");
}

#[test]
fn a_drain_sees_what_is_left_though_many_newer_tasks_of_a_similar_name_wait() {
    at_once(["send.mail", "Send_Mail"], |similar| {
        let rig = Rig::of(one_attempt(), &[("send_mail", "")]);
        rig.taskmanager.register(similar);
        rig.script("held", &holding(3600, QUOTA));
        for n in 0..2 {
            rig.taskmanager.create("send_mail", json!({"case": "held", "n": n}));
        }
        for n in 0..60 {
            rig.taskmanager.create(similar, json!({"n": n}));
        }
        let output = rig.work(["--drain"]).run().exits(1);
        assert!(output.stderr.contains("tasks left: send_mail is snoozed until"), "{}", output.stderr);
        let others = rig.work(["--drain", "--handle", &format!("{similar}=cat"), similar]).run();
        assert_eq!(others.code(), 0, "{}", others.stderr);
    });
}
