//! The preset `published` against what was recorded from the published server: the same requests, and answers that are
//! the same to the byte, except for times, hashes, and the order of keys inside params, results and schemas.

use std::collections::BTreeSet;
use std::time::Duration;

use prismq::internals::TaskResult;
use prismq::internals::server::Settings;
use prismq::internals::taskmanager::{Client, Connection, Delivery, Order, ResultReport, Retries, TaskFilter};
use prismq::{ErrorType, Outcome, TaskId, TaskManagerError as Error, Timestamp};
use serde_json::{Value, json};

use crate::api::Api;
use crate::exchange::exchange;
use crate::support::{Body, Exchange, FakeClock, Recording, recordings};

const KEY: &str = "s3cret";
const SEARCH: &str = "PrismQ.YouTube.Video.Search";

fn published(change: impl FnOnce(&mut Settings)) -> Api {
    Api::start_with(|settings| {
        settings.api_key = Some(KEY.to_owned());
        settings.faults.published = true;
        change(settings);
    })
}

/// Recorded one after the other, from an empty server on.
const SESSION: [&str; 53] = [
    "health, no key needed",
    "missing key",
    "wrong key",
    "register a new type",
    "register the same type again",
    "register: schema without type",
    "register: schema missing",
    "type by name",
    "type by name, unknown",
    "list types",
    "list active types",
    "create",
    "create the same again",
    REORDERED,
    "create: unknown type",
    "create: params break the schema",
    "create: params an empty object",
    "create: params a list",
    "create: not JSON",
    "create: params over 65,535 bytes",
    "claim",
    "claim: by priority",
    "claim: queue empty",
    "claim: type that does not exist",
    "claim: no task_type_id",
    "claim: bad sort_by",
    "progress",
    "progress: out of range",
    "progress: another worker's task",
    "show a task",
    "show a task that does not exist",
    "complete: another worker's task",
    "complete: result over 65,535 bytes",
    "complete",
    "complete the same again",
    "show the completed task",
    "fail with attempts left",
    "claim it again, attempt 2",
    "fail it again, attempt 2",
    "claim it again, attempt 3",
    "fail it again, attempt 3",
    "show the failed task",
    "complete a task that does not exist",
    "complete without success",
    "list tasks",
    "list tasks by status and type",
    "list tasks: limit below zero",
    "no such endpoint",
    "register a type that takes anything",
    "create: unusual values",
    "claim: unusual values come back changed",
    "complete with an empty result",
    "show it: the empty result is null",
];

/// To the preset, params with their keys in another order are the same. So this test sends others, here and wherever
/// that task comes back.
const REORDERED: &str = "create the same, keys in another order";
const SENT_REORDERED: &str = r#"{"max_results":5,"search_query":"startup ideas"}"#;
const SENT_HERE: &str = r#"{"max_results":4,"search_query":"startup ideas"}"#;

/// On a task that was handed out before, and whose claim runs out at once.
const EXPIRED: [&str; 3] = [
    "claim: a task whose claim ran out",
    "complete: by the worker whose claim ran out",
    "progress: by the worker whose claim ran out",
];
const WORN_OUT: [&str; 3] = ["claim: a task handed out nine times before", "fail it", "trailing slash"];
const ODD: [&str; 3] = ["show: id not a number", "claim: worker_id missing", "body over the proxy's limit"];
const NOT_ACTIVE: [&str; 1] = ["create: type not active"];
const BROKEN: [&str; 2] = ["the server's database is down", "health while the database is down"];

/// The kinds of faults, which are tried with them.
const FAULTS: [&str; 3] = ["rate limited", "backend down", "complete: deadlock in the server's database"];

/// Chance of its database, which nothing can provoke here.
const LEFT_OUT: [&str; 1] = ["create: two at once with the same params"];

fn recording(name: &str) -> &'static Recording {
    recordings().iter().find(|recording| recording.name == name).unwrap_or_else(|| panic!("no recording is {name:?}"))
}

