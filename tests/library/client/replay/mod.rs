//! All exchanges recorded from the published server: the request of the client, and the result of the call.

mod complete;
mod faults;
mod tasks;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use prismq::TaskManagerError as Error;
use prismq::internals::taskmanager::{Client, Connection, Retries};
use serde_json::Value;

use crate::client::KEY;
use crate::support::{Answer, Body, FakeClock, Recording, Request, ScriptedServer, recordings};

/// How the client's request compares with the recorded one.
#[derive(Debug, PartialEq)]
pub(super) enum Sends {
    /// The same.
    Exactly,
    /// The same, and more: query pairs or fields of the body.
    AndMore,
    /// The client never sends such a request. The answer is replayed to the closest one.
    Otherwise,
}

type Got = Result<Value, Error>;

/// What is asserted about one recording.
pub(super) struct Row {
    name: &'static str,
    sends: Sends,
    call: Box<dyn Fn(&Client) -> Got>,
    gives: Got,
    then: Vec<Answer>,
    key: Option<String>,
}

pub(super) fn row(name: &'static str, sends: Sends, call: impl Fn(&Client) -> Got + 'static, gives: Got) -> Row {
    Row { name, sends, call: Box::new(call), gives, then: Vec::new(), key: Some(KEY.into()) }
}

impl Row {
    /// The call sends a second request, which gets this answer.
    fn then(mut self, answer: Answer) -> Self {
        self.then.push(answer);
        self
    }

    /// The client has no key.
    fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    fn check(&self, recording: &Recording) {
        let name = self.name;
        let server = ScriptedServer::queue([recording.answer.clone()].into_iter().chain(self.then.clone()));
        let connection = Connection::new(server.url(), self.key.clone());
        let client = Client::new(&connection, Retries::NONE, FakeClock::new()).unwrap();
        let got = (self.call)(&client).map_err(without_url);
        assert_eq!(got, self.gives, "{name}: what the caller gets");
        let requests = server.requests();
        assert_eq!(requests.len(), 1 + self.then.len(), "{name}: {:?}", server.calls());
        self.check_request(&requests[0], recording);
    }

    fn check_request(&self, request: &Request, recording: &Recording) {
        let name = self.name;
        assert_eq!(request.header("X-API-Key"), recording.with_key.then_some(KEY), "{name}: the key");
        assert_eq!(request.header("User-Agent"), Some(concat!("prismq/", env!("CARGO_PKG_VERSION"))), "{name}");
        if !request.body.is_empty() {
            assert_eq!(request.header("Content-Type"), Some("application/json"), "{name}");
            assert_eq!(String::from_utf8_lossy(&request.body), canonical(&request.json()), "{name}: canonical JSON");
        }
        let how = compare(request, recording);
        assert_eq!(
            how,
            self.sends,
            "{name}: {} {} {}",
            request.method,
            request.path,
            String::from_utf8_lossy(&request.body)
        );
    }
}

fn compare(request: &Request, recording: &Recording) -> Sends {
    let (path, query) = split(&request.path);
    let (recorded_path, recorded_query) = split(&recording.path);
    let (same_body, holds_body) = match &recording.body {
        Body::None => (request.body.is_empty(), request.body.is_empty()),
        Body::Json(json) => (request.json() == *json, holds(&request.json(), json)),
        Body::Long(length) => (request.body.len() == *length, false),
        Body::NotJson(_) => (false, false),
    };
    if (&request.method, path) != (&recording.method, recorded_path) {
        Sends::Otherwise
    } else if same_body && query == recorded_query {
        Sends::Exactly
    } else if holds_body && query.is_superset(&recorded_query) {
        Sends::AndMore
    } else {
        Sends::Otherwise
    }
}

fn split(path: &str) -> (&str, BTreeSet<&str>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path, query.split('&').filter(|pair| !pair.is_empty()).collect())
}

/// Whether `whole` has everything that `part` has.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| holds(whole, value)))
        }
        _ => whole == part,
    }
}

/// JSON with its keys sorted and without white space.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.clone()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// Replaces the URL of the server, which differs in each run, by "URL".
fn without_url(mut error: Error) -> Error {
    match &mut error {
        Error::NotConnected { url, .. }
        | Error::Unreachable { url, .. }
        | Error::Shortage { url, .. }
        | Error::NotATaskManager { url, .. }
        | Error::Unavailable { url, .. }
        | Error::KeyRefused { url, .. }
        | Error::Inexact { url, .. }
        | Error::InvalidAnswer { url, .. } => *url = "URL".into(),
        _ => {}
    }
    error
}

fn unavailable(status: u16, reason: &str) -> Got {
    Err(Error::Unavailable { url: "URL".into(), status, reason: reason.into(), retry_after: None })
}

/// Returns the result of a call as JSON.
fn shown<T: serde::Serialize>(result: Result<T, Error>) -> Got {
    result.map(|value| serde_json::to_value(value).unwrap())
}

fn check(rows: &[Row]) {
    for row in rows {
        row.check(recordings().iter().find(|recording| recording.name == row.name).expect(row.name));
    }
}

#[test]
fn types_and_health_are_replayed() {
    check(&types::rows());
}

#[test]
fn tasks_are_replayed() {
    check(&tasks::creates());
    check(&tasks::claims());
    check(&tasks::looks());
}

#[test]
fn reports_are_replayed() {
    check(&complete::progress());
    check(&complete::completes());
}

#[test]
fn faults_are_replayed() {
    check(&faults::rows());
}

#[test]
fn no_recording_is_left_out_or_replayed_twice() {
    let rows = [
        types::rows(),
        tasks::creates(),
        tasks::claims(),
        tasks::looks(),
        complete::progress(),
        complete::completes(),
        faults::rows(),
    ];
    let mut asserted: Vec<&str> = rows.iter().flatten().map(|row| row.name).collect();
    let mut recorded: Vec<&str> = recordings().iter().map(|recording| recording.name.as_str()).collect();
    asserted.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(asserted, recorded);
    assert_eq!(recorded.len(), 69);
}
