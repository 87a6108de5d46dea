//! A client whose claim may wait, on a socket of its own.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use prismq::internals::server::Server;
use serde_json::{Value, json};

use crate::api::Api;

/// A connection on which a claim may wait.
pub(crate) struct Waiter(BufReader<TcpStream>);

pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl HttpResponse {
    pub(crate) fn is_applied(&self) -> bool {
        self.applied().is_some_and(|applied| applied.starts_with("wait"))
    }

    /// The preferences that it says were applied.
    pub(crate) fn applied(&self) -> Option<&str> {
        self.head.split("\r\npreference-applied: ").nth(1)?.split("\r\n").next()
    }

    /// The id and the attempts of the task that came of the wait.
    #[track_caller]
    pub(crate) fn task(&self) -> (i64, i64) {
        assert!(self.status == 200 && self.is_applied(), "{} {}", self.head, self.body);
        (self.body["data"]["id"].as_i64().unwrap(), self.body["data"]["attempts"].as_i64().unwrap())
    }

    /// Asserts that nothing came of the wait.
    #[track_caller]
    pub(crate) fn is_none(&self) {
        assert!(self.status == 404 && self.is_applied(), "{} {}", self.head, self.body);
        assert_eq!(self.body["error"], json!("No available tasks"));
    }
}

impl Waiter {
    /// One whose connection the server has accepted.
    pub(crate) fn new(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut waiter = Self(BufReader::new(stream));
        waiter.send("GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(waiter.answer().status, 200);
        waiter
    }

    pub(crate) fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Sends a claim of the worker `waiter` with these header lines.
    pub(crate) fn claim(&mut self, type_id: i64, headers: &str) {
        self.claim_for("waiter", type_id, headers);
    }

    pub(crate) fn claim_for(&mut self, worker_id: &str, type_id: i64, headers: &str) {
        self.claim_with(&json!({"worker_id": worker_id, "task_type_id": type_id}), headers);
    }

    /// Sends a claim with this body.
    pub(crate) fn claim_with(&mut self, body: &Value, headers: &str) {
        let body = body.to_string();
        let length = body.len();
        self.send(&format!(
            "POST /api/tasks/claim HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ));
    }

    pub(crate) fn answer(&mut self) -> HttpResponse {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        let head = head.to_lowercase();
        let length = head.split("\r\ncontent-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        HttpResponse { status, body: serde_json::from_slice(&body).unwrap(), head }
    }

    /// Waits for what comes; true where that is the end.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).unwrap() == 0
    }

    /// Nothing has come yet.
    pub(crate) fn is_waiting(&self) -> bool {
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// One who waits for a task of that type.
pub(crate) fn waiting(api: &Api, type_id: i64, headers: &str) -> Waiter {
    waiting_for("waiter", api, type_id, headers)
}

/// The same for this worker. The server has seen the claim: it has answered others that came after it.
pub(crate) fn waiting_for(worker_id: &str, api: &Api, type_id: i64, headers: &str) -> Waiter {
    waiting_with(api, &json!({"worker_id": worker_id, "task_type_id": type_id}), headers)
}

/// The same for a claim with this body.
pub(crate) fn waiting_with(api: &Api, body: &Value, headers: &str) -> Waiter {
    let mut waiter = Waiter::new(&api.server);
    waiter.claim_with(body, headers);
    for _ in 0..3 {
        api.get("/health").data();
    }
    assert!(waiter.is_waiting(), "{:?}", waiter.answer().head);
    waiter
}
