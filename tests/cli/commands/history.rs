//! `explain` and `replay`: the history of a task, and its handler again.

use std::fs;

use prismq::internals::Store;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{ANY, Rig, complains, complains_in_json};

/// A rig with one task of [`ANY`], handled by this shell command.
fn rig(line: &str, params: &Value) -> Rig {
    let rig = Rig::new();
    describe(&rig, line, "");
    rig.create(ANY, params);
    rig
}

fn describe(rig: &Rig, line: &str, settings: &str) {
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{line}'''\n{settings}"));
}

/// The lines of `explain` after the heading, without times. Asserts that the times are in order.
#[track_caller]
fn told(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().skip(1).map(|line| (line[2..26].trim(), line[28..].to_owned()));
    let (times, words): (Vec<&str>, Vec<String>) = lines.unzip();
    let is_here = |time: &&&str| time.ends_with('Z') && time.contains('T');
    assert!(times.iter().filter(is_here).is_sorted(), "{stdout}");
    words
}

/// `text` with all durations replaced.
fn without_ms(text: &str) -> String {
    let words = text.split(' ').collect::<Vec<_>>();
    let is_ms = |at: usize| words.get(at + 1).is_some_and(|word| word.starts_with("ms"));
    words.iter().enumerate().map(|(at, word)| if is_ms(at) { "N" } else { *word }).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_history_of_a_task_is_in_order() {
    let rig = rig("if [ $PRISMQ_ATTEMPT = 1 ]; then echo no luck >&2; exit 75; fi; wc -w", &json!({"text": "a b"}));
    rig.run("work --drain --worker-id first --max-tasks 1").exits(0);
    rig.run("work --drain --worker-id second").exits(0);
    let output = rig.run("explain 1").exits(0);
    assert_eq!(output.stdout.lines().next(), Some("task 1, example.any: completed, params {\"text\":\"a b\"}"));
    let told: Vec<String> = told(&output.stdout).iter().map(|line| without_ms(line)).collect();
    assert_eq!(
        told,
        [
            "created in the TaskManager (by its own clock), priority 0",
            "claimed by first, attempt 1",
            "failed after N ms (temporary, retryable): no luck",
            "reported",
            "claimed by second, attempt 2",
            "completed after N ms: 2",
            "reported",
            "completed in the TaskManager (by its own clock), 2 attempts",
        ]
    );
    assert_eq!(output.stderr, "");
}

#[test]
fn the_history_shows_the_stderr_tail_of_each_attempt() {
    let script = r#"echo "attempt $PRISMQ_ATTEMPT" >&2
        case $PRISMQ_ATTEMPT in
            1) exit 75 ;;
            2) echo '{"success":false,"error":"no luck","retryable":true}' ;;
            *) i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo "line $i of $TOKEN" >&2; done; echo 1 ;;
        esac"#;
    let rig = Rig::new();
    describe(&rig, script, "pass_env = [\"TOKEN\"]\n");
    rig.create(ANY, &json!({}));
    rig.prismq("work --drain").env("TOKEN", "hunter2").run().exits(0);
    let output = rig.run("explain 1").exits(0);
    let told: Vec<String> = told(&output.stdout).iter().map(|line| without_ms(line)).collect();
    let since = |start: &str| told.iter().skip_while(|line| !line.starts_with(start)).skip(1).collect::<Vec<_>>();
    assert_eq!(since("failed")[0], "reported", "the error tells it");
    assert_eq!(since("failed after N ms (handler")[..3], ["stderr tail:", "    attempt 2", "reported"]);
    let last = since("completed after N ms: 1");
    assert_eq!((last[0].as_str(), last[1].as_str()), ("stderr tail:", "    line 11 of ***"));
    assert_eq!((last[20].as_str(), last[21].as_str()), ("    line 30 of ***", "reported"));

    let story = rig.run("explain 1 --json").exits(0).json();
    let last_words = |attempt: usize| &story["attempts"][attempt]["last_words"];
    assert_eq!((last_words(0), last_words(1)), (&Value::Null, &json!("attempt 2")));
    assert!(last_words(2).as_str().unwrap().ends_with("\nline 30 of ***"), "{story}");
    assert!(!rig.task(1).to_string().contains("line 30"), "the TaskManager is not told");
}

#[test]
fn the_history_shows_which_attempts_were_not_run() {
    let rig = rig("echo ran >>runs; echo 'no such channel' >&2; exit 65", &json!({}));
    rig.run("work --drain").exits(0);
    assert_eq!(rig.sandbox.read("runs"), "ran\n");
    let told: Vec<String> = told(&rig.run("explain 1").exits(0).stdout).iter().map(|line| without_ms(line)).collect();
    let ends: Vec<&String> = told.iter().filter(|line| line.ends_with("): no such channel")).collect();
    let again = "not run again, failed before (validation): no such channel";
    assert_eq!(ends, ["failed after N ms (validation, not retryable): no such channel", again, again]);
    let story = rig.run("explain 1 --json").exits(0).json();
    let not_run = [0, 1, 2].map(|attempt: usize| story["attempts"][attempt]["not_run"].clone());
    assert_eq!(not_run, [false, true, true].map(Value::Bool));
}

#[test]
fn the_history_distinguishes_tasks_with_the_same_id() {
    let rig = rig("wc -w", &json!({"text": "a"}));
    rig.run("work --drain --worker-id first").exits(0);
    let rig = rig.anew();
    rig.create(ANY, &json!({"text": "b c"}));
    rig.run("claim example.any --worker-id second --results other.db").exits(0);
    let told: Vec<String> = told(&rig.run("explain 1").exits(0).stdout).iter().map(|line| without_ms(line)).collect();
    assert_eq!(
        told,
        [
            "of another task with this ID: claimed by first, attempt 1",
            "of another task with this ID: completed after N ms: 1",
            "of another task with this ID: reported",
            "created in the TaskManager (by its own clock), priority 0",
            "attempt 1: not in this results file, run elsewhere",
            "claimed in the TaskManager (by its own clock), 1 attempt, now by second",
        ]
    );
    let story = rig.run("explain 1 --json").exits(0).json();
    assert_eq!(story["attempts"][0]["of_another_task"], true);
}

#[test]
fn repaired_params_belong_to_the_same_task() {
    let rig = rig("wc -w", &json!({"filter": [], "text": "a"}));
    describe(&rig, "wc -w", "schema = { properties.filter = { type = \"object\" } }\n");
    rig.run("work --drain").exits(0);
    assert_eq!(rig.results()[0]["params"]["filter"], json!({}));
    let told = rig.run("explain 1").exits(0).stdout;
    assert!(told.contains(", attempt 1\n") && !told.contains("another task"), "{told}");
}

#[test]
fn the_history_is_available_as_json() {
    let rig = rig("wc -w", &json!({"text": "a b"}));
    rig.run("work --drain --worker-id me").exits(0);
    let story = rig.run("explain 1 --json").exits(0).json();
    assert_eq!((&story["id"], &story["api_url"], &story["server_error"]), (&json!(1), &json!(rig.url()), &Value::Null));
    assert_eq!(
        (&story["task"]["status"], &story["claim"], &story["deaths"]),
        (&json!("completed"), &Value::Null, &json!(0))
    );
    let mut attempts = json!(rig.results());
    attempts[0]["last_words"] = Value::Null;
    attempts[0]["not_run"] = json!(false);
    attempts[0]["of_another_task"] = json!(false);
    assert_eq!(story["attempts"], attempts);
}

#[test]
fn the_history_shows_claims_in_flight_and_attempts_elsewhere() {
    let rig = rig("wc -w", &json!({}));
    rig.run("claim example.any --worker-id me").exits(0);
    let output = rig.run("explain 1").exits(0);
    assert!(output.stdout.contains("claimed by me, attempt 1: in flight, deadline 2"), "{}", output.stdout);
    assert!(
        output.stdout.contains("claimed in the TaskManager (by its own clock), 1 attempt, now by me"),
        "{}",
        output.stdout
    );
    assert_eq!(rig.run("explain 1 --json").exits(0).json()["claim"]["worker_id"], "me");

    drop(Store::open(&rig.sandbox.path("other.db")).unwrap());
    let elsewhere = rig.run("explain 1 --results other.db").exits(0);
    assert!(elsewhere.stdout.contains("attempt 1: not in this results file"), "{}", elsewhere.stdout);
    complains(&rig.run("explain 7"), 1, &["no task 7 in the TaskManager or in the results file"]);
    complains_in_json(&rig.run("explain 7 --json"), 1);
}

#[test]
fn the_history_is_shown_during_an_outage() {
    let rig = rig("echo \"$(cat) is wrong\" >&2; exit 65", &json!({"n": 1}));
    rig.run("work --max-tasks 1 --worker-id me").exits(0);
    let sandbox = rig.stop();
    let output = sandbox.prismq(["explain", "1"]).run().exits(0);
    assert!(output.stdout.contains("task 1, example.any: params {\"n\":1}\n"), "{}", output.stdout);
    assert!(output.stdout.contains("(validation, not retryable)"), "{}", output.stdout);
    assert!(output.stdout.contains("is wrong") && output.stdout.contains("  reported\n"), "{}", output.stdout);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("showing only what the results file has"), "{}", output.stderr);
    let story = sandbox.prismq(["explain", "1", "--json"]).run().exits(0).json();
    assert!(story["task"].is_null() && story["server_error"].is_string(), "{story}");
    complains(&sandbox.prismq(["explain", "7"]).run(), 4, &[]);
    // The results file has only tasks that a handler got.
    let envelope = sandbox.prismq(["replay", "1"]).run().exits(1).json();
    assert_eq!(envelope["error_type"], "validation");
    complains(&sandbox.prismq(["replay", "7"]).run(), 4, &[]);
}

#[test]
fn a_replay_stores_and_reports_nothing() {
    let rig = rig("cat >got; echo no such luck >&2; exit 65", &json!({"text": "a b"}));
    rig.run("work --max-tasks 1").exits(0);
    let (rows, task) = (rig.results(), rig.task(1));
    fs::remove_file(rig.sandbox.path("got")).unwrap();

    let failed = rig.run("replay 1").exits(1);
    assert_eq!((&failed.json()["error_type"], &failed.json()["success"]), (&json!("validation"), &json!(false)));
    let stderr: Vec<&str> = failed.stderr.lines().collect();
    assert_eq!(
        stderr,
        ["running the handler of task 1 (example.any) again", "no such luck", "neither stored nor reported"]
    );
    let got: Value = serde_json::from_str(&rig.sandbox.read("got")).unwrap();
    assert_eq!((&got["id"], &got["params"], &got["attempt"]), (&json!(1), &json!({"text": "a b"}), &json!(1)));

    describe(&rig, "echo '{\"progress\":40,\"message\":\"half\"}' >&3; wc -w", "mode = \"once\"\n");
    let mended = rig.run("replay 1 --json").exits(0);
    assert_eq!((mended.stdout.lines().count(), &mended.json()["success"]), (1, &json!(true)));
    assert!(mended.stderr.contains("40 %: half\n"), "{}", mended.stderr);
    assert_eq!((rig.results(), rig.task(1)), (rows, task));
}

#[test]
fn a_task_without_attempts_is_replayed_from_the_taskmanager() {
    let rig = rig("wc -w", &json!({"text": "a b c"}));
    assert_eq!(rig.run("replay 1").exits(0).json()["data"], 3);
    assert_eq!((&rig.task(1)["status"], &rig.task(1)["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(rig.results(), [] as [Value; 0]);
    complains(&rig.run("replay 7"), 1, &["no task 7 in the TaskManager or in the results file"]);
    rig.sandbox.write("prismq.toml", "");
    complains(&rig.run("replay 1"), 2, &["example.any has no handler", "prismq.toml"]);
    describe(&rig, "true", "dir = \"nowhere\"\n");
    complains(&rig.run("replay 1"), 2, &["nowhere"]);
}

#[test]
fn a_replay_ends_at_a_signal_and_at_its_timeout() {
    let rig = rig("echo started >&2; exec sleep 60", &json!({}));
    let mut running = rig.spawn("replay 1");
    running.wait_for_stderr("started\n");
    running.signal(Signal::INT);
    assert_eq!(running.wait().exits(130).json()["error_type"], "shutdown");
    describe(&rig, "exec sleep 60", "timeout = \"100ms\"\n");
    assert_eq!(rig.run("replay 1").exits(1).json()["error_type"], "timeout");
}
