//! Invalid numbers, durations, addresses, choices and paths from all sources: each is refused with our message, which says
//! what is valid.

use serde_json::json;

use crate::support::{ANY, Rig, Sandbox};

const DURATION: &str = "write 10 (seconds), 500ms, 5m, 1h30m or 7d";
const SLOTS: &str = "it must be between 1 and 1000";
const COUNT: &str = "it must be between 1 and 4294967295";
const ADDRESS: &str = "is not an IP address with a port: write 127.0.0.1:9090";

/// Messages of libraries, which do not say what to write.
const LEAKS: [&str; 7] =
    ["invalid digit", "target type", "cannot parse", "..=", "unexpected argument", "os error", "invalid type"];

#[track_caller]
fn refused(sandbox: &Sandbox, line: &str, variable: Option<(&str, &str)>, words: &str) {
    let mut command = sandbox.prismq(line.split(' '));
    if let Some((name, value)) = variable {
        command = command.env(name, value);
    }
    let output = command.run().exits(2);
    let leaked = LEAKS.iter().find(|leak| output.stderr.contains(**leak));
    assert!(output.stderr.contains(words) && leaked.is_none(), "{line} {variable:?}: {}", output.stderr);
    assert!(output.stdout.is_empty(), "{line} {variable:?}");
}

#[test]
fn invalid_values_on_the_command_line() {
    let sandbox = Sandbox::new();
    let ids = "between 0 and 9223372036854775807";
    for (line, words) in [
        ("create-task a --priority x", "between -9223372036854775808 and 9223372036854775807"),
        ("create-task a --priority=", "\"\" is not a whole number"),
        ("create-task a --priority 9223372036854775808", "must be between -9223372036854775808 and"),
        ("create-task a --from f --concurrency 1e3", SLOTS),
        ("create-task a --from .", "--from: cannot read .: it is a folder"),
        ("create-task a --from nofile", "--from: cannot read nofile: no such file"),
        ("create-task a --params @", "--params @: no file name; write @FILE"),
        ("create-task a --params @.", "it is a folder"),
        ("list-tasks --limit 1e3", COUNT),
        ("list-tasks --limit 0", "must be between 1 and 4294967295, not 0"),
        ("list-tasks --limit -5", "must be between 1 and 4294967295, not -5"),
        ("list-tasks --limit 4294967296", "must be between 1 and 4294967295"),
        ("list-tasks --status x", "pending, claimed, completed, failed"),
        ("progress 1 50.5", "it must be between 0 and 100"),
        ("progress 1 50%", "it must be between 0 and 100"),
        ("progress 1 101", "must be between 0 and 100, not 101"),
        ("progress 1 -1", "must be between 0 and 100, not -1"),
        ("show-task x", ids),
        ("show-task -1", ids),
        ("explain 9223372036854775808", ids),
        ("work --concurrency x", SLOTS),
        ("work --max-tasks -1", "must be between 0 and 18446744073709551615, not -1 (0: no limit)"),
        ("work --max-attempts 0", "must be between 1 and 4294967295, not 0"),
        ("work --poll-interval -1", DURATION),
        ("work --exit-after-idle x", DURATION),
        ("work --status-addr localhost:1", ADDRESS),
        ("work --strategy x", "fifo, lifo, priority"),
        ("serve --listen 8000", ADDRESS),
        ("serve --max-attempts x", COUNT),
        ("stats --by x", "type, worker, hour, day"),
        ("stats --since x", DURATION),
        ("results --format x", "table, jsonl, csv"),
        ("health --log-format x", "text, json"),
        ("health --log-level x", "off, error, warn, info, debug, trace"),
        ("health --api-url x", "write http:// or https://"),
        ("health --config .", "cannot be read: it is a folder"),
        ("completions x", "bash"),
    ] {
        refused(&sandbox, line, None, words);
    }
}

/// Settings that are not text: their variable, their key in `prismq.toml`, and the error for a wrong value.
const SETTINGS: [(&str, &str, &str, &str); 17] = [
    ("POLL_INTERVAL", "poll_interval", "x", DURATION),
    ("MAX_BACKOFF", "max_backoff", "0", "must be more than 0"),
    ("PRISMQ_CLAIM_TIMEOUT", "claim_timeout", "-1", DURATION),
    ("PRISMQ_GRACE_PERIOD", "grace_period", "1e3", DURATION),
    ("PRISMQ_KEEP_RESULTS", "keep_results", "true", DURATION),
    ("YOUTUBE_CACHE", "youtube_cache", "x", DURATION),
    ("MAX_RUNS", "max_tasks", "1.5", "it must be between 0 and 18446744073709551615 (0: no limit)"),
    ("PRISMQ_CONCURRENCY", "concurrency", "true", SLOTS),
    ("PRISMQ_CONCURRENCY", "concurrency", "99999999999999999999999", "must be between 1 and 1000"),
    ("PRISMQ_MAX_ATTEMPTS", "max_attempts", "0", "must be between 1 and 4294967295"),
    ("YOUTUBE_DAILY_QUOTA_LIMIT", "youtube_daily_quota", "x", COUNT),
    ("PRISMQ_STRATEGY", "strategy", "true", "write fifo, lifo or priority"),
    ("PRISMQ_LOG_FORMAT", "log_format", "x", "write text or json"),
    ("RUST_LOG", "log_level", "x", "write off, error, warn, info, debug, trace"),
    ("PRISMQ_STATUS_ADDR", "status_addr", "9090", ADDRESS),
    ("TASKMANAGER_API_URL", "api_url", "x", "write http:// or https://"),
    ("TASKMANAGER_API_KEY_FILE", "api_key_file", "nofile", "nofile"),
];

