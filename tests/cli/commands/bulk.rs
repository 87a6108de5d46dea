//! `create-task --from`.

mod streaming;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use prismq::internals::server::OfferedFeatures;
use serde_json::{Value, json};

use crate::support::{ANY, Answer, NOBODY, Request, Rig, Sandbox, ScriptedServer, complains, output, says_once};

/// Lines of params, with their numbers as `n`.
fn lines(count: u64) -> String {
    (1..=count).flat_map(|n| ["{\"n\":".to_owned(), n.to_string(), "}\n".to_owned()]).collect()
}

/// The id that `create` gives to a task: 100 plus its `n`.
fn id_of(request: &Request) -> u64 {
    100 + request.json()["params"]["n"].as_u64().unwrap()
}

fn create(request: &Request) -> Answer {
    Answer::data(&json!({"id": id_of(request), "type": ANY, "status": "pending", "dedupe_key": "x"}))
}

/// A server that answers each creation by `script`: alone, and in a batch if it has that feature.
fn creating(has_batch: bool, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(move |request| match creations(request) {
        _ if request.path == "/health" => health(has_batch),
        Some(creations) => {
            Answer::data(&json!({"items": creations.iter().map(|it| entry(&script(it))).collect::<Value>()}))
        }
        None => script(request),
    })
}

fn health(has_batch: bool) -> Answer {
    let features: &[&str] = if has_batch { &["batch", "more"] } else { &[] };
    Answer::data(&json!({"status": "healthy", "database": "connected", "features": features}))
}

/// The creations in a batch, each as a request of its own.
fn creations(request: &Request) -> Option<Vec<Request>> {
    let tasks = (!request.body.is_empty()).then(|| request.json()["tasks"].take())?;
    let single = |task: &Value| Request { body: task.to_string().into(), ..request.clone() };
    Some(tasks.as_array()?.iter().map(single).collect())
}

/// The entry of a batch for the answer to a single creation.
fn entry(answer: &Answer) -> Value {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    match &body["error"] {
        Value::Null => body["data"].take(),
        error => json!({"error": error, "code": answer.status}),
    }
}

/// All creations that a server was asked for, alone and in batches.
fn requested(server: &ScriptedServer) -> Vec<Request> {
    let posts = server.requests().into_iter().filter(|request| request.method == "POST");
    posts.flat_map(|request| creations(&request).unwrap_or_else(|| vec![request])).collect()
}

fn ids(range: std::ops::RangeInclusive<u64>) -> String {
    range.flat_map(|id| [id.to_string(), "\n".to_owned()]).collect()
}

const FROM_STDIN: [&str; 4] = ["create-task", ANY, "--from", "-"];

#[test]
fn ids_are_printed_in_the_order_of_the_input() {
    for has_batch in [false, true] {
        // Later lines are answered sooner.
        let server = creating(has_batch, |request| {
            thread::sleep(Duration::from_millis(8 - id_of(request) % 8));
            create(request)
        });
        let sandbox = Sandbox::at(&server.url());
        let file = sandbox.write("many.jsonl", lines(200));
        let from = ["create-task", ANY, "--from", file.to_str().unwrap(), "--concurrency", "16"];
        let output = sandbox.prismq(from).run().exits(0);
        assert_eq!(output.stdout, ids(101..=300));
        assert_eq!(output.stderr, "200 created, 0 already existed, 0 failed\n");
        let requested: Vec<u64> = requested(&server).iter().map(id_of).collect();
        assert_eq!(requested.is_sorted(), has_batch, "single requests are concurrent");
    }
}

#[test]
fn lines_that_have_arrived_are_created_in_one_call() {
    let server = creating(true, create);
    let sandbox = Sandbox::at(&server.url());
    let file = sandbox.write("many.jsonl", lines(2500));
    let output = sandbox.prismq(["create-task", ANY, "--from", file.to_str().unwrap()]).run().exits(0);
    assert_eq!(output.stdout, ids(101..=2600));
    let calls = server.requests();
    assert_eq!(calls.iter().filter(|request| request.path == "/health").count(), 1);
    let sizes: Vec<usize> = calls.iter().filter_map(creations).map(|tasks| tasks.len()).collect();
    assert!(sizes.len() == calls.len() - 1 && sizes.len() <= 13 && sizes.contains(&250), "{sizes:?}");
}

