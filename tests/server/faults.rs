//! Faults on purpose: each befalls a client as it says, as often as it says, and no other call.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use prismq::internals::TaskResult;
use prismq::internals::server::{Faults, OfferedFeatures, Server, Settings};
use prismq::internals::taskmanager::{Client, Connection, Delivery, Order, ResultReport, Retries};
use prismq::{Outcome, Timestamp};
use serde_json::{Value, json};

use crate::api::Api;
use crate::exchange::{exchange, send};
use crate::support::{Exchange, FakeClock, recorded, wait_for};

const CREATE: (&str, &str) = ("POST", "/tasks");
const TASK: &str = r#"{"type":"a","params":{"n":1}}"#;

/// A server with `faults`, and one without any on the same file, which tells what was done.
struct Faulty {
    server: Server,
    truth: Api,
}

impl Faulty {
    fn start(faults: Faults) -> Self {
        let truth = Api::start();
        truth.register_any("a");
        let server = Server::start(&Settings { faults, ..truth.settings.clone() }).unwrap();
        Self { server, truth }
    }

    fn create(&self) -> Result<Exchange, ErrorKind> {
        exchange(self.server.address(), CREATE, None, TASK).map_err(|error| error.kind())
    }

    fn tasks(&self) -> usize {
        self.truth.get("/tasks").data().as_array().unwrap().len()
    }

    /// What becomes of `calls` calls, one after the other.
    fn fates(&self, calls: usize) -> Vec<String> {
        let call = |_| exchange(self.server.address(), ("GET", "/tasks/1"), None, "");
        (0..calls)
            .map(call)
            .map(|end| end.map_or_else(|error| error.kind().to_string(), |end| end.status.to_string()))
            .collect()
    }
}

#[test]
fn the_call_of_a_dropped_answer_is_carried_out() {
    let faulty = Faulty::start(Faults { drop: 1.0, ..Faults::default() });
    assert_eq!(faulty.create(), Err(ErrorKind::UnexpectedEof));
    assert_eq!(faulty.tasks(), 1);
}

#[test]
fn the_call_of_a_reset_connection_is_not_carried_out() {
    let faulty = Faulty::start(Faults { reset: 1.0, ..Faults::default() });
    assert_eq!(faulty.create(), Err(ErrorKind::ConnectionReset));
    assert_eq!(faulty.tasks(), 0);
}

#[test]
fn one_of_every_n_claims_loses_its_answer() {
    let faulty = Faulty::start(Faults { claims: 3, ..Faults::default() });
    let claim = r#"{"worker_id":"w","task_type_id":1}"#;
    let mut claimed = Vec::new();
    for n in 0..7 {
        faulty.truth.create("a", json!({"n": n}));
        let end = exchange(faulty.server.address(), ("POST", "/tasks/claim"), None, claim);
        claimed.push(end.map_or_else(|error| error.kind().to_string(), |end| end.status.to_string()));
    }
    let lost = ErrorKind::ConnectionReset.to_string();
    assert_eq!(claimed, [&lost, "200", "200", &lost, "200", "200", &lost]);
    let tasks = faulty.truth.get("/tasks").data().clone();
    assert!(tasks.as_array().unwrap().iter().all(|task| task["status"] == "claimed"), "{tasks}");
}

/// That the answer has the status, the type and the body of the recording, up to the time and to `changes`.
#[track_caller]
fn assert_recorded(answer: &Exchange, name: &str, changes: &[(&str, &str)]) {
    let recorded = recorded(name);
    assert_eq!(answer.status, recorded.status);
    assert_eq!(answer.header("content-type"), Some(recorded.headers[0].1.as_str()));
    let mut expected = String::from_utf8(recorded.body).unwrap();
    for (from, to) in changes {
        assert!(expected.contains(from), "{from} in {expected}");
        expected = expected.replace(from, to);
    }
    let until_time =
        |text: &str| text.split_once("\"timestamp\":").map_or(text.to_owned(), |(text, _)| text.to_owned());
    assert_eq!(until_time(&answer.body), until_time(&expected));
}

