//! Properties of reading arbitrary answers: every call returns a value or a one-line error, in bounded time and memory.
//! `PROPTEST_CASES` sets the number of answers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::{Map, Value, json};

use prismq::internals::taskmanager::{Client, Order, TaskFilter};
use prismq::{ErrorType, Outcome, TaskId, TaskManagerError as Error};

use crate::client::{SEARCH, client, report};
use crate::support::{Answer, ScriptedServer, recordings};

type Call = fn(&Client) -> Result<(), Error>;

/// All calls.
const CALLS: [(&str, Call); 13] = [
    ("health", |client| client.health().map(drop)),
    ("check_key", Client::check_key),
    ("register_type", |client| client.register_type("a", "1", &json!({})).map(drop)),
    ("task_type", |client| client.task_type(SEARCH).map(drop)),
    ("task_types", |client| client.task_types().map(drop)),
    ("create", |client| client.create(SEARCH, &json!({}), None).map(drop)),
    ("claim", |client| client.claim("worker-1", 1, Order::OldestFirst).map(drop)),
    ("progress", |client| client.progress(TaskId(1), "worker-1", 50, None)),
    ("task", |client| client.task(TaskId(1)).map(drop)),
    ("tasks", |client| client.tasks(&TaskFilter::default()).map(drop)),
    ("deliver", |client| client.send_report(&report(Outcome::success(json!(1)))).map(drop)),
    ("deliver a failure", |client| client.send_report(&report(Outcome::failure(ErrorType::Crash, "x"))).map(drop)),
    ("deliver again", |client| client.resend_report(&report(Outcome::success(json!(1)))).map(drop)),
];

/// A server that gives the same answer to all requests, until it is changed.
struct Stage {
    answer: Arc<Mutex<Answer>>,
    server: ScriptedServer,
}

impl Stage {
    fn new() -> Self {
        let answer = Arc::new(Mutex::new(Answer::close()));
        let server = ScriptedServer::start({
            let answer = Arc::clone(&answer);
            move |_| answer.lock().unwrap().clone()
        });
        Self { answer, server }
    }

    /// Makes every call against `answer`, and checks its result, time and memory.
    fn try_calls(&self, client: &Client, answer: &Answer) {
        *self.answer.lock().unwrap() = answer.clone();
        for (name, call) in CALLS {
            let (start, mut result) = (Instant::now(), Ok(()));
            let memory = allocation_counter::measure(|| result = call(client)).bytes_max;
            assert!(start.elapsed() < Duration::from_secs(30), "{name} took {:?}", start.elapsed());
            assert!(memory <= most_memory(answer.body.len()), "{name} took {memory} bytes");
            if let Err(error) = result {
                let text = error.to_string();
                assert!(!text.contains(char::is_control) && text.chars().count() < 1200, "{name}: {text:?}");
            }
        }
    }
}

/// Maximum memory for reading an answer of that length: half a MiB each for a few connections and their buffers, since kept
/// ones may turn out to be closed, and 256 bytes for each of its own. The most comes of `{"":{"":{"":…`, an object of 632
/// bytes for every five of JSON, and its copy.
fn most_memory(length: usize) -> u64 {
    (2 << 20) + 256 * u64::try_from(length).unwrap()
}

/// Number of answers for each property; every call gets each of them.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(64, |cases| cases.parse().unwrap())
}

/// Tests the answers of `strategy`. Failing ones are kept in `proptest-regressions` and tested first.
fn check(strategy: impl Strategy<Value = Answer>) {
    let stage = Stage::new();
    let client = client(&stage.server);
    let mut runner = TestRunner::new(Config { cases: cases(), source_file: Some(file!()), ..Config::default() });
    let result = runner.run(&strategy, |answer| {
        stage.try_calls(&client, &answer);
        Ok(())
    });
    if let Err(TestError::Fail(reason, answer)) = result {
        panic!("{reason}\n{answer:?}\n{}", String::from_utf8_lossy(&answer.body));
    }
    result.unwrap();
}

fn answers() -> Vec<Answer> {
    recordings().iter().map(|recording| recording.answer.clone()).collect()
}