#[test]
fn a_batch_whose_answer_is_lost_is_sent_again() {
    let lost = Mutex::new(false);
    let server = ScriptedServer::start(move |request| match creations(request) {
        Some(_) if !std::mem::replace(&mut *lost.lock().unwrap(), true) => Answer::close(),
        Some(tasks) => Answer::data(&json!({"items": tasks.iter().map(|it| entry(&create(it))).collect::<Value>()})),
        None => health(true),
    });
    let sandbox = Sandbox::at(&server.url());
    let output = sandbox.prismq(FROM_STDIN).stdin(lines(20)).run().exits(0);
    assert_eq!((output.stdout, requested(&server).len()), (ids(101..=120), 40));
}

#[test]
fn tasks_are_created_one_by_one_if_the_server_refuses_their_batch() {
    for refusal in [Answer::error(413, "too much"), Answer::data(&json!({"items": []}))] {
        let server = ScriptedServer::start(move |request| match creations(request) {
            _ if request.path == "/health" => health(true),
            Some(_) => refusal.clone(),
            None => create(request),
        });
        let sandbox = Sandbox::at(&server.url());
        assert_eq!(sandbox.prismq(FROM_STDIN).stdin(lines(20)).run().exits(0).stdout, ids(101..=120));
    }
}

#[test]
fn as_many_requests_run_at_once_as_concurrency_says() {
    /// The number of open requests, and its maximum.
    static NOW: Mutex<(usize, usize)> = Mutex::new((0, 0));
    static CAME: Condvar = Condvar::new();
    let server = creating(false, |request| {
        let mut now = NOW.lock().unwrap();
        *now = (now.0 + 1, now.1.max(now.0 + 1));
        CAME.notify_all();
        // Answers come once five requests are open.
        let (mut now, waited) = CAME.wait_timeout_while(now, Duration::from_secs(10), |(_, most)| *most < 5).unwrap();
        now.0 -= 1;
        if waited.timed_out() { Answer::error(400, "alone") } else { create(request) }
    });
    let sandbox = Sandbox::at(&server.url());
    let output = sandbox.prismq(FROM_STDIN).args(["--concurrency", "5"]).stdin(lines(40)).run().exits(0);
    assert_eq!(output.stdout, ids(101..=140));
    assert_eq!(NOW.lock().unwrap().1, 5);
    assert_eq!(server.connections(), 5, "connections are used again");
}

#[test]
fn invalid_lines_are_named_and_counted_and_do_not_stop_others() {
    for features in [OfferedFeatures::default(), OfferedFeatures::NONE] {
        invalid_lines_do_not_stop_others(&Rig::with(|settings| settings.faults.features = features));
    }
}

fn invalid_lines_do_not_stop_others(rig: &Rig) {
    rig.sandbox.write("schema.json", r#"{"type":"object","properties":{"n":{"type":"integer","maximum":50}}}"#);
    rig.run("register-type example.small --schema schema.json").exits(0);
    let mut input = b"{\"n\":1}\r\n\n  \t\n{\"n\":\n[1]\n\"text\"\n{\"n\":99}\n{\"n\":1}\n\xff\xfe\n{\"n\":2}".to_vec();
    input.splice(0..0, "\u{feff}x\n".bytes());
    let output = rig.prismq("create-task example.small --from - --concurrency 1").stdin(input).run().exits(1);
    let ids: Vec<u64> = output.stdout.lines().map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 3 && ids[0] == ids[1] && ids[1] < ids[2], "{ids:?}");
    let stderr: Vec<&str> = output.stderr.lines().collect();
    for (line, (number, words)) in stderr.iter().zip([
        (1, "not valid JSON"),
        (5, "not valid JSON"),
        (6, "must be a JSON object"),
        (7, "must be a JSON object"),
        (8, "maximum of 50"),
        (10, "not valid JSON"),
    ]) {
        assert!(line.starts_with(&format!("line {number}: ")) && line.contains(words), "{line}");
    }
    assert_eq!(stderr.last(), Some(&"2 created, 1 already existed, 6 failed"));
    assert_eq!(stderr.len(), 7);
}