#[test]
fn injected_errors_replace_the_call() {
    let deadlock = Faulty::start(Faults { deadlock: 1.0, ..Faults::default() });
    assert_recorded(&deadlock.create().unwrap(), "complete: deadlock in the server's database", &[]);

    let html = Faulty::start(Faults { html: 1.0, ..Faults::default() });
    assert_recorded(&html.create().unwrap(), "backend down", &[]);

    let limited = Faulty::start(Faults { ratelimit: 1.0, ..Faults::default() });
    let answer = limited.create().unwrap();
    let second = [("in 60 s", "in 1 s"), ("\"retry_after\":60", "\"retry_after\":1"), ("\"limit\":2", "\"limit\":100")];
    assert_recorded(&answer, "rate limited", &second);
    for (name, value) in [("Retry-After", "1"), ("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "0")] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }

    assert_eq!([deadlock, html, limited].map(|faulty| faulty.tasks()), [0; 3]);
}

#[test]
fn injected_errors_replace_calls_with_large_bodies() {
    let faulty = Faulty::start(Faults { deadlock: 1.0, ..Faults::default() });
    let long = "x".repeat(8 << 20);
    assert_eq!(exchange(faulty.server.address(), CREATE, None, &long).unwrap().status, 500);
}

#[test]
fn latency_delays_an_answer() {
    let delay = Duration::from_millis(150);
    let faulty = Faulty::start(Faults { latency: 1.0, delay, ..Faults::default() });
    let start = Instant::now();
    assert_eq!(faulty.create().map(|answer| answer.status), Ok(200));
    assert!(start.elapsed() >= delay);
}

#[test]
fn the_call_of_a_delayed_answer_is_carried_out_at_once() {
    let faulty = Faulty::start(Faults { latency: 1.0, delay: Faults::MAX_DELAY, ..Faults::default() });
    let client = send(faulty.server.address(), CREATE, None, TASK).unwrap();
    wait_for("the task", || (faulty.tasks() == 1).then_some(()));
    drop(client);
}

#[test]
fn nothing_befalls_a_call_at_rate_0() {
    let faulty = Faulty::start(Faults { delay: Faults::MAX_DELAY, seed: 7, ..Faults::default() });
    faulty.create().unwrap();
    assert_eq!(faulty.fates(50), vec!["200"; 50]);
    // Nor where another kind has a rate.
    let faulty = Faulty::start(Faults { html: 0.5, delay: Faults::MAX_DELAY, seed: 7, ..Faults::default() });
    assert!(faulty.fates(50).iter().all(|fate| ["404", "502"].contains(&fate.as_str())));
}

const MIXED: Faults = Faults {
    drop: 0.2,
    reset: 0.1,
    deadlock: 0.1,
    html: 0.1,
    ratelimit: 0.1,
    claims: 0,
    latency: 0.0,
    delay: Duration::ZERO,
    published: false,
    features: OfferedFeatures { batch: true, renew: true },
    seed: 7,
};

#[test]
fn each_fault_is_injected_at_its_rate() {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for fate in Faulty::start(MIXED).fates(250) {
        *counts.entry(fate).or_default() += 1;
    }
    let expected = [
        ("unexpected end of file", 50_u32),
        ("connection reset", 25),
        ("500", 25),
        ("502", 25),
        ("429", 25),
        ("404", 100),
    ];
    assert_eq!(counts.len(), expected.len(), "{counts:?}");
    for (fate, count) in expected {
        // About four times the deviation that chance has; and the seed does not change.
        assert!(counts[fate].abs_diff(count) <= 20, "{fate}: {counts:?}");
    }
}

#[test]
fn faults_are_determined_by_the_seed() {
    let fates = |faults| Faulty::start(faults).fates(60);
    let once = fates(MIXED);
    assert_eq!(fates(MIXED), once);
    assert_eq!(fates(Faults { latency: 0.5, ..MIXED }), once, "that some are late changes nothing else");
    assert_ne!(fates(Faults { seed: 8, ..MIXED }), once);
}

#[test]
fn health_calls_have_no_faults() {
    let faulty = Faulty::start(Faults { drop: 1.0, latency: 1.0, delay: Faults::MAX_DELAY, ..Faults::default() });
    for path in ["/health", "/health/"] {
        assert_eq!(exchange(faulty.server.address(), ("GET", path), None, "").unwrap().status, 200);
    }
}

#[test]
fn a_client_delivers_its_results_despite_faults() {
    let faulty = Faulty::start(Faults { published: true, ..MIXED });
    let connection = Connection::new(faulty.server.api_url(), None);
    let patience = Retries { tries: 50, ..Retries::STANDARD };
    let client = Client::new(&connection, patience, FakeClock::new()).unwrap();
    let type_id = client.task_type("a").unwrap().unwrap().id;
    for n in 0..20 {
        client.create("a", &json!({"n": n}), None).unwrap();
    }
    let mut delivered = Vec::new();
    while let Some(task) = client.claim("w", type_id, Order::OldestFirst).unwrap() {
        let now = Timestamp::UNIX_EPOCH;
        let result = TaskResult {
            task_id: task.id,
            task_type: task.task_type,
            attempt: task.attempt,
            worker_id: "w".into(),
            api_url: client.url().into(),
            params: task.params,
            outcome: Outcome::success(json!(task.id)),
            claimed_at: now,
            started_at: now,
            finished_at: now,
        };
        assert_eq!(client.send_report(&ResultReport::from(&result)), Ok(Delivery::Confirmed));
        delivered.push(task.id.0);
    }
    assert_eq!(faulty.tasks(), 20, "none was created twice");
    // Where the answer to a claim was lost, the task stays claimed.
    assert!((10..20).contains(&delivered.len()), "{delivered:?}");
    for id in delivered {
        let task = faulty.truth.task(id.try_into().unwrap());
        assert_eq!((&task["status"], &task["result"]["data"]), (&json!("completed"), &Value::from(id)));
    }
}