/// Any JSON, often with the field names of answers.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(|number| json!(number.to_string())),
        any::<String>().prop_map(Value::from),
        select(&["pending", "claimed", "completed", "failed", "worker-1", SEARCH][..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any_name(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 19] = [
        "success",
        "data",
        "error",
        "details",
        "message",
        "items",
        "id",
        "type",
        "status",
        "params",
        "result",
        "attempts",
        "claimed_by",
        "error_message",
        "name",
        "version",
        "param_schema",
        "properties",
        "retry_after",
    ];
    prop_oneof![4 => select(&NAMES[..]).prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_status() -> impl Strategy<Value = u16> {
    prop_oneof![2 => Just(200_u16), 2 => select(&[301_u16, 400, 401, 403, 404, 413, 429, 500, 502, 503][..]), 1 => 200..=599_u16]
}

/// Values of `Retry-After`.
fn any_wait() -> impl Strategy<Value = String> {
    prop_oneof![any::<u64>().prop_map(|seconds| seconds.to_string()), "[ -~]{0,20}"]
}

#[test]
fn any_json_is_a_value_or_an_error() {
    let enveloped = (any::<bool>(), any_json()).prop_map(|(success, inside)| {
        let key = if success { "data" } else { "error" };
        json!({"success": success, key: inside})
    });
    let body = prop_oneof![any_json(), enveloped];
    check(
        (any_status(), body, any_wait())
            .prop_map(|(status, body, wait)| Answer::json(status, &body).header("Retry-After", &wait)),
    );
}

#[test]
fn any_bytes_are_a_value_or_an_error() {
    let as_body =
        (any_status(), vec(any::<u8>(), 0..200)).prop_map(|(status, body)| Answer::new(status, "text/html", body));
    let raw = vec(any::<u8>(), 0..200).prop_map(Answer::raw);
    let head = (any_status(), "[ -~\r\n]{0,60}", vec(any::<u8>(), 0..60)).prop_map(|(status, head, body)| {
        let head = format!("HTTP/1.1 {status} OK\r\n{head}\r\n\r\n");
        Answer::raw([head.as_bytes(), &body].concat())
    });
    check(prop_oneof![2 => as_body, 1 => raw, 1 => head]);
}

#[test]
fn a_recorded_answer_with_other_bytes_is_a_value_or_an_error() {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    check((select(answers()), changes, any::<Index>()).prop_map(|(answer, changes, length)| {
        let mut body = answer.body.clone();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        // Half of them are cut.
        body.truncate(2 * length.index(body.len()));
        answer.with_body(body)
    }));
}

/// A change of a value, or of a field with its name.
#[derive(Debug, Clone)]
enum Damage {
    Drop,
    Retype(Value),
    /// The field occurs twice; this is the second value.
    Double(Value),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![Just(Damage::Drop), any_json().prop_map(Damage::Retype), any_json().prop_map(Damage::Double)]
}

#[test]
fn a_recorded_answer_with_one_field_damaged_is_a_value_or_an_error() {
    let whole: Vec<(Answer, Value)> = answers()
        .into_iter()
        .filter_map(|answer| serde_json::from_slice(&answer.body).ok().map(|body| (answer, body)))
        .collect();
    assert!(whole.len() > 60, "{} are JSON", whole.len());
    check(
        (select(whole), any::<Index>(), any_damage()).prop_map(|((answer, body), at, damage)| {
            answer.with_body(damaged(&body, at.index(fields(&body)), &damage))
        }),
    );
}

/// Counts the fields and items in `value`, at any depth.
fn fields(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.values().map(|value| 1 + fields(value)).sum(),
        Value::Array(items) => items.iter().map(|value| 1 + fields(value)).sum(),
        _ => 0,
    }
}

/// Returns the JSON text of `value` with one field damaged.
fn damaged(value: &Value, number: usize, damage: &Damage) -> String {
    let mut left = number;
    write(value, &mut left, damage)
}

fn write(value: &Value, left: &mut usize, damage: &Damage) -> String {
    match value {
        Value::Object(object) => {
            let named = object.iter().map(|(name, value)| (format!("{}:", json!(name)), value));
            format!("{{{}}}", write_parts(named, left, damage))
        }
        Value::Array(items) => {
            format!("[{}]", write_parts(items.iter().map(|item| (String::new(), item)), left, damage))
        }
        plain => plain.to_string(),
    }
}

fn write_parts<'a>(parts: impl Iterator<Item = (String, &'a Value)>, left: &mut usize, damage: &Damage) -> String {
    let mut written = Vec::new();
    for (name, value) in parts {
        let is_hit = *left == 0;
        *left = left.wrapping_sub(1);
        match damage {
            Damage::Drop if is_hit => {}
            Damage::Retype(other) if is_hit => written.push(format!("{name}{other}")),
            Damage::Double(second) if is_hit => written.extend([format!("{name}{value}"), format!("{name}{second}")]),
            _ => written.push(name + &write(value, left, damage)),
        }
    }
    written.join(",")
}

#[test]
fn damage_is_done() {
    let value = json!({"a": [1, {"b": null}], "c": 2});
    assert_eq!(fields(&value), 5);
    let all = |damage: Damage| [0, 1, 2, 3, 4].map(|number| damaged(&value, number, &damage));
    assert_eq!(
        all(Damage::Drop),
        [
            r#"{"c":2}"#,
            r#"{"a":[{"b":null}],"c":2}"#,
            r#"{"a":[1],"c":2}"#,
            r#"{"a":[1,{}],"c":2}"#,
            r#"{"a":[1,{"b":null}]}"#,
        ]
    );
    assert_eq!(all(Damage::Retype(json!(7)))[3], r#"{"a":[1,{"b":7}],"c":2}"#);
    assert_eq!(all(Damage::Double(json!(7)))[4], r#"{"a":[1,{"b":null}],"c":2,"c":7}"#);
}

/// The shapes that take the most memory for their length.
#[test]
fn a_long_answer_takes_memory_by_its_length() {
    let stage = Stage::new();
    let client = client(&stage.server);
    let many = 4_000;
    let lists = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let objects = (0..100).fold(json!(1), |inner, _| json!({"": inner}));
    for data in [
        Value::Array(vec![json!(1); many]),
        Value::Array(vec![json!({}); many]),
        Value::Array(vec![json!({"id": 1, "name": ""}); many / 10]),
        Value::Object((0..many).map(|n| (n.to_string(), json!(1))).collect::<Map<_, _>>()),
        Value::Array(vec![lists; many / 100]),
        json!({"id": 1, "type": "a", "status": "pending", "attempts": 1, "params": vec![objects; many / 100]}),
        json!({"id": 1, "name": "a", "param_schema": {"allOf": vec![json!([]); many]}}),
        json!("\u{1}".repeat(many)),
    ] {
        stage.try_calls(&client, &Answer::data(&data));
    }
}
