//! Limits of a call: time, size, one server, one key.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::taskmanager::{Client, Connection, Order, Retries, TaskFilter};
use prismq::{TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::{NOBODY, client, connection, patient, refused, task};
use crate::support::{Answer, FakeClock, ScriptedServer, recorded};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(60);

fn once(connection: &Connection) -> Client {
    Client::new(connection, Retries::NONE, FakeClock::new()).unwrap()
}

/// Returns the error of showing task 1, which must come early enough to show which limit ended the call.
fn failure(connection: &Connection) -> Error {
    let start = Instant::now();
    let error = once(connection).task(TaskId(1)).unwrap_err();
    assert!(start.elapsed() < LONG / 2, "{error} after {:?}", start.elapsed());
    error
}

fn unreachable(url: &str, reason: &str) -> Error {
    Error::Unreachable { url: url.into(), reason: reason.into() }
}

#[test]
fn a_call_ends_in_time() {
    let never = ScriptedServer::always(Answer::hang());
    let dripping = ScriptedServer::always(recorded("show a task").dripping());
    let no_answer = "no answer in time";
    for (server, reason) in [(never, no_answer), (dripping, "the answer timed out")] {
        let fails = |call_timeout| failure(&Connection { call_timeout, connect_timeout: LONG, ..connection(&server) });
        let mut timeout = SHORT;
        let mut failed = fails(timeout);
        // On a busy machine, the answer may not begin in this time.
        while reason != no_answer && failed == unreachable(&server.url(), no_answer) && timeout < LONG {
            timeout *= 2;
            failed = fails(timeout);
        }
        assert_eq!(failed, unreachable(&server.url(), reason));
    }
}

#[test]
fn connecting_ends_in_time() {
    let server = ScriptedServer::always(Answer::hang()); // accepts connections, but never answers
    let url = server.url().replace("http:", "https:");
    let connection = Connection {
        ca_file: Some(fixture("ca.pem")),
        connect_timeout: SHORT,
        call_timeout: LONG,
        ..Connection::new(url.clone(), None)
    };
    assert_eq!(failure(&connection), unreachable(&url, "no connection in time"));
}

#[test]
fn the_standard_limits() {
    let connection = Connection::new("http://localhost:8000/api", None);
    assert_eq!(connection.connect_timeout, Duration::from_secs(5));
    assert_eq!(connection.call_timeout, Duration::from_secs(30));
    assert_eq!(connection.ca_file, None);
}

#[test]
fn a_server_that_is_not_there_or_goes_away() {
    let error = failure(&Connection::new(NOBODY, None)).to_string();
    assert!(error.starts_with(&format!("cannot reach the TaskManager at {NOBODY}: connection refused")), "{error}");

    let whole = recorded("show a task");
    let cut = "the answer was cut short";
    for (answer, reason) in [
        (Answer::close(), "it closed the connection without answering"),
        (Answer::raw("HTTP/1.1 200 OK\r\nContent-"), "it closed the connection without answering"),
        (Answer::reset(), if cfg!(target_os = "linux") { "the connection was reset" } else { "" }),
        (whole.clone().cut_short(), cut),
        (Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"success\":true,"), cut),
        (Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"su"), cut),
    ] {
        let server = ScriptedServer::queue([answer.clone()]);
        let error = failure(&connection(&server));
        assert!(
            matches!(&error, Error::Unreachable { reason: got, .. } if got.starts_with(reason)),
            "{error}: {answer:?}"
        );
    }
}

#[test]
fn servers_that_are_not_a_taskmanager_are_recognised() {
    for (answer, reason) in [
        (Answer::page(200), "it sent an HTML page, not JSON (status 200)"),
        (Answer::page(404), "it sent an HTML page, not JSON (status 404)"),
        (Answer::new(200, "text/plain", "hello"), "its answer is not JSON (status 200)"),
        (Answer::new(204, "text/plain", ""), "its answer is not JSON (status 204)"),
        (Answer::new(200, "application/json", b"\xff\xfe{}".to_vec()), "its answer is not JSON (status 200)"),
        (Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"), "it does not answer in valid HTTP"),
        (
            Answer::raw(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000))),
            "it does not answer in valid HTTP",
        ),
    ] {
        let server = ScriptedServer::queue([answer]);
        let error = failure(&connection(&server));
        let said = matches!(&error, Error::NotATaskManager { reason: got, .. } if got.starts_with(reason));
        assert!(said && !error.is_retryable(), "{error}");
        assert!(!error.to_string().contains('<'), "{error}");
    }
}