/// Sends what was recorded under the name.
fn ask(api: &Api, name: &str) -> Exchange {
    let recording = recording(name);
    let body = match &recording.body {
        Body::None => String::new(),
        Body::Json(_) if name == REORDERED => {
            json!({"type": SEARCH, "params": SENT_HERE.parse::<Value>().unwrap()}).to_string()
        }
        Body::Json(json) => json.to_string(),
        Body::NotJson(text) => text.clone(),
        Body::Long(length) => long(&recording.path, *length),
    };
    let key = if name == "wrong key" { "wrong" } else { KEY };
    let request = (recording.method.as_str(), recording.path.as_str());
    exchange(api.server.address(), request, recording.with_key.then_some(key), &body).unwrap()
}

/// A body of the recorded length for a call whose own was not kept.
fn long(path: &str, length: usize) -> String {
    let with = |text: String| match path {
        "/tasks" => json!({"type": SEARCH, "params": {"search_query": text}}).to_string(),
        _ => json!({"worker_id": "worker-1", "success": true, "result": {"data": text}}).to_string(),
    };
    with("x".repeat(length - with(String::new()).len()))
}

/// Replays what was recorded under the names, one after the other.
fn replay(api: &Api, names: &[&str]) {
    for name in names {
        let (got, expected) = (ask(api, name), &recording(name).answer);
        let body = String::from_utf8(expected.body.clone()).unwrap().replace(SENT_REORDERED, SENT_HERE);
        let is_newest_first = *name == "list tasks" && got.body.contains(r#"[{"id":2,"#);
        let body = if is_newest_first { newest_first(&body) } else { body };
        assert_eq!(comparable(&got.body), comparable(&body), "{name}");
        assert_eq!(got.status, expected.status, "{name}");
        assert_eq!(got.header("content-type"), Some(expected.headers[0].1.as_str()), "{name}");
    }
}

/// Two tasks that were created in the same second when they were recorded, and here in two.
fn newest_first(body: &str) -> String {
    let (first, second) = body.split_once("},{").unwrap();
    let ((head, first), (second, tail)) = (first.split_once("[{").unwrap(), second.split_once("}]").unwrap());
    format!("{head}[{{{second}}},{{{first}}}]{tail}")
}

/// The body without what is another's in every run: times and hashes; and with sorted keys where people's own are.
fn comparable(body: &str) -> String {
    let mut body = body.to_owned();
    for key in ["timestamp", "created_at", "updated_at", "claimed_at", "completed_at", "dedupe_key"] {
        let shape = |value: Value| match value {
            Value::String(text) => json!(text.replace(|c: char| c.is_ascii_hexdigit(), "0")).to_string(),
            Value::Number(_) => "0".to_owned(),
            other => other.to_string(),
        };
        body = with_values(&body, key, shape);
    }
    for key in ["params", "result", "param_schema"] {
        body = with_values(&body, key, |value| value.to_string());
    }
    body
}

/// The JSON text with the values of `key` written anew.
fn with_values(json: &str, key: &str, write: impl Fn(Value) -> String) -> String {
    let key = format!("\"{key}\":");
    let (mut before, mut rest) = (String::new(), json);
    while let Some(at) = rest.find(&key) {
        let (head, tail) = rest.split_at(at + key.len());
        let mut values = serde_json::Deserializer::from_str(tail).into_iter::<Value>();
        let value = values.next().unwrap().unwrap();
        before = before + head + &write(value);
        rest = &tail[values.byte_offset()..];
    }
    before + rest
}

#[test]
fn the_recorded_session_is_replayed() {
    let api = published(|_| ());
    let (before, after) = SESSION.split_at(SESSION.iter().position(|name| *name == REORDERED).unwrap());
    replay(&api, before);
    // A task that was there already has cost an id here.
    database(&api).execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'tasks'", []).unwrap();
    replay(&api, after);
    // The float, which is compared above by its value.
    let shown = ask(&api, "show it: the empty result is null").body;
    assert!(shown.contains(r#""big":1.2345678901234567e+19,"#), "{shown}");
}

#[test]
fn a_hash_is_the_recorded_one() {
    let api = published(|_| ());
    replay(&api, &["register a new type"]);
    let hash = |body: &str| body.split_once("\"dedupe_key\":").unwrap().1[..66].to_owned();
    // The preset sorts the keys, and that recording has them sorted.
    let recorded = String::from_utf8(recording(REORDERED).answer.body.clone()).unwrap();
    assert_eq!(hash(&ask(&api, "create").body), hash(&recorded));
}

/// A server with the task that the later recordings are about, claimed by worker-1.
fn with_a_task(claim_timeout: Duration) -> Api {
    let api = published(|settings| settings.claim_timeout = Some(claim_timeout));
    let any = json!({"name": "example.any", "version": "1.0.0", "param_schema": {"type": "object"}}).to_string();
    post(&api, "/task-types/register", &any);
    post(&api, "/tasks", &json!({"type": "example.any", "params": {"a": 1}}).to_string());
    claim(&api, "worker-1");
    api
}

fn post(api: &Api, path: &str, body: &str) -> Exchange {
    exchange(api.server.address(), ("POST", path), Some(KEY), body).unwrap()
}

fn claim(api: &Api, worker: &str) -> Exchange {
    post(api, "/tasks/claim", &json!({"worker_id": worker, "task_type_id": 1}).to_string())
}

#[test]
fn a_task_that_is_handed_out_again_and_again() {
    let api = with_a_task(Duration::ZERO);
    replay(&api, &EXPIRED);
    for _ in 2..9 {
        claim(&api, "worker-9");
    }
    replay(&api, &WORN_OUT);
}

#[test]
fn odd_requests() {
    let api = with_a_task(Duration::from_secs(300));
    replay(&api, &ODD);
    database(&api).execute("UPDATE task_types SET is_active = 0", []).unwrap();
    replay(&api, &NOT_ACTIVE);
    database(&api).execute_batch("DROP TABLE tasks; DROP TABLE task_types").unwrap();
    replay(&api, &BROKEN);
}

fn database(api: &Api) -> rusqlite::Connection {
    rusqlite::Connection::open(&api.settings.database).unwrap()
}

#[test]
fn no_recording_is_left_out() {
    let lists = [&SESSION[..], &EXPIRED, &WORN_OUT, &ODD, &NOT_ACTIVE, &BROKEN, &FAULTS, &LEFT_OUT];
    let asserted: BTreeSet<&str> = lists.concat().into_iter().collect();
    assert_eq!(asserted, recordings().iter().map(|recording| recording.name.as_str()).collect());
}

#[test]
fn calls_without_a_key_get_only_a_401() {
    let api = with_a_task(Duration::from_secs(300));
    let long = long("/tasks/1/complete", 70_066);
    for (request, body) in
        [(("GET", "/task-types"), ""), (("GET", "/tasks/1"), ""), (("POST", "/tasks/1/complete"), &long)]
    {
        assert_eq!(exchange(api.server.address(), request, None, body).unwrap().status, 401, "{request:?}");
    }
}

#[test]
fn priority_is_always_0() {
    let api = with_a_task(Duration::from_secs(300));
    for n in 0..3 {
        post(&api, "/tasks", &json!({"type": "example.any", "params": {"n": n}, "priority": n}).to_string());
    }
    let order = json!({"worker_id": "w", "task_type_id": 1, "sort_by": "priority", "sort_order": "DESC"}).to_string();
    let claimed = post(&api, "/tasks/claim", &order).body;
    assert!(claimed.contains(r#""params":{"n":0},"attempts":1,"priority":0"#), "{claimed}");
}

#[test]
fn too_long_texts_are_refused_only_if_they_would_be_stored() {
    let api = with_a_task(Duration::from_secs(300));
    let text = "x".repeat(70_000);
    let unknown = post(&api, "/tasks", &json!({"type": "Nope", "params": {"text": text}}).to_string());
    assert_eq!(unknown.status, 404, "{}", unknown.body);
    for (path, worker, status) in [("/tasks/1/complete", "w", 403), ("/tasks/9/complete", "w", 404)] {
        let body = json!({"worker_id": worker, "success": true, "result": text}).to_string();
        assert_eq!(post(&api, path, &body).status, status, "{path}");
    }
    let body = json!({"worker_id": "worker-1", "result": text}).to_string();
    assert_eq!(post(&api, "/tasks/1/complete", &body).status, 400, "success is missing");
    // A failure has a result as well.
    let body = json!({"worker_id": "worker-1", "success": false, "error": "e", "result": text}).to_string();
    assert!(post(&api, "/tasks/1/complete", &body).body.contains("SQLSTATE[22001]"));
    // 65,535 bytes fit.
    let fits = json!({"type": "example.any", "params": {"t": "x".repeat(65_535 - r#"{"t":""}"#.len())}}).to_string();
    assert_eq!(post(&api, "/tasks", &fits).status, 200);
    assert!(post(&api, "/tasks", &fits.replacen("xx", "xxx", 1)).body.contains("'params_json'"));
}

#[test]
fn the_clients_calls_work() {
    let api = published(|_| ());
    let connection = Connection::new(api.server.api_url(), Some(KEY.to_owned()));
    let client = Client::new(&connection, Retries::NONE, FakeClock::new()).unwrap();
    assert_eq!(client.health().unwrap().status, "healthy");
    assert_eq!(client.check_key(), Ok(()));
    let schema = json!({"type": "object", "properties": {}});
    assert!(client.register_type("a.b", "1.0.0", &schema).unwrap().created);
    assert!(!client.register_type("a.b", "1.0.1", &schema).unwrap().created);
    let task_type = client.task_type("a.b").unwrap().unwrap();
    assert_eq!((task_type.id, task_type.version.as_str(), &task_type.param_schema), (1, "1.0.1", &schema));
    assert_eq!(client.task_type("Nope"), Ok(None));
    assert!(matches!(client.task_types(), Err(Error::Refused { status: 500, .. })));
    assert!(matches!(client.create("a.b", &json!({}), None), Err(Error::Refused { status: 400, .. })));

    let first = client.create("a.b", &json!({"n": 1}), Some(9)).unwrap();
    assert_eq!((first.id, first.deduplicated), (TaskId(1), false));
    assert!(client.create("a.b", &json!({"n": 1}), None).unwrap().deduplicated);
    let task = client.claim("w", 1, Order::HighestPriorityFirst).unwrap().unwrap();
    assert_eq!((task.id, task.attempt, task.priority), (TaskId(1), 1, 0));
    assert_eq!(client.claim("w", 1, Order::OldestFirst), Ok(None));
    assert_eq!(client.claim("w", 99, Order::OldestFirst), Ok(None));
    assert_eq!(client.progress(TaskId(1), "w", 40, Some("on it")), Ok(()));

    let failed = Outcome::failure(ErrorType::Handler, "broken");
    assert_eq!(client.send_report(&report(failed.clone(), 1)), Ok(Delivery::Confirmed));
    assert_eq!(client.resend_report(&report(failed, 1)), Ok(Delivery::Confirmed), "it finds that it arrived");
    client.claim("w", 1, Order::OldestFirst).unwrap().unwrap();
    let long = report(Outcome::success(json!("x".repeat(70_000))), 2);
    assert_eq!(client.send_report(&long), Ok(Delivery::Confirmed));
    assert_eq!(client.send_report(&long), Ok(Delivery::Confirmed));
    let shown = client.task(TaskId(1)).unwrap().unwrap();
    assert_eq!((shown.status.as_str(), shown.attempts), ("completed", 2));
    assert_eq!(shown.result.unwrap()["data_bytes"], json!(70_002), "the summary");
    assert_eq!(client.task(TaskId(9)), Ok(None));
    let filter = TaskFilter { status: Some("completed".into()), limit: 10, ..TaskFilter::default() };
    assert_eq!(client.tasks(&filter).unwrap().len(), 1);
}

/// Task 1, ended by worker w.
fn report(outcome: Outcome, attempt: u32) -> ResultReport {
    let now = Timestamp::UNIX_EPOCH;
    ResultReport::from(&TaskResult {
        task_id: TaskId(1),
        task_type: "a.b".into(),
        attempt,
        worker_id: "w".into(),
        api_url: String::new(),
        params: json!({"n": 1}),
        outcome,
        claimed_at: now,
        started_at: now,
        finished_at: now,
    })
}
