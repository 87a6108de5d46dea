//! What a worker's log says, for people and for programs.

use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, WORKER};

/// The log of a worker with `arguments` on two tasks: one that succeeds on its second try, and one that fails.
fn log(arguments: &[&str]) -> String {
    let settings = "retry = { max_attempts = 2, delay = \"10ms\" }";
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.max_attempts = 1);
    let rig = Rig::of(taskmanager, &[("case", settings)]);
    rig.case(
        "second",
        "echo x >>second; [ $(wc -l <second) -eq 2 ] || exit 75; printf 'a \"quoted\"\\033[1m word\\n' >&2",
    );
    rig.case("wrong", "printf 'two\\nlines' >&2; exit 65");
    rig.work(["--drain"]).args(arguments.iter().copied()).run().exits(0).stderr
}

/// The lines whose message is `message`.
fn lines<'a>(log: &'a [Value], message: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["message"] == json!(message)).collect()
}

#[test]
fn json_lines_have_the_documented_fields() {
    let log = log(&["--log-format", "json"]);
    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &log {
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(["INFO", "WARN"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert_eq!(line["worker_id"], json!(WORKER), "{line}");
        assert!(line["module"].as_str().unwrap().starts_with("prismq"), "{line}");
    }
    let ready = lines(&log, "worker ready")[0];
    assert_eq!((&ready["task_types"], &ready["concurrency"], ready.get("task_id")), (&json!("case"), &json!(1), None));
    let claimed = lines(&log, "task claimed");
    let tasks: Vec<_> = claimed.iter().map(|line| (&line["task_id"], &line["task_type"], &line["attempt"])).collect();
    assert_eq!(tasks, [(&json!(1), &json!("case"), &json!(1)), (&json!(2), &json!("case"), &json!(1))]);
    let retry = lines(&log, "attempt failed: retrying")[0];
    assert_eq!((&retry["task_id"], &retry["wait_s"], &retry["level"]), (&json!(1), &json!(0.01), &json!("WARN")));
    let said = lines(&log, "a \"quoted\"\u{1b}[1m word");
    assert!(said.len() == 1 && said[0]["task_id"] == json!(1) && said[0]["task_type"] == json!("case"), "{log:?}");
    let completed = lines(&log, "task completed")[0];
    assert!(completed["task_id"] == json!(1) && completed["duration_ms"].is_u64(), "{completed}");
    let failed = lines(&log, "task failed")[0];
    assert_eq!(
        (&failed["task_id"], &failed["error_type"], &failed["retryable"]),
        (&json!(2), &json!("validation"), &json!(false))
    );
    assert_eq!((&retry["error"], &failed["error"]), (&json!("exit code 75"), &json!("lines | two")));
    for line in &log {
        let is_printed = ["a \"quoted\"\u{1b}[1m word", "two", "lines"].contains(&line["message"].as_str().unwrap());
        assert_eq!(line["module"], if is_printed { "prismq::handler" } else { "prismq::worker" }, "{line}");
    }
    let ended = lines(&log, "worker stopped")[0];
    assert_eq!((&ended["completed"], &ended["failed"], &ended["unreported"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(ended, log.last().unwrap());
}

#[test]
fn handler_output_can_be_filtered_from_the_log() {
    let whole = log(&[]);
    for filter in ["prismq::handler=off", "prismq::handler=warn", "info,prismq::handler=warn"] {
        let log = log(&["--log-level", filter]);
        assert!(whole.contains("word") && !log.contains("word"), "{filter}: {log}");
        assert!(log.contains("INFO  task completed") && log.contains("INFO  worker stopped"), "{filter}: {log}");
    }
    let log = log(&["--log-level", "error,prismq::handler=info"]);
    assert!(log.lines().count() == 3 && log.contains("word"), "{log}");
}

#[test]
fn text_log_lines_are_escaped() {
    let log = log(&[]);
    assert!(!log.contains('\u{1b}'), "{log:?}");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(rest.starts_with("INFO  ") || rest.starts_with("WARN  "), "{line}");
    }
}

#[test]
fn a_quiet_worker_says_only_what_is_wrong() {
    let log = log(&["-q"]);
    assert!(log.lines().all(|line| line.contains(" WARN ")), "{log}");
    assert!(log.contains("task failed"), "{log}");
}

#[test]
fn the_key_is_in_no_log() {
    let taskmanager = EmbeddedTaskManager::with(|settings| settings.api_key = Some("a-very-secret-key".into()));
    let rig = Rig::of(taskmanager, &[("case", "")]);
    rig.case("env", "env; env >&2");
    let worker = rig.work(["--drain"]).env("TASKMANAGER_API_KEY", "a-very-secret-key").env("RUST_LOG", "trace");
    let output = worker.run().exits(0);
    assert!(!output.stderr.contains("a-very-secret-key"), "{}", output.stderr);
    assert!(!rig.rows("results")[0].to_string().contains("a-very-secret-key"));
}

#[test]
fn json_on_standard_output_sums_up() {
    let rig = Rig::start();
    rig.case("it", "echo 1");
    let output = rig.work(["--drain", "--json"]).run().exits(0);
    assert_eq!(output.json(), json!({"completed": 1, "failed": 0, "unreported": 0}));
}