/// An answer of `length` bytes. It is not JSON, so that it is read only once.
fn long_answer(length: usize) -> Answer {
    Answer::new(500, "text/plain", vec![b'x'; length])
}

#[test]
fn an_answer_may_be_33_mib_long() {
    let server = ScriptedServer::queue([long_answer(33 << 20)]);
    let read = failure(&connection(&server));
    assert!(matches!(&read, Error::Unavailable { status: 500, .. }), "{read}");
}

fn is_too_long(answer: Answer) {
    let server = ScriptedServer::queue([answer]);
    let reason = "the answer is longer than 33 MiB".into();
    assert_eq!(failure(&connection(&server)), Error::NotATaskManager { url: server.url(), reason });
}

#[test]
fn an_answer_may_not_be_longer_than_33_mib() {
    is_too_long(long_answer((33 << 20) + 1));
}

#[test]
fn an_endless_answer_is_given_up() {
    is_too_long(recorded("show a task").endless_body());
}

#[test]
fn an_endless_answer_in_chunks_is_given_up() {
    is_too_long(recorded("show a task").endless_chunks());
}

#[test]
fn no_redirect_is_followed() {
    let elsewhere = ScriptedServer::always(recorded("show a task"));
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{}/tasks/1", elsewhere.url());
        let server = ScriptedServer::always(Answer::redirect(status, &target));
        let reason = format!("it redirects to {target}; prismq follows no redirects, to protect the key");
        let expected = Error::NotATaskManager { url: server.url(), reason };
        assert!(!expected.is_retryable());
        assert_eq!(client(&server).task(TaskId(1)), Err(expected.clone()));
        assert_eq!(client(&server).claim("w", 1, Order::OldestFirst), Err(expected.clone()));
        assert_eq!(client(&server).health(), Err(expected));
    }
    let server = ScriptedServer::queue([Answer::page(302)]);
    let reason = "it redirects to another address; prismq follows no redirects, to protect the key".into();
    assert_eq!(client(&server).task(TaskId(1)), Err(Error::NotATaskManager { url: server.url(), reason }));
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn many_calls_share_one_connection() {
    let names = ["show a task", "claim: queue empty", "wrong key", "backend down", "claim", "no such endpoint"];
    let server = ScriptedServer::queue(names.iter().cycle().take(60).map(|name| recorded(name)));
    let client = client(&server);
    for _ in 0..20 {
        let _ = client.health();
        let _ = client.clone().claim("w", 1, Order::OldestFirst);
        let _ = client.with_retries(Retries::NONE).task(TaskId(1));
    }
    assert_eq!((server.requests().len(), server.connections()), (60, 1));
}

#[test]
fn threads_share_the_connections() {
    let server = ScriptedServer::always(recorded("show a task"));
    let client = client(&server);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| assert!(client.task(TaskId(1)).unwrap().is_some())));
        }
    });
    assert_eq!(server.requests().len(), 40);
    assert!(server.connections() <= 4, "{} connections", server.connections());
}

#[test]
fn a_connection_that_the_server_has_closed_is_replaced() {
    let server = ScriptedServer::always(recorded("show a task").header("Connection", "close"));
    let client = client(&server);
    for _ in 0..3 {
        assert!(client.task(TaskId(1)).unwrap().is_some());
    }
    assert_eq!(server.connections(), 3);

    let body = String::from_utf8(recorded("show a task").body).unwrap();
    let unannounced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = ScriptedServer::always(Answer::raw(unannounced));
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    for _ in 0..5 {
        assert!(client.task(TaskId(1)).unwrap().is_some());
    }
}

#[test]
fn a_client_that_keeps_no_connection_takes_a_fresh_one_for_each_call() {
    let server = ScriptedServer::always(recorded("show a task"));
    let client = once(&Connection { keep_alive: false, ..connection(&server) });
    (0..3).for_each(|_| assert!(client.task(TaskId(1)).unwrap().is_some()));
    assert_eq!(server.connections(), 3);
}

