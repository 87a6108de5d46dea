//! Whatever a server answers, the client gives a value or an error of one line.
//!
//! An input is one byte that says which call is made, two for the status less 200, and the body of the answer. From 128
//! on in the first byte, all that follows it is the answer as it stands, which need be no HTTP.

#![no_main]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use prismq::internals::TaskResult;
use prismq::internals::clock::{Clock, Slept};
use prismq::internals::taskmanager::{Client, Connection, Order, ResultReport, Retries, TaskFilter};
use prismq::{ErrorType, Outcome, TaskId, TaskManagerError as Error, Timestamp};
use serde_json::json;

type Call = fn(&Client) -> Result<(), Error>;

const CALLS: [Call; 13] = [
    |client| client.health().map(drop),
    Client::check_key,
    |client| client.register_type("a", "1", &json!({})).map(drop),
    |client| client.task_type("a").map(drop),
    |client| client.task_types().map(drop),
    |client| client.create("a", &json!({}), None).map(drop),
    |client| client.claim("worker-1", 1, Order::OldestFirst).map(drop),
    |client| client.progress(TaskId(1), "worker-1", 50, None),
    |client| client.task(TaskId(1)).map(drop),
    |client| client.tasks(&TaskFilter::default()).map(drop),
    |client| client.deliver(&report(Outcome::success(json!(1)))).map(drop),
    |client| client.deliver(&report(Outcome::failure(ErrorType::Crash, "x"))).map(drop),
    |client| client.redeliver(&report(Outcome::success(json!(1)))).map(drop),
];

fn report(outcome: Outcome) -> ResultReport {
    let now = Timestamp::UNIX_EPOCH;
    ResultReport::from(&TaskResult {
        task_id: TaskId(1),
        task_type: "a".into(),
        attempt: 1,
        worker_id: "worker-1".into(),
        api_url: String::new(),
        params: json!({}),
        outcome,
        claimed_at: now,
        started_at: now,
        finished_at: now,
    })
}

/// A clock on which no wait lasts.
struct Haste;

impl Clock for Haste {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn sleep(&self, _: Duration) -> Slept {
        Slept::Whole
    }
}

/// What the server answers next; and whether the connection ends with it.
static ANSWER: Mutex<(Vec<u8>, bool)> = Mutex::new((Vec::new(), false));

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream?));
        }
        io::Result::Ok(())
    });
    let connection = Connection { call_timeout: Duration::from_secs(2), ..Connection::new(url, Some("key".into())) };
    Client::new(&connection, Retries::NONE, Arc::new(Haste)).unwrap()
});

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(&stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((_, value)) = line.to_ascii_lowercase().split_once("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let (answer, is_last) = ANSWER.lock().unwrap().clone();
        (&stream).write_all(&answer)?;
        if is_last {
            return Ok(());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let (call, answer) = match input {
        [call @ ..128, high, low, body @ ..] => {
            let status = 200 + u16::from_be_bytes([*high, *low]) % 400;
            let head = format!("HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // To these statuses there is no body, whatever is said.
            (call, ([head.as_bytes(), body].concat(), [204, 304].contains(&status)))
        }
        [call, raw @ ..] => (call, (raw.to_vec(), true)),
        [] => return,
    };
    *ANSWER.lock().unwrap() = answer;
    if let Err(error) = CALLS[usize::from(*call) % CALLS.len()](&CLIENT) {
        let text = error.to_string();
        assert!(!text.contains(char::is_control) && text.chars().count() < 1200, "{text:?}");
    }
});