#[test]
fn invalid_values_in_the_environment_and_in_files() {
    let sandbox = Sandbox::new();
    for (variable, key, value, words) in SETTINGS {
        refused(&sandbox, "config", Some((variable, value)), words);
        sandbox.write(".env", format!("{variable}={value}\n"));
        refused(&sandbox, "config", None, words);
        sandbox.write(".env", "");
        // Numbers and booleans may be without quotes.
        let is_text = value.contains(|c: char| c.is_ascii_alphabetic()) && value != "true" && value != "1e3";
        let value = if is_text { format!("\"{value}\"") } else { value.to_owned() };
        sandbox.write("prismq.toml", format!("{key} = {value}\n"));
        refused(&sandbox, "config", None, words);
        std::fs::remove_file(sandbox.path("prismq.toml")).unwrap();
    }
}

#[test]
fn invalid_values_of_a_task_type() {
    let sandbox = Sandbox::new();
    for (line, words) in [
        ("concurrency = 0", "must be between 1 and 1000, not 0"),
        ("mode = \"persistent\"\nmax_tasks_per_process = 0", "must be between 1 and 4294967295, not 0"),
        ("timeout = true", DURATION),
        ("retry = { max_attempts = \"x\" }", COUNT),
        ("retry = { backoff_factor = \"x\" }", "must be a number of at least 1"),
        ("retry = { delay = \"x\" }", DURATION),
        ("clean_env = 1", "must be true or false"),
        ("mode = \"x\"", "write \"once\" or \"persistent\""),
        ("concurrency = []", "must be a quoted string or a number"),
        ("schema = { maximum = inf }", "a number that JSON cannot represent"),
    ] {
        sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"a\"\nexec = \"cat\"\n{line}\n"));
        refused(&sandbox, "config", None, words);
    }
}

#[test]
fn invalid_values_of_a_schema() {
    const TYPE: &str = "is not a type; use array, boolean, integer, null, number, object or string";
    let sandbox = Sandbox::new();
    for (schema, words) in [
        ("{\"type\":\"objekt\"}", &format!("/type: \"objekt\" {TYPE}")[..]),
        ("{\"properties\":{\"a\":{\"type\":5}}}", &format!("/properties/a/type: 5 {TYPE}")),
        ("{\"type\":[\"string\",\"objekt\"]}", TYPE),
        ("{\"properties\":{\"a\":{\"pattern\":\"(\"}}}", "/properties/a/pattern: \"(\" is not a regular expression"),
        ("{\"$ref\":\"nope\"}", "`$ref`: \"nope\" is not in the schema, and remote schemas are not fetched"),
        ("{\"$ref\":\"#/$defs/a\"}", "/$defs/a"),
        ("{\"$schema\":\"x\"}", "`$schema`: \"x\" is not a draft of JSON Schema"),
        ("{\"maxLength\":-1}", "/maxLength: -1 is less than the minimum of 0"),
    ] {
        refused(&sandbox, &format!("register-type a --schema {schema}"), None, words);
    }
    refused(&sandbox, "man --dir /proc/x", None, "--dir: cannot write to /proc/x: no such folder");
    let ca_file = Some(("PRISMQ_CA_FILE", "nofile"));
    refused(&sandbox, "list-types --api-url https://127.0.0.1:1/api", ca_file, "nofile: no such file");
}

#[test]
fn integers_of_an_inline_schema_keep_their_digits() {
    let rig = Rig::new();
    for (written, number) in
        [("99999999999999999999", "99999999999999999999"), ("0xffff_ffff_ffff_ffff", "18446744073709551615")]
    {
        let schema = format!("schema = {{ type = \"object\", properties = {{ n = {{ maximum = {written} }} }} }}");
        rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"big\"\nexec = \"cat\"\n{schema}\n"));
        rig.run("register-type big").exits(0);
        let types = rig.run("list-types --json").exits(0).stdout;
        assert!(types.contains(&format!("\"maximum\":{number}}}")), "{types}");
    }
}

/// The JSON library passes numbers on under this key, so it is refused in params.
#[test]
fn a_reserved_key_of_the_json_library_is_refused() {
    const KEY: &str = "$serde_json::private::Number";
    let rig = Rig::new();
    let escaped = KEY.replace('$', "\\u0024");
    for arguments in [
        vec![format!("{KEY}=1")],
        vec![format!("{KEY}:=1")],
        vec![format!("a:={{\"{KEY}\":\"1\"}}")],
        vec![format!("a:={{\"{escaped}\":\"1\"}}")],
        vec!["--params".to_owned(), format!("{{\"{KEY}\":\"1\"}}")],
        vec!["--params".to_owned(), format!("{{\"a\":[{{\"{escaped}\":\"1\"}}]}}")],
        vec!["--params".to_owned(), format!("{{\"{}\":\"1\"}}", KEY.replace('s', "\\u0073"))],
    ] {
        let arguments = arguments.iter().map(String::as_str);
        let output = rig.sandbox.prismq(["create-task", ANY].into_iter().chain(arguments)).run().exits(2);
        assert!(output.stderr.contains("reserved"), "{}", output.stderr);
    }
    let id = rig.create(ANY, &json!({"n": 1}));
    let handler = format!("echo '{{\"a\":{{\"{escaped}\":\"1\"}}}}'");
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{handler}'''\n"));
    rig.run("work --max-tasks 1").exits(0);
    let results = rig.run("results --json").exits(0).json_lines();
    assert_eq!((&results[0]["task_id"], &results[0]["status"]), (&json!(id), &json!("failed")), "{results:?}");
    assert!(results[0]["error"].as_str().unwrap().contains("reserved"), "{results:?}");
}