#[test]
fn the_call_after_one_that_broke_takes_a_fresh_connection_though_others_are_kept() {
    let server = ScriptedServer::start(|request| match request.path.as_str() {
        "/tasks/2" => Answer::close(),
        _ => recorded("show a task"),
    });
    let client = client(&server);
    let together = std::sync::Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                together.wait();
                client.task(TaskId(1)).unwrap();
            });
        }
    });
    client.task(TaskId(2)).unwrap_err();
    let before = server.connections();
    client.task(TaskId(1)).unwrap();
    assert_eq!((server.connections(), server.requests().last().unwrap().before), (before + 1, 0));
}

#[test]
fn names_and_patterns_are_escaped_in_paths() {
    let server = ScriptedServer::always(Answer::data(&json!([])));
    let client = client(&server);
    client.task_type("a/b?c=d&e #é%").unwrap();
    let type_pattern = Some("a_b%&limit=9".into());
    client.tasks(&TaskFilter { type_pattern, limit: 100, ..TaskFilter::default() }).unwrap();
    let expected =
        ["GET /task-types/a%2Fb%3Fc%3Dd%26e%20%23%C3%A9%25", "GET /tasks?limit=101&offset=0&type=a_b%25%26limit%3D9"];
    assert_eq!(server.calls(), expected);
}

#[test]
fn a_trailing_slash_of_the_base_url_does_no_harm() {
    let server = ScriptedServer::always(recorded("show a task"));
    let connection = Connection { api_url: format!("{}/", server.url()), ..connection(&server) };
    once(&connection).task(TaskId(1)).unwrap();
    assert_eq!(server.calls(), ["GET /tasks/1"]);
}

/// The environment belongs to the process, so the test runs another test in child processes.
#[test]
fn loopback_is_reached_through_a_proxy_unless_no_proxy_names_it() {
    for (exempt, expected) in [("localhost", "0 passed; 1 failed"), ("127.0.0.1", "1 passed; 0 failed")] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client::limits::a_trailing_slash_of_the_base_url_does_no_harm"])
            .env("ALL_PROXY", NOBODY)
            .env("no_proxy", exempt)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(output.contains(expected), "{output}");
    }
}

#[test]
fn a_key_is_exposed_by_http_to_another_machine_only() {
    for (url, exposed) in [
        ("http://api.example.com/api", true),
        ("HTTP://api.example.com/api", true),
        ("http://192.168.1.5:8000/api", true),
        ("http://localhost.example.com/api", true),
        ("http://127.0.0.1.example.com/api", true),
        ("http://[2001:db8::1]/api", true),
        ("http://0.0.0.0:8000/api", true),
        ("https://api.example.com/api", false),
        ("http://localhost:8000/api", false),
        ("http://LOCALHOST:8000/api", false),
        ("http://127.0.0.1/api", false),
        ("http://127.8.9.1:8000/api", false),
        ("http://[::1]:8000/api", false),
    ] {
        assert_eq!(Connection::new(url, None).is_exposed(), exposed, "{url}");
    }
}

fn setting_error(connection: &Connection) -> String {
    Client::new(connection, Retries::NONE, FakeClock::new()).err().unwrap()
}

#[test]
fn a_base_url_that_is_none_is_a_setting_error() {
    for url in
        ["", "nonsense", "localhost:8000/api", "api.example.com/api", "ftp://example.com/api", "http://", "http:// x"]
    {
        let error = setting_error(&Connection::new(url, None));
        assert!(error.starts_with(&format!("{url:?} is not a valid URL")), "{error}");
    }
}

#[test]
fn a_key_that_is_no_header_is_a_setting_error_that_does_not_show_it() {
    for key in ["secret-1\nX-Admin: 1", "secret-2\r\n", "\u{0}secret-3"] {
        let error = setting_error(&Connection::new("http://localhost:8000/api", Some(key.into())));
        assert_eq!(error, "the API key contains characters that are not allowed in a header");
    }
    let long = setting_error(&Connection::new("http://localhost:8000/api", Some("k".repeat(40_000))));
    assert_eq!(long, "the API key has 40000 bytes, more than 8192: is that a key?");
}

