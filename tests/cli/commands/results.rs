//! `results`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use jiff::Timestamp;
use prismq::internals::{Store, TaskResult};
use prismq::{Outcome, TaskId};
use serde_json::{Value, json};

use crate::support::{ANY, Rig, complains, complains_in_json, finds_nothing};

/// A rig whose results file contains two successes of [`ANY`], then a failure of another type.
pub(crate) fn rig() -> Rig {
    let rig = Rig::new();
    rig.run("register-type other.one --schema {\"type\":\"object\"}").exits(0);
    for (task_type, report) in [
        (ANY, "complete 1 --result {\"text\":\"a,\\\"b\\\"\"}"),
        (ANY, "complete 2 --result 2"),
        ("other.one", "fail 3 --error no\nluck"),
    ] {
        let id = rig.create(task_type, &json!({"n": report.len()}));
        rig.run(&format!("claim {task_type} --once --worker-id me")).exits(0);
        assert!(report.contains(&id.to_string()));
        rig.sandbox.prismq(report.split(' ')).run().exits(0);
    }
    rig
}

#[test]
fn results_are_printed_as_a_table() {
    let rig = rig();
    let output = rig.run("results").exits(0);
    let lines: Vec<&str> = output.stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["ID", "TYPE", "ATTEMPT", "STATUS", "MS", "FINISHED", "RESULT"]);
    assert_eq!(words(lines[1])[..4], ["1", ANY, "1", "completed"]);
    assert!(lines[1].ends_with("  {\"text\":\"a,\\\"b\\\"\"}"), "{}", lines[1]);
    assert_eq!(words(lines[3])[..4], ["3", "other.one", "1", "failed"]);
    assert!(lines[3].ends_with("  luck | no"), "{}", lines[3]);
    assert_eq!((lines.len(), output.stderr.as_str()), (4, ""));
}

/// The documented columns.
const COLUMNS: [&str; 17] = [
    "task_id",
    "task_type",
    "attempt",
    "worker_id",
    "api_url",
    "status",
    "params",
    "data",
    "message",
    "error",
    "error_type",
    "retryable",
    "claimed_at",
    "started_at",
    "finished_at",
    "duration_ms",
    "reported_at",
];

#[test]
fn json_lines_contain_every_column() {
    let rig = rig();
    let output = rig.run("results --format jsonl").exits(0);
    let rows = output.json_lines();
    for row in &rows {
        let mut keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_by_key(|key| COLUMNS.iter().position(|column| column == key));
        assert_eq!(keys, COLUMNS);
    }
    let ids: Vec<&Value> = rows.iter().map(|row| &row["task_id"]).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(rows[0]["data"], json!({"text": "a,\"b\""}));
    assert_eq!((&rows[2]["error"], &rows[2]["data"]), (&json!("no\nluck"), &Value::Null));
    assert_eq!(rig.run("results --json").exits(0).stdout, output.stdout);
    rig.run("results --json --format csv").exits(2);
}

