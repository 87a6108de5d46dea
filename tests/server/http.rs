//! What comes over the wire besides good calls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::api::Api;

#[test]
fn what_is_no_call_is_not_found() {
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
fn what_is_no_json_object_is_refused() {
    let api = Api::start();
    for body in ["{not json", "", "{\"a\": 1} trailing", "\"\\ud800\"", &"[".repeat(100_000), "{\"n\": 1e999}"] {
        for path in ["/tasks", "/tasks/claim", "/tasks/1/progress", "/tasks/1/complete", "/task-types/register"] {
            api.send("POST", path, &[], body).assert_error(400, "Invalid JSON in request body");
        }
    }
    for body in ["[]", "5", "null", "\"text\""] {
        api.send("POST", "/tasks", &[], body).assert_invalid("The request body must be of type object");
    }
}

#[test]
fn a_body_may_have_16_mib_and_what_surrounds_them() {
    let api = Api::start();
    // It is no JSON from its first byte on, so nothing but its length takes time.
    let largest = "x".repeat((16 << 20) + (64 << 10));
    api.send("POST", "/tasks", &[], &largest).assert_error(400, "Invalid JSON in request body");
    // The answer also reaches a client that is still far from the end of its body.
    for larger in [largest.clone() + "x", largest.repeat(2)] {
        api.send("POST", "/tasks", &[], &larger).assert_error(413, "The request body is larger than 16842752 bytes");
    }
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
fn garbage_harms_nobody() {
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
