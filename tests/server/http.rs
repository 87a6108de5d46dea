//! What comes over the wire besides good calls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::support::wait_for;

#[test]
fn unknown_endpoints_are_not_found() {
    let api = Api::start();
    for (method, path) in [
        ("DELETE", "/tasks/1"),
        ("GET", "/tasks/claim/me"),
        ("POST", "/tasks/1"),
        ("POST", "/health"),
        ("GET", ""),
        ("GET", "/../tasks"),
    ] {
        api.send(method, path, &[], "").assert_error(404, "Endpoint not found");
    }
}

#[test]
fn bodies_that_are_not_json_objects_are_refused() {
    let api = Api::start();
    let long_number = format!("{{\"n\":{}}}", "1".repeat(1001));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (body, part) in [
        ("{not json", "not valid JSON: keys must be in double quotes at line 1 column 2"),
        ("", "not valid JSON: it is empty"),
        ("{\"a\": 1} trailing", "unexpected text after the end at line 1 column 10"),
        ("{\"a\": NaN}", "column 7: NaN is not a JSON value"),
        ("{\"a\": \"\0\"}", "control character"),
        (&nested(128), "nested deeper than 127 levels at line 1 column 128"),
        (&nested(100_000), "nested deeper than 127 levels at line 1 column 128"),
        (&long_number, "a number of more than 1000 characters at line 1 column 6"),
        ("{\"$serde_json::private::RawValue\": \"1\"}", "reserved"),
    ] {
        for path in ["/tasks", "/tasks/claim", "/tasks/1/progress", "/tasks/1/complete", "/task-types/register"] {
            api.send("POST", path, &[], body).assert_unreadable(part);
        }
    }
    for body in ["[]", "5", "null", "\"text\"", "\"\\ud800\"", "1e999", "\u{feff}[]", &nested(127)] {
        api.send("POST", "/tasks", &[], body).assert_invalid("The request body must be of type object");
    }
}

#[test]
fn a_value_of_16_mib_fits_a_body() {
    let api = Api::start();
    // It is no JSON from its first byte on, so nothing but its length takes time.
    let largest = "x".repeat((16 << 20) + (64 << 10));
    api.send("POST", "/tasks", &[], &largest).assert_unreadable("column 1");
    // The answer also reaches a client that is still far from the end of its body.
    for larger in [largest.clone() + "x", largest.repeat(2)] {
        api.send("POST", "/tasks", &[], &larger).assert_error(413, "The request body is larger than 16842752 bytes");
    }
}

#[test]
fn long_bodies_share_a_memory_limit() {
    let api = Api::start();
    let longest = " ".repeat(16 << 20);
    let create = || api.send("POST", "/tasks", &[], &longest);
    let unfinished = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{longest}",
        longest.len() + 1
    );
    let held: Vec<_> = (0..17).map(|_| raw(&api, unfinished.as_bytes())).collect();
    wait_for("no room to be left", || (create().status == 503).then_some(()));
    create().assert_error(503, "Too many large requests at once. Please try again in a few seconds.");
    api.register_any("small calls are answered");
    drop(held);
    wait_for("room", || (create().status == 400).then_some(()));
}

