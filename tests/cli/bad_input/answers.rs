//! Missing, wrong and refusing servers, and answers that are damaged, cut short, endless or invalid.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    ANY, Answer, NOBODY, Output, Request, Running, Sandbox, ScriptedServer, at_once, complains, recorded, type_found,
};

const KEY: &str = "a-key-of-the-tests";

/// One command for each call that a command can make first.
const COMMANDS: [&str; 12] = [
    "register-type example.any --schema {\"type\":\"object\"}",
    "list-types",
    "list-tasks",
    "show-task 7",
    "create-task example.any a=1",
    "create-task example.any --from lines.jsonl",
    "claim example.any --once",
    "claim example.any --run",
    "complete 7 --worker-id me",
    "fail 7 --error x --worker-id me",
    "progress 7 5 --worker-id me",
    "work example.any --drain -qq",
];

fn sandbox(url: &str) -> Sandbox {
    let sandbox = Sandbox::at(url);
    sandbox.write("lines.jsonl", "{\"a\":1}\n");
    sandbox.write("prismq.toml", "[[task_type]]\nname = \"example.any\"\nexec = [\"cat\"]\n");
    sandbox
}

/// Runs all commands concurrently against `url`, each with its own results file.
fn run_all(url: &str, key: Option<&str>) -> Vec<(&'static str, Output)> {
    let sandbox = sandbox(url);
    let start = |(number, line): (usize, &'static str)| {
        let results = format!("{number}.db");
        let prismq = sandbox.prismq(line.split(' ')).args(["--results", &results]);
        let prismq = if let Some(key) = key { prismq.env("TASKMANAGER_API_KEY", key) } else { prismq };
        (line, prismq.start())
    };
    let running: Vec<(&str, Running)> = COMMANDS.into_iter().enumerate().map(start).collect();
    running.into_iter().map(|(line, running)| (line, running.wait())).collect()
}

/// Asserts that every command complains with this code and these words.
#[track_caller]
fn all_complain(url: &str, code: i32, words: &[&str]) {
    for (line, output) in run_all(url, Some(KEY)) {
        assert_eq!(output.code(), code, "{line}: {output:?}");
        complains(&output, code, words);
        assert!(!output.stderr.contains(KEY), "{output:?}");
    }
}

#[test]
fn refused_key_is_exit_code_5() {
    let server = ScriptedServer::always(recorded("wrong key"));
    all_complain(&server.url(), 5, &["refused the key", "TASKMANAGER_API_KEY"]);
    // `create-task --from` asks for the server's features first, which needs no key.
    let with_key = server.calls().into_iter().filter(|call| call != "GET /health");
    assert_eq!(with_key.count(), COMMANDS.len(), "it is not tried again");
    for (_, output) in run_all(&server.url(), None) {
        complains(&output, 5, &["without a key", "set TASKMANAGER_API_KEY, or TASKMANAGER_API_KEY_FILE"]);
    }
}

#[test]
fn web_pages() {
    at_once([200, 404, 403, 302], |status| {
        let server = ScriptedServer::always(Answer::page(status));
        let words = &["no TaskManager at", "TASKMANAGER_API_URL must be its base URL"];
        all_complain(&server.url(), 4, words);
    });
}

#[test]
fn temporary_server_errors_are_retried_then_exit_code_4() {
    let away = ScriptedServer::always(recorded("backend down"));
    let ill = ScriptedServer::always(recorded("the server's database is down"));
    let cut_short = ScriptedServer::start(|request| match request.path.len() % 3 {
        0 => Answer::data(&json!({"id": 1})).cut_short(),
        1 => Answer::new(200, "application/json", "{\"success\":true,\"data\":{\"id\":"),
        _ => Answer::close(),
    });
    // Each is retried for some seconds, so they run concurrently.
    thread::scope(|scope| {
        for (url, words) in [
            (NOBODY.to_owned(), ["cannot reach the TaskManager at http://127.0.0.1:1/api", "TASKMANAGER_API_URL"]),
            (away.url(), ["is unavailable: the proxy in front of it cannot reach it (502)", "try again later"]),
            (ill.url(), ["is unavailable: Internal server error (500)", "try again later"]),
            (cut_short.url(), ["cannot reach the TaskManager at", &cut_short.url()]),
        ] {
            let words = words.map(str::to_owned);
            scope.spawn(move || all_complain(&url, 4, &words.each_ref().map(String::as_str)));
        }
    });
    assert!(away.calls().len() > 3 * COMMANDS.len(), "it is tried again: {}", away.calls().len());
}

#[test]
fn endless_answers() {
    let endless: [fn() -> Answer; 2] =
        [|| Answer::json(200, &json!(1)).endless_chunks(), || Answer::json(200, &json!(1)).endless_body()];
    for answer in endless {
        let server = ScriptedServer::start(move |_| answer());
        all_complain(&server.url(), 4, &["the answer is longer than 33 MiB"]);
    }
}