#[test]
fn a_request_whose_address_is_too_long_is_not_sent() {
    let server = ScriptedServer::queue([]);
    let error = client(&server).task_type(&"x".repeat(40_000)).unwrap_err().to_string();
    assert!(error.contains("its address would have 40") && error.ends_with("bytes, more than 8192 (414)"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn certificates_come_from_a_file_that_has_some() {
    let with =
        |path: PathBuf| Connection { ca_file: Some(path), ..Connection::new("https://localhost:8000/api", None) };
    assert!(Client::new(&with(fixture("ca.pem")), Retries::NONE, FakeClock::new()).is_ok());

    let missing = setting_error(&with("/nowhere/ca.pem".into()));
    assert!(missing.starts_with("cannot read the certificates in /nowhere/ca.pem: "), "{missing}");
    for content in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nbroken"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let error = setting_error(&with(file.path().into()));
        assert_eq!(error, format!("{} contains no PEM certificate", file.path().display()));
    }
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name].iter().collect()
}

/// Any message of the server is shown as one line.
#[test]
fn the_servers_words_are_one_line_of_bounded_length() {
    let said = |words: &Value| {
        let body = json!({"success": false, "error": words});
        let server = ScriptedServer::queue([Answer::json(400, &body)]);
        client(&server).task(TaskId(1)).unwrap_err()
    };
    assert_eq!(said(&json!("a\n\tb\u{1b}[31m\u{7} c ")), refused(400, "a b[31m c"));
    let long = said(&json!("ž".repeat(100_000))).to_string();
    assert!(long.ends_with("ž… (400)") && long.chars().count() < 1100, "{}", long.len());
    for no_words in [Value::Null, json!(7), json!(["a"]), json!({"a": 1})] {
        assert_eq!(said(&no_words), refused(400, "it answered /tasks/1 with status 400 and no message"));
    }
}

#[test]
fn a_success_that_says_it_is_none_is_a_refusal() {
    let server = ScriptedServer::always(Answer::error(200, "no"));
    assert_eq!(client(&server).task(TaskId(1)), Err(refused(200, "no")));
}

#[test]
fn an_answer_of_the_wrong_shape_names_the_call_and_the_field() {
    let server = ScriptedServer::queue([
        Answer::data(&json!({"id": 1})),
        Answer::data(&task(&json!({"id": "x"}))),
        Answer::data(&json!({"items": 7})),
        Answer::data(&json!({"id": -1, "status": "pending"})),
        Answer::data(&json!({"id": 1, "type": "a.b", "params": {}, "attempts": 1.5})),
    ]);
    let client = client(&server);
    let bad =
        |call: &str, reason: &str| Error::InvalidAnswer { url: server.url(), call: call.into(), reason: reason.into() };
    assert_eq!(client.register_type("a", "1", &json!({})), Err(bad("POST /task-types/register", "name is missing")));
    assert_eq!(client.task(TaskId(1)), Err(bad("GET /tasks/1", "id is not a number")));
    assert_eq!(client.task_types(), Err(bad("GET /task-types?active_only=true", "it is not a list")));
    assert_eq!(client.create("a", &json!({}), None), Err(bad("POST /tasks", "id is negative")));
    let claim = client.claim("w", 1, Order::OldestFirst);
    assert_eq!(claim, Err(bad("POST /tasks/claim", "attempts is not a number")));
}

#[test]
fn values_beyond_the_limit_are_counted_before_they_take_memory() {
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    let peak = |read: &dyn Fn()| allocation_counter::measure(read).bytes_max >> 20;
    for text in [list("[]", 600_000), list("{\"a\":1}", 110_000), list("1", 1_100_000)] {
        let memory =
            peak(&|| assert!(prismq::internals::json::read(&text).unwrap_err().to_string().contains("1000000 values")));
        assert!(memory < 1, "{memory} MiB");
    }
    let most = list("{\"a\":1}", 99_999);
    let memory = peak(&|| assert!(prismq::internals::json::read(&most).is_ok()));
    assert!(memory < 100, "{memory} MiB");

    let params = list("[]", 2_100_000);
    let answer = format!("{{\"success\":true,\"data\":{{\"id\":5,\"params\":{params},\"status\":\"claimed\"}}}}");
    let memory = peak(&|| {
        let read = prismq::internals::json::read_answer(answer.as_bytes()).unwrap();
        assert_eq!(read["data"]["params"], "[left out by prismq: it has too many values]");
        assert_eq!(read["data"]["status"], "claimed");
    });
    assert!(memory < 100, "{memory} MiB");
}