#[test]
fn each_task_is_a_line_of_json_with_json() {
    let rig = Rig::new();
    let output = rig.prismq("create-task example.any --from - --json --concurrency 1").stdin("{}\nx\n{}\n").run();
    let lines = output.exits(1).json_lines();
    let task = |deduplicated| json!({"id": 1, "type": ANY, "status": "pending", "deduplicated": deduplicated});
    assert_eq!(lines, [task(false), task(true)]);
}

#[test]
fn priority_applies_to_every_line() {
    for has_batch in [false, true] {
        let server = creating(has_batch, create);
        let sandbox = Sandbox::at(&server.url());
        sandbox.prismq(FROM_STDIN).args(["--priority", "-2"]).stdin(lines(3)).run().exits(0);
        assert_eq!(
            requested(&server).iter().map(|it| it.json()["priority"].as_i64()).collect::<Vec<_>>(),
            [Some(-2); 3]
        );
    }
}

#[test]
fn a_line_that_is_too_long_is_invalid() {
    let rig = Rig::new();
    let mut input = format!("{{\"a\":\"{}\"}}\n", "x".repeat(17 << 20)).into_bytes();
    input.extend(b"{\"n\":1}\n");
    let output = rig.prismq("create-task example.any --from -").stdin(input).run().exits(1);
    assert_eq!(output.stdout.lines().count(), 1);
    assert_eq!(output.stderr, "line 1: it is longer than 16 MiB\n1 created, 0 already existed, 1 failed\n");
}

#[test]
fn unreadable_input_is_an_error() {
    let rig = Rig::new();
    complains(&rig.run("create-task example.any --from nofile"), 2, &["--from", "nofile"]);
    complains(&rig.run("create-task example.any --from ."), 2, &["--from: cannot read .: it is a folder"]);
    let mut from_stdin = rig.command();
    let from_stdin = from_stdin.args(["create-task", "example.any", "--from", "-"]).stdin(File::open(".").unwrap());
    complains(&output(from_stdin), 2, &["--from: cannot read standard input: it is a folder"]);
    let empty = rig.run("create-task example.any --from -").exits(0);
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "0 created, 0 already existed, 0 failed\n"));
}

#[test]
fn an_error_that_all_lines_share_is_printed_once() {
    let sandbox = Sandbox::at(NOBODY);
    let nobody = sandbox.prismq(FROM_STDIN).stdin(lines(50)).start();
    let rig = Rig::new();
    let unknown = rig.prismq("create-task no.such --from -").stdin(lines(50)).run();
    complains(&unknown, 2, &["line 1: ", "no.such", "register-type"]);
    complains(&nobody.wait(), 4, &["line 1: cannot reach", NOBODY]);
}

#[test]
fn an_interrupted_run_can_be_repeated() {
    let server = creating(false, {
        let failing = Mutex::new(HashMap::<u64, bool>::new());
        move |request| {
            let id = id_of(request);
            let before = failing.lock().unwrap().insert(id, true).is_some();
            match id {
                110 if !before => Answer::error(422, "not today").with_body("<html>"),
                _ => Answer::data(
                    &json!({"id": id, "type": ANY, "status": "pending", "dedupe_key": "x", "deduplicated": before}),
                ),
            }
        }
    });
    let sandbox = Sandbox::at(&server.url());
    let first = sandbox.prismq(FROM_STDIN).stdin(lines(20)).run().exits(4);
    assert_eq!(first.stdout, ids(101..=109));
    says_once(&first, &["line 10: "]);
    let second = sandbox.prismq(FROM_STDIN).stdin(lines(20)).run().exits(0);
    assert_eq!(second.stdout, ids(101..=120));
    let counts: Vec<u64> = second.stderr.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!((counts[0] + counts[1], counts[2]), (20, 0), "{}", second.stderr);
}

#[test]
fn the_server_stores_the_params_that_were_sent() {
    let rig = Rig::new();
    let ids = rig.prismq("create-task example.any --from -").stdin("{\"b\":1,\"a\":[true]}\n").run().exits(0).stdout;
    let task: Value = rig.task(ids.trim().parse().unwrap());
    assert_eq!(task["params"], json!({"a": [true], "b": 1}));
}