#[test]
fn csv_is_quoted_if_necessary() {
    let rig = rig();
    let output = rig.run("results --format csv").exits(0);
    let mut reader = csv::Reader::from_reader(output.stdout.as_bytes());
    assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!((&rows[0][0], &rows[0][1], &rows[0][7]), ("1", ANY, r#"{"text":"a,\"b\""}"#));
    assert_eq!((&rows[2][5], &rows[2][7], &rows[2][9], &rows[2][11]), ("failed", "", "no\nluck", "false"));
    assert_eq!(rows.len(), 3);
}

#[test]
fn filters_limit_the_results() {
    let rig = rig();
    let ids = |flags: &str| {
        let rows = rig.run(&format!("results --json {flags}")).exits(0).json_lines();
        rows.iter().map(|row| row["task_id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids("2"), [2]);
    assert_eq!(ids("--type other.one"), [3]);
    assert_eq!(ids("--failed"), [3]);
    assert_eq!(ids("--type example.any --failed"), [] as [u64; 0]);
    assert_eq!(ids("--since 1h"), [1, 2, 3]);
    assert_eq!(ids("--since 1ms"), [] as [u64; 0]);
    let none = rig.run("results 77").exits(1);
    complains(&none, 1, &["the results file has no result of task 77\n"]);
    complains_in_json(&rig.run("results 77 --json"), 1);
    for (flags, note) in [
        ("--type nope", "no result of type nope\n"),
        ("--type nope --failed", "no failed result of type nope\n"),
        ("--since 1ms --json", "no result in the last 1ms\n"),
    ] {
        finds_nothing(&rig.run(&format!("results {flags}")), note);
    }
    let none = rig.run("results --type nope --format csv -q").exits(0);
    assert_eq!((none.stdout.lines().count(), none.stderr.as_str()), (1, ""), "the heading alone");
}

#[test]
fn a_closed_pipe_ends_the_command_silently() {
    let rig = rig();
    // More rows than fit into a pipe (64 KiB) and a buffer.
    let connection = rusqlite::Connection::open(rig.sandbox.home(".local/share/prismq/results.db")).unwrap();
    let copies = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO results SELECT results.* FROM results, n WHERE task_id = 1";
    connection.execute(copies, []).unwrap();
    for format in ["table", "jsonl", "csv"] {
        let mut command = rig.command();
        command.args(["results", "--format", format]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (mut stderr, status) = (String::new(), child.wait().unwrap());
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((status.code(), stderr.as_str(), line.is_empty()), (Some(0), "", false), "{format}");
    }
    assert_eq!(rig.run("results --json").exits(0).stdout.lines().count(), 2003);
}

#[test]
fn a_slow_reader_does_not_make_the_write_ahead_log_grow() {
    let rig = Rig::new();
    let store = Store::open(&rig.sandbox.path("results.db")).unwrap();
    let store_big_results = |ids: std::ops::Range<u64>| {
        let now = Timestamp::now();
        for id in ids {
            let mut result = TaskResult {
                task_id: TaskId(id),
                task_type: ANY.into(),
                attempt: 1,
                worker_id: "me".into(),
                api_url: rig.url(),
                params: json!({"padding": "x".repeat(600_000)}),
                outcome: Outcome::success(Value::Null),
                claimed_at: now,
                started_at: now,
                finished_at: now,
            };
            store.finish(&mut result).unwrap();
        }
    };
    store_big_results(0..10);
    let mut command = rig.command();
    command.args(["results", "--results", "results.db", "--format", "jsonl"]).stdout(Stdio::piped());
    let mut reader = command.spawn().unwrap();
    let mut output = BufReader::with_capacity(16, reader.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    store_big_results(10..50);
    let log = std::fs::metadata(rig.sandbox.path("results.db-wal")).unwrap().len();
    assert!(log < 8 << 20, "{log} bytes, while 24 MB were written");
    assert_eq!(output.lines().count(), 9, "those that were there when it began");
    assert!(reader.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn failed_output_is_an_error() {
    let rig = rig();
    for line in ["results", "results --format jsonl", "results --format csv", "stats", "list-tasks", "config", "health"]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = output_to(&rig, line, full.into());
        complains(&output, 1, &["standard output", "the disk is full"]);
    }
}

#[cfg(target_os = "linux")]
fn output_to(rig: &Rig, line: &str, stdout: Stdio) -> crate::support::Output {
    let mut command = rig.command();
    command.args(line.split(' ')).stdout(stdout).stderr(Stdio::piped());
    let child = command.spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(child.stderr).unwrap();
    crate::support::Output { status: child.status, stdout: String::new(), stderr }
}

#[test]
fn a_missing_results_file_counts_as_empty() {
    let rig = Rig::new();
    assert_eq!(rig.run("results --json").exits(0).stdout, "");
    assert_eq!(rig.run("results").exits(0).stderr, "no result\n");
    assert_eq!(rig.run("stats --json").exits(0).json(), json!({"groups": [], "unreported": 0}));
}
