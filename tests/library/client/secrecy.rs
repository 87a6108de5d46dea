//! The API key is sent in its header and appears nowhere else: in no error, debug output or log.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use log::kv::{Error as KvError, Key, Value as KvValue, VisitSource};
use prismq::internals::taskmanager::{Client, Connection, Order, Retries, TaskFilter};
use prismq::{Outcome, TaskId, TaskManagerError as Error};
use serde_json::json;

use crate::client::{KEY, report, task};
use crate::support::{Answer, FakeClock, ScriptedServer, recorded};

/// Keeps the log lines, with their fields, only of threads that ask for them: the log of one test must not grow while
/// another measures its memory.
struct Log;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                let mut line = format!("{} {} {}", record.level(), record.target(), record.args());
                let _ = record.key_values().visit(&mut Fields(&mut line));
                lines.push(line);
            }
        });
    }

    fn flush(&self) {}
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: KvValue<'kvs>) -> Result<(), KvError> {
        let _ = write!(self.0, " {key}={value}"); // writing to a String cannot fail
        Ok(())
    }
}

/// Returns the lines with `text` that this thread has logged since its first call.
fn logged(text: &str) -> Vec<String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.with_borrow_mut(|lines| {
        lines.get_or_insert_default().iter().filter(|line| line.contains(text)).cloned().collect()
    })
}

const SECRET: &str = "s3cr3t/key+of=the-secrecy-tests";

fn secret_client(server: &ScriptedServer, retries: Retries) -> Client {
    let connection = Connection::new(server.url(), Some(SECRET.into()));
    assert!(!format!("{connection:?} {connection:#?}").contains(SECRET));
    assert!(format!("{connection:?}").contains(&server.url()));
    Client::new(&connection, retries, FakeClock::new()).unwrap()
}

/// All calls with their results.
fn every_call(client: &Client) -> Vec<String> {
    let report = report(Outcome::success(json!(1)));
    vec![
        shown(&client.health()),
        shown(&client.check_key()),
        shown(&client.register_type("a.b", "1", &json!({}))),
        shown(&client.task_type("a.b")),
        shown(&client.task_types()),
        shown(&client.create("a.b", &json!({}), None)),
        shown(&client.claim("w", 1, Order::OldestFirst)),
        shown(&client.progress(TaskId(1), "w", 1, None)),
        shown(&client.task(TaskId(1))),
        shown(&client.tasks(&TaskFilter::default())),
        shown(&client.send_report(&report)),
        shown(&client.resend_report(&report)),
    ]
}

fn shown<T: Debug>(result: &Result<T, Error>) -> String {
    let text = result.as_ref().map_or_else(ToString::to_string, |_| String::new());
    format!("{result:?} {text}")
}

#[test]
fn no_error_and_no_log_holds_the_key() {
    logged(""); // starts recording
    let quoted = format!("the key {SECRET} is wrong");
    let answers = [
        Answer::json(401, &json!({"error": "Unauthorized", "message": quoted})),
        Answer::json(403, &json!({"error": "Forbidden", "message": quoted})),
        Answer::error(400, &quoted),
        Answer::json(400, &json!({"success": false, "error": "bad", "details": [quoted]})),
        Answer::error(404, &quoted),
        Answer::error(500, &quoted),
        Answer::new(200, "text/plain", quoted.clone()),
        Answer::data(&json!([quoted])),
        recorded("rate limited"),
        recorded("backend down"),
        Answer::close(),
        Answer::reset(),
        Answer::raw("nonsense"),
        recorded("show a task").cut_short(),
        recorded("show a task"),
        Answer::data(&json!([task(&json!({}))])),
    ];
    for answer in answers {
        let healthy = recorded("health, no key needed"); // that call must not tell the server a key to quote
        let server =
            ScriptedServer::start(move |request| if request.path == "/health" { &healthy } else { &answer }.clone());
        for got in every_call(&secret_client(&server, Retries::NONE)) {
            assert!(!got.contains(SECRET), "{got}");
        }
        let sent = server.requests();
        assert!(sent.iter().any(|request| request.header("X-API-Key") == Some(SECRET)));
        assert!(sent.iter().all(|request| !request.path.contains(SECRET)));
    }
    let server = ScriptedServer::queue([recorded("rate limited"), recorded("backend down"), recorded("show a task")]);
    secret_client(&server, Retries::STANDARD).task(TaskId(1)).unwrap();
    assert!(!logged("Rate limit exceeded").is_empty() && !logged("ureq").is_empty(), "nothing was logged");
    assert_eq!(logged(SECRET), [""; 0]);
}

#[test]
fn a_server_that_quotes_the_key_is_quoted_without_it() {
    const QUOTED: &str = "a-key-that-the-server-quotes"; // at level trace, ureq logs where a redirect leads
    let server = ScriptedServer::queue([
        Answer::json(401, &json!({"error": "Unauthorized", "message": format!("{QUOTED} is no key, {QUOTED}")})),
        Answer::redirect(302, &format!("http://example.com/?key={QUOTED}")),
    ]);
    let connection = Connection::new(server.url(), Some(QUOTED.into()));
    let client = Client::new(&connection, Retries::NONE, FakeClock::new()).unwrap();
    let message = "*** is no key, ***".into();
    assert_eq!(client.check_key(), Err(Error::KeyRefused { url: server.url(), message, with_key: true }));
    let reason = "it redirects to http://example.com/?key=***; prismq follows no redirects, to protect the key".into();
    assert_eq!(client.check_key(), Err(Error::NotATaskManager { url: server.url(), reason }));
}

#[test]
fn a_wait_is_logged_with_its_reason_and_length() {
    logged(""); // starts recording
    let limited = Answer::error(429, "the limit of the log test").header("Retry-After", "42");
    let server =
        ScriptedServer::queue([limited, Answer::error(500, "the fault of the log test"), recorded("show a task")]);
    crate::client::patient(&server, Retries::STANDARD, &FakeClock::new()).task(TaskId(1)).unwrap();
    let line = logged("the limit of the log test").pop().unwrap();
    assert!(line.starts_with("WARN ") && line.contains("call failed: retrying wait_s=42 error="), "{line}");
    let line = logged("the fault of the log test").pop().unwrap();
    assert!(line.starts_with("DEBUG ") && line.contains("call failed: retrying wait_s=0."), "{line}");
    assert_eq!(logged(KEY), [""; 0]);
}

#[test]
fn only_health_is_called_without_the_key() {
    let server = ScriptedServer::always(recorded("show a task"));
    every_call(&secret_client(&server, Retries::NONE));
    let without: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|request| request.header("X-API-Key").is_none())
        .map(|request| request.path)
        .collect();
    assert_eq!(without, ["/health"]);
    let keyless = Client::new(&Connection::new(server.url(), None), Retries::NONE, FakeClock::new()).unwrap();
    let before = server.requests().len();
    every_call(&keyless);
    assert!(server.requests()[before..].iter().all(|request| request.header("X-API-Key").is_none()));
}
