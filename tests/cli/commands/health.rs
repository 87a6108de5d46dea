//! `health`: each possible problem by itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{ANY, Answer, NOBODY, Output, Rig, ScriptedServer, complains, recorded};

const CONFIG: &str = "[[task_type]]\nname = \"example.any\"\nexec = [\"cat\"]\n";

/// A healthy rig.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", CONFIG);
    rig
}

/// Asserts that the report differs from that of a healthy rig in these fields only, apart from fields that change with
/// time.
#[track_caller]
fn assert_unhealthy(output: &Output, differences: &Value) {
    let mut report = output.json();
    let mut expected = json!({
        "healthy": false, "api_connectivity": true, "api_key_accepted": true, "task_types": {"example.any": 1},
        "handlers": {"example.any": "found"}, "results_writable": true, "unreported": 0,
        "oldest_unreported_seconds": null,
    });
    let fields = report.as_object_mut().unwrap();
    fields.retain(|key, _| !["api_latency_ms", "api_error", "results_error"].contains(&key.as_str()));
    expected.as_object_mut().unwrap().extend(differences.as_object().unwrap().clone());
    expected.as_object_mut().unwrap().retain(|_, value| *value != "left out");
    assert_eq!(report, expected);
    assert_eq!((output.code(), output.stderr.as_str()), (1, ""));
}

/// The line about one check.
#[track_caller]
fn line_of<'a>(output: &'a Output, check: &str) -> &'a str {
    let mut lines = output.stdout.lines().map(str::trim);
    lines.find(|line| line.contains(&format!("{check}  "))).unwrap_or_else(|| panic!("{check}: {output:?}"))
}

#[test]
fn everything_is_healthy() {
    let rig = rig();
    let output = rig.run("health").exits(0);
    assert_eq!(output.stdout.lines().next(), Some("healthy"));
    for (check, found) in [
        ("TaskManager", "answers at http://127.0.0.1:"),
        ("API key", "not set, not required"),
        ("type example.any", "registered (id 1)"),
        ("handler of example.any", "found"),
        ("results file", "/results.db"),
    ] {
        assert!(line_of(&output, check).starts_with("ok ") && line_of(&output, check).contains(found), "{output:?}");
    }
    let report = rig.run("health --json").exits(0).json();
    assert_eq!(report["healthy"], true);
    assert!(report["api_latency_ms"].is_u64());
}

#[test]
fn no_server() {
    let rig = rig();
    let output = rig.run(&format!("health --json --api-url {NOBODY}"));
    assert!(output.json()["api_error"].as_str().unwrap().contains(NOBODY));
    let types = json!({"example.any": "not checked"});
    assert_unhealthy(&output, &json!({"api_connectivity": false, "api_key_accepted": "left out", "task_types": types}));
    assert!(rig.run(&format!("health --api-url {NOBODY}")).exits(1).stdout.starts_with("not healthy\n"));
}

#[test]
fn a_server_whose_database_is_down() {
    let rig = rig();
    let server = ScriptedServer::always(recorded("health while the database is down"));
    let output = rig.run(&format!("health --json --api-url {}", server.url()));
    assert!(output.json()["api_error"].as_str().unwrap().contains("Internal server error"));
    assert_eq!((output.code(), &output.json()["api_connectivity"]), (1, &json!(false)));
    assert_eq!(server.calls(), ["GET /health"], "it is tried once");
}

#[test]
fn a_server_that_does_not_answer_in_time() {
    let rig = rig();
    let types: Vec<String> = (0..100).map(|n| format!("[[task_type]]\nname = \"type.{n}\"\n")).collect();
    rig.sandbox.write("prismq.toml", types.concat());
    let server = ScriptedServer::always(Answer::hang());
    let start = Instant::now();
    let output = rig.run(&format!("health --json --timeout 300ms --api-url {}", server.url())).exits(1);
    let took = start.elapsed();
    // Half of what it would take to wait for each type.
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(output.json()["api_connectivity"], false);
}

#[test]
fn refused_key_is_exit_code_5() {
    let rig = Rig::with_key("a-key-of-the-tests");
    rig.sandbox.write("prismq.toml", CONFIG);
    let run = |key: &str| rig.prismq("health --json").env("TASKMANAGER_API_KEY", key).run();
    rig.prismq("register-type example.any").env("TASKMANAGER_API_KEY", "a-key-of-the-tests").run().exits(0);
    run("a-key-of-the-tests").exits(0);
    let types = json!({"example.any": "not checked"});
    assert_unhealthy(&run("another-key"), &json!({"api_key_accepted": false, "task_types": types}));
    assert_unhealthy(&rig.run("health --json"), &json!({"api_key_accepted": false, "task_types": types}));
}

#[test]
fn an_unknown_type() {
    let rig = rig();
    rig.sandbox.write("prismq.toml", CONFIG.to_owned() + "[[task_type]]\nname = \"no.such\"\n");
    let types = json!({"example.any": 1, "no.such": "unknown to the TaskManager"});
    let handlers = json!({"example.any": "found", "no.such": "none"});
    assert_unhealthy(&rig.run("health --json"), &json!({"task_types": types, "handlers": handlers}));
}