#[test]
fn answers_that_are_not_http() {
    let server = ScriptedServer::always(Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"));
    for (_, output) in run_all(&server.url(), None) {
        complains(&output, 4, &["TaskManager"]);
    }
}

/// JSON answers of an unexpected shape.
fn shapes() -> Vec<Value> {
    let data = [
        json!(null),
        json!(42),
        json!("text"),
        json!([7]),
        json!({"id": "seven"}),
        json!({"id": -7, "name": ANY, "type": ANY, "status": "pending", "attempts": 1}),
        json!({"items": [{"name": 5}]}),
    ];
    let bare = [json!(null), json!([7]), json!({"success": true})];
    data.into_iter().map(|data| json!({"success": true, "data": data})).chain(bare).collect()
}

/// Asserts that a command rejects unexpected answers to the calls that `is_spoilt` selects; all others are answered
/// properly.
#[track_caller]
fn sees_through(line: &str, is_spoilt: fn(&Request) -> bool) {
    let see_through = |shape: Value| {
        let words = shape.to_string();
        let server =
            ScriptedServer::start(
                move |request| if is_spoilt(request) { Answer::json(200, &shape) } else { proper(request) },
            );
        let sandbox = sandbox(&server.url());
        let output = sandbox.prismq(line.split(' ')).run();
        // An empty answer to a lookup of a type or a task means that it does not exist.
        let codes: &[i32] = if line.contains(ANY) { &[1, 2] } else { &[1] };
        assert!(codes.contains(&output.code()), "{line} took {words}: {output:?}");
        complains(&output, output.code(), &[]);
    };
    at_once(shapes(), see_through);
}

/// The answers of a TaskManager with the type [`ANY`] and task 7, claimed by `me`.
fn proper(request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path.starts_with("/task-types/") => type_found(),
        ("GET", _) => Answer::data(&task()),
        (_, "/tasks/claim") => Answer::data(&json!({"id": 7, "type": ANY, "params": {}, "attempts": 1})),
        _ => Answer::data(&json!({"id": 7, "status": "pending"})),
    }
}

fn task() -> Value {
    json!({"id": 7, "type": ANY, "status": "claimed", "attempts": 1, "claimed_by": "me", "params": {}})
}

#[test]
fn unexpected_json_about_types_is_an_invalid_answer() {
    sees_through("register-type example.any --schema {\"type\":\"object\"}", |_| true);
    sees_through("list-types", |_| true);
    sees_through("claim example.any --once", |request| request.method == "GET");
    sees_through("work example.any --drain -qq", |request| request.method == "GET");
}

#[test]
fn unexpected_json_about_tasks_is_an_invalid_answer() {
    sees_through("list-tasks", |_| true);
    sees_through("show-task 7", |_| true);
    sees_through("create-task example.any a=1", |_| true);
    sees_through("create-task example.any --from lines.jsonl", |_| true);
    sees_through("claim example.any --once", |request| request.path == "/tasks/claim");
    sees_through("work example.any --drain -qq", |request| request.path == "/tasks/claim");
}

#[test]
fn unexpected_json_about_a_report_is_an_invalid_answer() {
    sees_through("complete 7 --worker-id me", |request| request.method == "GET");
    sees_through("complete 7 --worker-id me", |request| request.path == "/tasks/7/complete");
    sees_through("fail 7 --error x --worker-id me", |request| request.path == "/tasks/7/complete");
    sees_through("progress 7 5 --worker-id me", |request| request.path == "/tasks/7/progress");
}

#[test]
fn a_result_stays_stored_if_the_answer_to_its_report_is_invalid() {
    for answer in [Answer::json(200, &json!({"ok": true})), Answer::page(200), recorded("wrong key")] {
        let server = ScriptedServer::start(move |request| match request.path.as_str() {
            "/tasks/7/complete" => answer.clone(),
            _ => proper(request),
        });
        let sandbox = sandbox(&server.url());
        let output = sandbox.prismq(["complete", "7", "--result", "42", "--worker-id", "me"]).run();
        assert!(output.code() != 0 && output.stderr.contains("is stored in the results file"), "{output:?}");
        let rows = sandbox.prismq(["results", "--json"]).run().exits(0).json_lines();
        assert_eq!((&rows[0]["data"], &rows[0]["reported_at"]), (&json!(42), &Value::Null));
    }
}

#[test]
fn waiting_for_a_result_ends_at_an_invalid_answer() {
    for (answer, code) in [
        (Answer::page(200), 4),
        (Answer::data(&json!({"id": 7})), 1),
        (recorded("wrong key"), 5),
        (Answer::data(&task()).endless_chunks(), 4),
    ] {
        let server = ScriptedServer::start(move |request| match request.method.as_str() {
            "GET" => answer.clone(),
            _ => proper(request),
        });
        let output = sandbox(&server.url()).prismq(["create-task", ANY, "a=1", "--wait"]).run().exits(code);
        let last = output.stderr.lines().last().unwrap();
        assert!(last.starts_with("prismq: ") && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn health_shows_invalid_answers() {
    let answers = [
        Answer::page(200),
        Answer::page(404),
        recorded("backend down"),
        Answer::json(200, &json!({"success": true, "data": 42})),
        Answer::data(&json!({"status": "healthy"})).cut_short(),
        Answer::data(&json!({"status": "healthy"})).endless_chunks(),
        Answer::close(),
    ];
    at_once(answers, |answer| {
        let server = ScriptedServer::always(answer);
        let output = sandbox(&server.url()).prismq(["health", "--json"]).run().exits(1);
        let report = output.json();
        assert_eq!((&report["healthy"], &report["api_connectivity"]), (&json!(false), &json!(false)));
        assert!(report["api_error"].is_string() && output.stderr.is_empty(), "{output:?}");
    });
}

#[test]
fn a_worker_keeps_results_whose_reports_get_invalid_answers() {
    let server = ScriptedServer::start(|request| match request.path.as_str() {
        "/tasks/7/complete" => Answer::json(200, &json!({"ok": true})),
        _ => proper(request),
    });
    let sandbox = sandbox(&server.url());
    let output = sandbox.prismq(["work", ANY, "--max-tasks", "1", "--worker-id", "me", "-qq"]).run();
    let words = ["unreported results: 1", "(task 7)", "the next worker with this results file"];
    assert_eq!((output.code(), output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{output:?}");
    let rows = sandbox.prismq(["results", "--json"]).run().exits(0).json_lines();
    assert_eq!((&rows[0]["status"], &rows[0]["reported_at"]), (&json!("completed"), &Value::Null));
}
