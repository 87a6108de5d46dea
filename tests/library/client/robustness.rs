//! Damaged recorded answers: each gives a value or a one-line error, and no panic.

use prismq::internals::taskmanager::{Client, Order, TaskFilter};
use prismq::{Outcome, TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::{SEARCH, client, report};
use crate::support::{Answer, ScriptedServer, recorded};

type Call = fn(&Client) -> Result<(), Error>;

/// An answer of each kind, with its call.
const CALLS: [(&str, Call); 9] = [
    ("health, no key needed", |client| client.health().map(drop)),
    ("register a new type", |client| client.register_type("a", "1", &json!({})).map(drop)),
    ("type by name", |client| client.task_type(SEARCH).map(drop)),
    ("create", |client| client.create(SEARCH, &json!({}), None).map(drop)),
    ("claim", |client| client.claim("worker-1", 1, Order::OldestFirst).map(drop)),
    ("show a task", |client| client.task(TaskId(1)).map(drop)),
    ("list tasks by status and type", |client| client.tasks(&TaskFilter::default()).map(drop)),
    ("rate limited", |client| client.check_key()),
    ("create: params an empty object", |client| client.create(SEARCH, &json!({}), None).map(drop)),
];

/// Every path to a value inside `value`, itself included.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| paths(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| paths(value, &format!("{path}/{index}"), found));
        }
        _ => {}
    }
}

/// Removes the value at `path`.
fn without(whole: &Value, path: &str) -> Value {
    let mut whole = whole.clone();
    if let Some((parent, key)) = path.rsplit_once('/') {
        match whole.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(key)),
            Value::Array(items) => drop(items.remove(key.parse().unwrap())),
            _ => unreachable!("only these have children"),
        }
    }
    whole
}

/// The body with every field dropped and retyped, one at a time.
fn damaged(body: &Value) -> Vec<Value> {
    let others = [
        Value::Null,
        json!(true),
        json!(""),
        json!("text \u{1b}[2J\n"),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!([[], null]),
        json!({}),
        json!({"items": {"items": [7]}}),
    ];
    let mut found = Vec::new();
    paths(body, "", &mut found);
    let mut bodies = Vec::new();
    for path in found {
        bodies.push(without(body, &path));
        for other in &others {
            let mut retyped = body.clone();
            *retyped.pointer_mut(&path).unwrap() = other.clone();
            bodies.push(retyped);
        }
    }
    bodies
}

/// Calls once for each answer, and checks each error's text.
fn survives(call: Call, answers: Vec<Answer>) -> Vec<Result<(), Error>> {
    let count = answers.len();
    let server = ScriptedServer::queue(answers);
    let client = client(&server);
    let results: Vec<_> = (0..count).map(|_| call(&client)).collect();
    assert_eq!(server.requests().len(), count);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        let text = error.to_string();
        assert!(!text.contains(char::is_control) && text.chars().count() < 1200, "{text:?}");
    }
    results
}

fn survives_damage(rows: &[(&str, Call)]) {
    for (name, call) in rows {
        let whole = recorded(name);
        let body: Value = serde_json::from_slice(&whole.body).unwrap();
        let answers: Vec<Answer> =
            damaged(&body).iter().map(|body| whole.clone().with_body(body.to_string())).collect();
        assert!(answers.len() > 50, "{name}: only {} damaged answers", answers.len());
        survives(*call, answers);
    }
}

#[test]
fn a_damaged_answer_about_types_is_survived() {
    survives_damage(&CALLS[..3]);
}

#[test]
fn a_damaged_answer_about_work_is_survived() {
    survives_damage(&CALLS[3..5]);
}

#[test]
fn a_damaged_answer_about_a_task_is_survived() {
    survives_damage(&CALLS[5..6]);
}

#[test]
fn a_damaged_list_or_refusal_is_survived() {
    survives_damage(&CALLS[6..]);
}

#[test]
fn a_damaged_look_at_a_reported_task_never_confirms_it_for_another() {
    let body: Value = serde_json::from_slice(&recorded("show a task").body).unwrap();
    let call: Call = |client| client.resend_report(&report(Outcome::success(json!(1)))).map(drop);
    for changed in ["claimed_by", "attempts", "status"] {
        let mut body = body.clone();
        body["data"]["items"][0][changed] = json!({"neither": "text nor number"});
        let server = ScriptedServer::queue([Answer::json(200, &body)]);
        let _ = call(&client(&server));
        assert_eq!(server.calls(), ["GET /tasks/1"], "nothing is sent for a task that may be another's");
    }
}

#[test]
fn an_answer_that_ends_anywhere_is_an_error() {
    for (name, call) in [CALLS[4], CALLS[7]] {
        let whole = recorded(name);
        let answers = (0..whole.body.len()).map(|length| whole.clone().with_body(&whole.body[..length]));
        let results = survives(call, answers.collect());
        assert!(results.iter().all(Result::is_err), "{name}");
    }
}

#[test]
fn deeply_nested_json_is_an_error() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let body = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let server = ScriptedServer::queue([Answer::new(200, "application/json", body)]);
        assert!(client(&server).task(TaskId(1)).is_err());
    }
}