#[test]
fn a_missing_program() {
    let rig = rig();
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = \"example.any\"\nexec = [\"no-such-program\"]\n");
    let output = rig.run("health --json");
    let handlers = output.json()["handlers"].clone();
    assert!(handlers["example.any"].as_str().unwrap().contains("no-such-program"), "{handlers}");
    assert_unhealthy(&output, &json!({"handlers": handlers}));
}

#[test]
fn a_type_without_a_handler() {
    let rig = rig();
    let nothing = "[[task_type]]\nname = \"example.any\"\n";
    rig.sandbox.write("prismq.toml", nothing);
    let advice = "the task type example.any has no handler: write `exec = [\"PROGRAM\"]`";
    assert_unhealthy(&rig.run("health --json"), &json!({"handlers": {"example.any": "none"}}));
    let health = rig.run("health").exits(1);
    assert!(line_of(&health, "handler of example.any").starts_with("FAIL ") && health.stdout.contains(advice));
    complains(&rig.run("work --drain"), 2, &[advice]);
    rig.create(ANY, &json!({}));

    rig.run("register-type other.one --schema {\"type\":\"object\"}").exits(0);
    rig.sandbox.write("prismq.toml", format!("{nothing}[[task_type]]\nname = \"other.one\"\nexec = [\"cat\"]\n"));
    let health = rig.run("health").exits(0);
    assert!(line_of(&health, "handler of example.any").starts_with("ok "), "{health:?}");
    let id = rig.create("other.one", &json!({}));
    let work = rig.run("work --drain").exits(0);
    assert!(work.stderr.contains("task type skipped: it has no handler task_type=example.any"), "{work:?}");
    assert_eq!((&rig.task(id)["status"], &rig.task(1)["status"]), (&json!("completed"), &json!("pending")));
}

/// The finding of `health` about the handler of [`ANY`] with these settings.
#[track_caller]
fn handler(rig: &Rig, description: &str) -> String {
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\n{description}\n"));
    rig.run("health --json").json()["handlers"][ANY].as_str().unwrap().to_owned()
}

#[test]
fn a_missing_script() {
    let rig = rig();
    let path = rig.sandbox.path("").canonicalize().unwrap();
    let path = path.to_str().unwrap().trim_end_matches('/');
    let missing = format!("no such file: {path}/sub/work.sh (to be run by sh)");
    let description = "exec = [\"/bin/sh\", \"-e\", \"./work.sh\", \"other.sh\"]\ndir = \"./sub\"\nmode = ";
    fs::create_dir(rig.sandbox.path("sub")).unwrap();
    rig.sandbox.write("sub/other.sh", "");
    for mode in ["'once'", "'persistent'"] {
        assert_eq!(handler(&rig, &format!("{description}{mode}")), missing);
    }
    let line = rig.run("health").exits(1);
    assert!(line_of(&line, "handler of example.any").contains(&missing), "{line:?}");
    complains(&rig.run("work --drain"), 2, &["the handler of example.any cannot run: ", &missing]);
    rig.sandbox.write("sub/work.sh", "");
    assert_eq!(handler(&rig, &format!("{description}'once'")), "found");
}

#[test]
fn a_script_that_a_program_may_find_elsewhere_is_not_reported_as_missing() {
    let rig = rig();
    fs::create_dir(rig.sandbox.path("bin")).unwrap();
    rig.sandbox.write("bin/work.sh", "echo 1");
    for description in [
        "exec = [\"sh\", \"work.sh\"]\nenv = { PATH = \"./bin:/usr/bin:/bin\" }",
        "exec = [\"sh\", \"-c\", \"work.sh\"]",
        "exec = [\"sh\", \"-o\", \"noclobber.sh\"]",
        "exec = \"sh work.sh\"",
        "exec = [\"env\", \"sh\", \"work.sh\"]",
    ] {
        assert_eq!(handler(&rig, description), "found", "{description}");
    }
    let gone = handler(&rig, "exec = [\"sh\", \"work.sh\"]");
    assert!(gone.ends_with("/work.sh (to be run by sh)"), "{gone}");
}

