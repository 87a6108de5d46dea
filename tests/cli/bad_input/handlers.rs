//! Handlers that cannot run, print invalid output or nothing, do not read their input, or exit too early.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{ANY, Output, Rig, at_once, complains};

/// A rig with task 1, with these params and this `exec` as its handler.
fn rig(exec: &str, params: &Value) -> Rig {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = {exec}\n"));
    let output = rig.prismq("create-task example.any --params -").stdin(params.to_string()).run().exits(0);
    assert_eq!(output.stdout, "1\n");
    rig
}

/// Runs a task with these params by hand and another one by a worker, and passes each task as the TaskManager shows it
/// to `check`.
#[track_caller]
fn worked(line: &str, params: &Value, code: i32, check: impl Fn(&Value)) {
    let rig = rig(&format!("'''{line}'''"), params);
    let run = |line: &str, code| {
        let output: Output = rig.run(line);
        assert_eq!(output.code(), code, "{line}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
    };
    run("claim example.any --run", code);
    let mut other = params.clone();
    other["by"] = json!("a worker");
    let created = rig.prismq("create-task example.any --priority 9 --params -").stdin(other.to_string()).run().exits(0);
    run("work example.any --max-tasks 1 --strategy priority", 0);
    let rows = rig.results();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, id) in rows.iter().zip([1, created.stdout.trim().parse().unwrap()]) {
        assert!(row["reported_at"].is_string() && row["task_id"] == id, "{row}");
        let task = rig.task(id);
        let envelope = &task["result"];
        assert_eq!(
            (&row["data"], &row["error"]),
            (&envelope["data"], &envelope["error"]),
            "one says what the other does"
        );
        check(envelope);
    }
}

#[track_caller]
fn gives(line: &str, params: &Value, data: &Value) {
    worked(line, params, 0, |envelope| {
        assert_eq!((&envelope["success"], &envelope["data"]), (&json!(true), data));
    });
}

#[track_caller]
fn fails(line: &str, error_type: &str, words: &str) {
    worked(line, &json!({}), 1, |envelope| {
        assert_eq!((&envelope["success"], &envelope["error_type"]), (&json!(false), &json!(error_type)));
        assert!(envelope["error"].as_str().unwrap().contains(words), "{envelope}");
    });
}

#[test]
fn a_handler_that_cannot_run_is_reported_before_a_claim() {
    let execs = [
        ("[\"no-such-program\"]", "no-such-program"),
        ("[\"./no-such-file\"]", "no-such-file"),
        ("[\"./plain.txt\"]", "plain.txt"),
        ("[\"./bare.sh\"]", "#!/bin/sh"),
        ("[\".\"]", "."),
        ("[\"/\"]", "/"),
    ];
    at_once(execs, |(exec, words)| {
        let rig = rig(exec, &json!({}));
        rig.sandbox.write("plain.txt", "not a program\n");
        let bare = rig.sandbox.write("bare.sh", "echo no line that says what runs it\n");
        fs::set_permissions(bare, fs::Permissions::from_mode(0o755)).unwrap();
        for line in ["claim example.any --run", "claim --run --once", "work -qq", "work example.any --drain -qq"] {
            complains(&rig.run(line), 2, &[words]);
        }
        let config = rig.sandbox.read("prismq.toml");
        rig.sandbox.write("prismq.toml", "");
        assert_eq!(rig.task(1)["status"], "pending");
        rig.sandbox.write("prismq.toml", config);
    });
}

#[test]
fn a_file_that_cannot_be_executed_fails_its_task() {
    for line in ["claim example.any --run", "work example.any --max-tasks 1"] {
        let rig = rig("[\"./program\"]", &json!({}));
        let program = rig.sandbox.write("program", "\x7fELF\0\0 and nothing more");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        let output = rig.run(line);
        let row = rig.results().pop().unwrap_or_else(|| panic!("{output:?}"));
        assert_eq!((&row["status"], &row["retryable"]), (&json!("failed"), &json!(false)), "{row}");
    }
}

#[test]
fn a_program_that_is_removed_fails_its_task() {
    let rig = rig("[\"./script\"]", &json!({"n": 1}));
    let script = rig.sandbox.write("script", "#!/bin/sh\nrm script; echo 1\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    rig.create(ANY, &json!({"n": 2}));
    rig.run("work example.any --max-tasks 2").exits(0);
    let rows = rig.results();
    assert_eq!((&rows[0]["status"], &rows[1]["error_type"]), (&json!("completed"), &json!("configuration")));
    assert!(rows[1]["error"].as_str().unwrap().contains("script"), "{}", rows[1]);
}

#[test]
fn output_that_is_not_json_is_text() {
    gives(r"printf '\377\375\0garbage'", &json!({}), &json!({"output": "\u{fffd}\u{fffd}\0garbage"}));
    fails(r"printf '\377\376garbage'", "handler", "UTF-16");
    fails("echo '{\"half\": '", "handler", "not valid JSON");
}

#[test]
fn empty_output_is_null() {
    gives("true", &json!({}), &Value::Null);
    gives("echo; echo '  '", &json!({}), &Value::Null);
}

#[test]
fn input_need_not_be_read() {
    // More than a pipe holds (64 KiB), so the writer has to wait for a reader.
    let long = json!({"text": "x".repeat(150_000)});
    let lines = ["echo 1", "exec 0<&-; sleep 0.1; echo 2", "head -c 10 >/dev/null; echo 3", "sleep 0.1; wc -l"].iter();
    at_once(lines.zip([1, 2, 3, 1]), |(line, data)| gives(line, &long, &json!(data)));
}

#[test]
fn endless_output_is_an_error() {
    fails("cat /dev/zero", "handler", "16 MiB");
}

#[test]
fn errors_of_any_length_are_stored_and_reported() {
    let cases = [
        ("head -c 5000000 /dev/zero | tr '\\0' x >&2; exit 3", "handler", "xxx"),
        (r"printf 'bad \033[31m\377 bytes\n' >&2; exit 65", "validation", "bad"),
        ("exit 75", "temporary", "75"),
        ("kill -9 $$", "crash", "9"),
    ];
    at_once(cases, |(line, error_type, words)| fails(line, error_type, words));
}

#[test]
fn an_incomplete_envelope_is_data_or_a_failure() {
    gives("echo '{\"success\":\"yes\"}'", &json!({}), &json!({"success": "yes"}));
    gives("echo '[{\"success\":false}]'", &json!({}), &json!([{"success": false}]));
    fails("echo '{\"success\":false}'", "handler", "");
    fails("echo '{\"success\":false,\"error\":[1],\"error_type\":7}'", "handler", "");
}
