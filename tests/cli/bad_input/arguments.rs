//! Invalid arguments and variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ANY, Rig, complains, names_in, output};

/// A rig with task 1 pending.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.create(ANY, &json!({"n": 1}));
    rig
}

/// Asserts that the parser refuses a command line with one of our messages.
#[track_caller]
fn refused(rig: &Rig, arguments: &[&str], words: &str) {
    let output = rig.sandbox.prismq(arguments.iter().copied()).run().exits(2);
    assert!(output.stdout.is_empty() && output.stderr.contains(words), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

#[test]
fn invalid_json_is_refused_with_its_position() {
    let rig = rig();
    rig.sandbox.write("broken.json", "{\"a\":");
    rig.sandbox.write("binary.json", b"\xff\xfe{}");
    for (arguments, words) in [
        (["create-task", ANY, "--params", "{a:1}"], ["--params: not valid JSON", "column 2"]),
        (["create-task", ANY, "--params", "[1]"], ["--params", "must be a JSON object"]),
        (["create-task", ANY, "--params", "null"], ["--params", "must be a JSON object"]),
        (["create-task", ANY, "--params", ""], ["--params: not valid JSON", ""]),
        (["create-task", ANY, "--params", "@broken.json"], ["--params @broken.json: not valid JSON", "column 5"]),
        (["create-task", ANY, "--params", "@binary.json"], ["--params @binary.json: not valid JSON", "UTF-16"]),
        (["create-task", ANY, "--params", "@nofile"], ["--params: cannot read nofile", "no such file"]),
        (["create-task", ANY, "--params", "@."], ["--params: cannot read .", "it is a folder"]),
        (["create-task", ANY, "--params", "@"], ["--params @: no file name", "write @FILE"]),
        (["create-task", ANY, "--params", "-"], ["--params (standard input): not valid JSON", ""]),
        (["register-type", ANY, "--schema", "{"], ["--schema: not valid JSON", ""]),
    ] {
        complains(&rig.sandbox.prismq(arguments).run(), 2, &words);
    }
    for (pair, words) in [("a:=", "not valid JSON"), ("a:={", "not valid JSON"), ("a", "KEY=TEXT"), ("=1", "no key")] {
        refused(&rig, &["create-task", ANY, pair], words);
    }
    assert_eq!(rig.run("list-tasks --json").exits(0).json_lines().len(), 1, "nothing was created");
}

#[test]
fn an_unreadable_result_leaves_the_task_claimed() {
    let rig = rig();
    rig.run("claim example.any --once --worker-id me").exits(0);
    for argument in ["@nofile", "@.", "{\"a\":", "", "text"] {
        complains(&rig.sandbox.prismq(["complete", "1", "--result", argument]).run(), 2, &["--result"]);
    }
    complains(&rig.prismq("complete 1 --result -").stdin("{").run(), 2, &["--result (standard input)"]);
    assert_eq!((rig.task(1)["status"].clone(), rig.results()), (json!("claimed"), Vec::new()));
    rig.run("complete 1 --result 5").exits(0);
    assert_eq!(rig.task(1)["result"]["data"], 5);
}

#[test]
fn unknown_types_and_broken_schemas() {
    let rig = rig();
    rig.sandbox.write("schema.json", r#"{"type":"object","required":["text"],"properties":{"text":{"minLength":3}}}"#);
    rig.run("register-type example.text --schema schema.json").exits(0);
    complains(&rig.run("create-task example.text"), 1, &["text", "required"]);
    complains(&rig.run("create-task example.text text=ab"), 1, &["/text"]);
    for line in ["create-task no.such a=1", "claim no.such", "work --handle no.such=cat -qq"] {
        complains(&rig.run(line), 2, &["no.such", "prismq register-type no.such"]);
    }
    complains(&rig.run("work no.such -qq"), 2, &["no.such", "--handle"]);
}

#[test]
fn invalid_numbers_are_refused() {
    let rig = rig();
    for id in ["", "x", "-1", "1.5", "0x1", "18446744073709551615", "99999999999999999999999"] {
        for command in ["show-task", "complete", "results"] {
            refused(&rig, &[command, "--", id], "between 0 and 9223372036854775807");
        }
    }
    for (arguments, words) in [
        (&["claim", ANY, "--timeout", "soon"][..], "not a duration"),
        (&["claim", ANY, "--timeout", "9000000000000000000"], "not a duration"),
        (&["work", ANY, "--poll-interval", "9000000000000000000"], "not a duration"),
        (&["create-task", ANY, "--priority", "9223372036854775808"], "--priority"),
    ] {
        refused(&rig, arguments, words);
    }
    rig.run("create-task example.any n=2 --priority -9223372036854775808").exits(0);
}

#[test]
fn the_longest_durations_do_not_overflow() {
    let rig = rig();
    let long = "315000000000";
    for line in
        ["results --since", "stats --since", "health --timeout", "create-task example.any n:=1 --wait --timeout"]
    {
        let mut running = rig.spawn(&format!("{line} {long}"));
        if line.contains("--wait") {
            running.wait_for_stderr("task 1");
            running.terminate();
            running.wait().exits(130);
        } else {
            running.wait().exits(0);
        }
    }
    let claim = rig.prismq("claim example.any --json").env("PRISMQ_CLAIM_TIMEOUT", long).run().exits(0);
    assert!(claim.json()["deadline"].as_str().unwrap().starts_with("9999"));
    let mut claiming = rig.prismq("claim example.any --timeout").args([long]).env("POLL_INTERVAL", long).start();
    let mut working = rig.prismq("work --handle example.any=cat --poll-interval").args([long]);
    working = working.args(["--max-backoff", long, "--exit-after-idle", long, "--claim-timeout", long]);
    let mut working = working.args(["--grace-period", long]).start();
    working.wait_for_stderr("ready");
    working.terminate();
    working.wait().exits(0);
    assert!(claiming.is_running());
    claiming.terminate();
    claiming.wait().exits(130);
}

#[test]
fn long_arguments_are_sent_or_refused() {
    let rig = rig();
    let long = "x".repeat(120_000);
    let created = rig.sandbox.prismq(["create-task", ANY, &format!("text={long}")]).run().exits(0);
    assert_eq!(rig.task(created.stdout.trim().parse().unwrap())["params"]["text"].as_str(), Some(long.as_str()));
    for arguments in [["create-task", &long], ["claim", &long], ["register-type", &long]] {
        refused(&rig, &arguments, "1 to 255 bytes");
    }
    complains(&rig.sandbox.prismq(["claim", ANY, "--worker-id", &long]).run(), 2, &["--worker-id", "255"]);
    complains(&rig.sandbox.prismq(["results", "--results", &long]).run(), 2, &["results file", "too long"]);
}

#[test]
fn deep_json_is_refused() {
    let rig = rig();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    complains(&rig.sandbox.prismq(["create-task", ANY, "--params", &deep]).run(), 2, &["--params", "nested deeper"]);
    let output = rig.prismq("create-task example.any --from -").stdin(deep + "\n{\"n\":5}\n").run().exits(1);
    assert!(output.stderr.starts_with("line 1: ") && output.stdout.lines().count() == 1, "{output:?}");
}

#[test]
fn a_long_wrong_argument_is_shortened_in_its_error() {
    let rig = rig();
    for pair in [format!("n:={}", "[".repeat(20_000)), format!("n:={}", "1".repeat(20_000)), "x".repeat(20_000)] {
        let output = rig.sandbox.prismq(["create-task", ANY, &pair]).run().exits(2);
        assert!(output.stderr.contains("…'") && output.stderr.len() < 500, "{}", output.stderr.len());
    }
}

/// `prismq` with these words, in which `\xff` stands for a byte that is not UTF-8.
fn with_bytes(rig: &Rig, line: &[u8]) -> Command {
    let mut command = rig.command();
    command.args(line.split(|byte| *byte == b' ').map(OsStr::from_bytes));
    command
}

#[test]
fn arguments_must_be_utf_8() {
    let rig = rig();
    for line in [
        &b"\xff"[..],
        b"--json \xff",
        b"create-task \xff",
        b"create-task example.any a=\xff",
        b"create-task example.any --params {\"a\":\"\xff\"}",
        b"claim example.any --worker-id \xff",
        b"complete \xff",
        b"list-types --api-url http://\xff/api",
        b"list-types --json --nonsense\xff",
    ] {
        let output = output(&mut with_bytes(&rig, line)).exits(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        if line.windows(6).any(|word| word == b"--json") {
            assert!(serde_json::from_str::<Value>(&output.stderr).is_ok(), "{output:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn paths_need_not_be_utf_8() {
    let rig = rig();
    output(&mut with_bytes(&rig, b"claim example.any --once --results \xff.db")).exits(0);
    output(&mut with_bytes(&rig, b"complete 1 --results \xff.db")).exits(0);
    assert!(names_in(&rig.sandbox.path("")).contains(&"\u{fffd}.db".to_owned()));
    complains(&output(&mut with_bytes(&rig, b"create-task example.any --from no\xff")), 2, &["--from: cannot read no"]);
    complains(&output(&mut with_bytes(&rig, b"config --config no\xff.toml")), 2, &["no such file"]);
}

#[test]
fn variables_must_be_utf_8() {
    let rig = rig();
    let config = |name: &[u8], value: &[u8]| {
        output(rig.command().arg("config").env(OsStr::from_bytes(name), OsStr::from_bytes(value)))
    };
    config(b"UNRELATED", b"\xff").exits(0);
    config(b"NAME\xff", b"x").exits(0);
    config(b"DEBUG", b"\xff").exits(0);
    for name in ["PRISMQ_RESULTS", "WORKER_ID", "PRISMQ_CONFIG", "TASKMANAGER_API_URL", "POLL_INTERVAL", "RUST_LOG"] {
        complains(&config(name.as_bytes(), b"/a/\xff"), 2, &[name, "not UTF-8"]);
    }
    let key = config(b"TASKMANAGER_API_KEY", b"hunter2\xff");
    complains(&key, 2, &["TASKMANAGER_API_KEY"]);
    assert!(!key.stderr.contains("hunter2"), "{key:?}");
    let mut work = rig.command();
    work.args(["work", "--handle", "example.any=cat", "--drain"]).env("A", OsStr::from_bytes(b"\xff"));
    output(&mut work).exits(0);
    assert_eq!(rig.task(1)["status"], "completed");
}