#[test]
fn a_program_in_the_folder_is_suggested_with_its_path() {
    let rig = rig();
    let path = rig.sandbox.path("").canonicalize().unwrap().join("slow.sh");
    let path = path.display();
    let found = || handler(&rig, "exec = [\"./slow.sh\"]\ndir = \"./.\"");
    assert_eq!(found(), format!("no such program: {path}"));
    rig.sandbox.write("slow.sh", "echo 1");
    assert!(found().starts_with(&format!("{path} is not executable: run `chmod +x {path}`")), "{}", found());
    fs::set_permissions(rig.sandbox.path("slow.sh"), Permissions::from_mode(0o755)).unwrap();
    assert!(found().starts_with(&format!("{path} has no interpreter line")), "{}", found());
    let gone = handler(&rig, "exec = [\"./slow.sh\"]\ndir = \"./no/./such\"");
    assert!(
        gone.contains("no such working folder: /") && gone.ends_with("/no/such") && !gone.contains("/./"),
        "{gone}"
    );
    let output = rig.prismq("health --config ./prismq.toml --results ./results.db").run().exits(1).stdout;
    assert!(output.contains("in /") && !output.contains("/./"), "{output}");
    let output = rig.prismq("health --results other.db").env("PRISMQ_CONFIG", "./prismq.toml").run().exits(1).stdout;
    assert!(output.contains("in /") && !output.contains("/./"), "{output}");
}

#[test]
fn a_results_file_that_cannot_be_used() {
    let rig = rig();
    rig.sandbox.write("text.db", "this is no database\n");
    let output = rig.run("health --json --results text.db");
    assert!(output.json()["results_error"].as_str().unwrap().contains("text.db"), "{}", output.stdout);
    let gone = json!({"results_writable": false, "unreported": "left out", "oldest_unreported_seconds": "left out"});
    assert_unhealthy(&output, &gone);
}

#[test]
fn an_ideas_database_that_cannot_be_used() {
    let rig = rig();
    assert_eq!(rig.run("health --json").exits(0).json()["ideas_writable"], Value::Null, "nobody asked for ideas");
    let healthy = rig.run("health --json --ideas ideas.db").exits(0).json();
    assert_eq!(healthy["ideas_writable"], true, "{healthy}");
    let results = rig.sandbox.home(".local/share/prismq/results.db");
    rig.run("claim example.any --once").exits(3);
    for (path, ideas) in [(results, ""), (rig.sandbox.path("other.db"), "--ideas other.db")] {
        rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE IdeaInspiration (id)").unwrap();
        let output = rig.run(&format!("health --json {ideas}"));
        let error = output.json()["ideas_error"].as_str().unwrap().to_owned();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("missing category"), "{error}");
        assert_unhealthy(&output, &json!({"ideas_writable": false, "ideas_error": error}));
    }
}

#[test]
fn unreported_results() {
    let rig = rig();
    rig.create(ANY, &json!({}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig.run("complete 1").exits(0);
    let connection = rusqlite::Connection::open(rig.sandbox.home(".local/share/prismq/results.db")).unwrap();
    let sql = "UPDATE results SET reported_at = NULL, finished_at = '2020-01-01T00:00:00.000Z'";
    connection.execute(sql, []).unwrap();
    let report = rig.run("health --json").exits(0).json();
    assert_eq!(report["unreported"], 1);
    assert!(report["oldest_unreported_seconds"].as_u64().unwrap() > 100_000_000, "{report}");
    assert_eq!(rig.run("stats --json").exits(0).json()["unreported"], 1);
}

#[test]
fn each_failed_check_has_advice() {
    let rig = rig();
    let gone = "[[task_type]]\nname = \"no.such\"\nexec = [\"no-such-program\"]\n";
    rig.sandbox.write("prismq.toml", CONFIG.to_owned() + gone);
    let output = rig.run("health").exits(1);
    for (check, found, advice) in [
        ("type no.such", "unknown to the TaskManager", "-> register it: prismq register-type no.such"),
        ("handler of no.such", "no-such-program", "-> correct the type's `exec` or `dir` in /"),
    ] {
        assert!(line_of(&output, check).starts_with("FAIL ") && line_of(&output, check).contains(found), "{output:?}");
        let next = output.stdout.lines().skip_while(|line| !line.contains(check)).nth(1).unwrap();
        assert!(next.trim().starts_with(advice), "{next}");
    }
    let away = rig.run(&format!("health --api-url {NOBODY} --results prismq.toml")).exits(1);
    assert!(line_of(&away, "TaskManager").starts_with("FAIL ") && away.stdout.contains("-> is it running"), "{away:?}");
    assert!(line_of(&away, "type no.such").starts_with("? ") && away.stdout.contains("not checked"), "{away:?}");
    assert!(away.stdout.contains("-> choose another with --results"), "{away:?}");
    assert_eq!(away.stdout.matches("->").count(), 3, "{away:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_ticks_and_crosses() {
    let rig = rig();
    rig.sandbox.write("prismq.toml", CONFIG.to_owned() + "[[task_type]]\nname = \"no.such\"\n");
    let shown = rig.prismq("health").on_terminal().run().exits(1).stdout;
    assert!(
        shown.contains("\x1b[32m✓\x1b[0m TaskManager") && shown.contains("\x1b[31m✗\x1b[0m type no.such"),
        "{shown}"
    );
    assert!(shown.contains("    → register it"), "{shown}");
    let plain = rig.prismq("health").env("NO_COLOR", "1").on_terminal().run().exits(1).stdout;
    assert!(plain.contains("  ✓ TaskManager") && !plain.contains('\x1b'), "{plain:?}");
}