/// Sends `request` as it is; the connection.
fn raw(api: &Api, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(api.server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// Sends `request` and nothing after it; returns when the server has closed the connection.
fn raw_and_end(api: &Api, request: &[u8]) {
    let mut stream = raw(api, request);
    stream.shutdown(Shutdown::Write).unwrap();
    if let Err(error) = stream.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn garbage_requests_do_not_disturb_other_clients() {
    let api = Api::start();
    for request in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0", b""] {
        raw_and_end(&api, request);
    }
    raw_and_end(&api, b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"cut\":");
    raw_and_end(&api, b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n");
    api.get("/health").data();
}

#[test]
fn a_body_may_come_in_chunks() {
    let api = Api::start();
    api.register_any("a");
    let request =
        b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        10\r\n{\"type\":\"a\",\"par\r\nc\r\nams\":{\"a\":1}\r\n1\r\n}\r\n0\r\n\r\n";
    let mut answer = String::new();
    raw(&api, request).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(api.task(1)["params"], json!({"a": 1}));
}

#[test]
fn params_schemas_and_results_have_a_maximum_depth() {
    let api = Api::start();
    let type_id = api.register_any("example.a");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let create = |depth: usize| format!("{{\"type\":\"example.a\",\"params\":{{\"a\":{}}}}}", nested(depth - 1));
    let register = |depth: usize| {
        let schema = format!("{{\"type\":\"object\",\"default\":{}}}", nested(depth - 1));
        format!("{{\"name\":\"example.b\",\"version\":\"1\",\"param_schema\":{schema}}}")
    };
    let complete = |depth: usize| format!("{{\"worker_id\":\"w\",\"success\":true,\"result\":{}}}", nested(depth));
    for depth in [97, 100, 124, 125] {
        let refused = api.send("POST", "/tasks", &[], &create(depth));
        refused.assert_invalid("Field 'params' is nested deeper than 96 levels");
        let refused = api.send("POST", "/task-types/register", &[], &register(depth));
        refused.assert_invalid("Field 'param_schema' is nested deeper than 96 levels");
    }
    api.send("POST", "/task-types/register", &[], &register(96)).data();
    let id = api.send("POST", "/tasks", &[], &create(96)).data()["id"].as_i64().unwrap();
    api.claim("w", type_id).data();
    let path = format!("/tasks/{id}/complete");
    for depth in [98, 100, 125, 126] {
        let refused = api.send("POST", &path, &[], &complete(depth));
        refused.assert_invalid("Field 'result' is nested deeper than 97 levels");
    }
    // With the envelope around what a handler has printed.
    api.send("POST", &path, &[], &complete(97)).data();
    assert_eq!(api.task(id)["status"], "completed");
    api.get("/tasks").data();
    api.get("/task-types/example.b").data();
}

#[test]
fn names_may_have_255_bytes() {
    let api = Api::start();
    let register = |name: &str, version: &str| {
        api.post("/task-types/register", json!({"name": name, "version": version, "param_schema": {"type": "object"}}))
    };
    let (longest, longer) = ("x".repeat(255), "x".repeat(256));
    let type_id = register(&longest, &longest).data()["id"].as_i64().unwrap();
    api.get(&format!("/task-types/{longest}")).data();
    register(&longer, "1").assert_invalid("Field 'name' is longer than 255 bytes");
    register("a", &longer).assert_invalid("Field 'version' is longer than 255 bytes");
    api.claim(&longest, type_id).assert_error(404, "No available tasks");
    api.claim(&longer, type_id).assert_invalid("Field 'worker_id' is longer than 255 bytes");
}

#[test]
fn names_must_not_have_invisible_characters() {
    let api = Api::start();
    let type_id = api.register_any("a");
    for hidden in [
        '\u{ad}', '\u{200b}', '\u{200d}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        '\u{feff}',
    ] {
        let why = |field: &str| {
            format!("Field '{field}' must not contain the invisible character U+{:04X}", u32::from(hidden))
        };
        let name = format!("a{hidden}b");
        let schema = json!({"type": "object"});
        let register = json!({"name": name, "version": "1", "param_schema": schema});
        api.post("/task-types/register", register).assert_invalid(&why("name"));
        let register = json!({"name": "a", "version": name, "param_schema": schema});
        api.post("/task-types/register", register).assert_invalid(&why("version"));
        api.post("/tasks", json!({"type": name, "params": {}})).assert_invalid(&why("type"));
        api.claim(&name, type_id).assert_invalid(&why("worker_id"));
        let report = json!({"worker_id": name, "success": true});
        api.post("/tasks/1/complete", report).assert_invalid(&why("worker_id"));
        let report = json!({"worker_id": name, "progress": 1});
        api.post("/tasks/1/progress", report).assert_invalid(&why("worker_id"));
    }
    for control in ['\u{80}', '\u{85}', '\u{9f}', '\u{7f}'] {
        let why = "Field 'worker_id' must not contain control characters";
        api.claim(&format!("a{control}b"), type_id).assert_invalid(why);
    }
}
