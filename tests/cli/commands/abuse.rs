//! `serve` under abuse: many connections, and clients that guess keys.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Exchange, Running, Sandbox, exchange, memory, send, wait_for};

const KEY: &str = "a-key-of-the-tests";
const BINARY: &str = env!("CARGO_BIN_EXE_prismq");

/// A `serve` with a low limit on open files.
fn serve(sandbox: &Sandbox) -> (Running, SocketAddr) {
    let line = format!("ulimit -n 200; exec {BINARY} serve --listen 127.0.0.1:0");
    let mut serving = sandbox.program("sh", ["-c", line.as_str()]).env("TASKMANAGER_API_KEY", KEY).start();
    serving.wait_for_stdout("\n");
    let url = serving.stdout();
    let address = url.trim().trim_start_matches("http://").trim_end_matches("/api").parse().unwrap();
    (serving, address)
}

fn call(address: SocketAddr, path: &str, headers: &str) -> Exchange {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).unwrap()
}

fn with_key(address: SocketAddr, key: &str) -> Exchange {
    call(address, "/api/tasks", &format!("X-API-Key: {key}\r\n"))
}

#[test]
fn many_connections_neither_block_others_nor_take_memory() {
    let sandbox = Sandbox::new();
    let (serving, address) = serve(&sandbox);
    let before = memory(serving.id(), "VmRSS");
    // One that has sent the key, idle like the others.
    let mut honest = TcpStream::connect(address).unwrap();
    honest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let list = format!("GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n");
    let mut ask = || {
        honest.write_all(list.as_bytes()).unwrap();
        let mut answer = [0; 12];
        honest.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        while honest.read(&mut [0; 4096]).unwrap() == 4096 {}
    };
    ask();
    let start = Instant::now();
    let crowd: Vec<_> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(call(address, "/api/health", "").status, 200);
    assert_eq!(with_key(address, KEY).status, 200);
    ask();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(crowd);

    let big = "x".repeat(1_900_000);
    let posts = ["/sign-in", "/new", "/api/tasks", "/api/tasks/claim"].map(|path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: 2000000\r\n\r\nkey={big}"
        )
    });
    // If the answer comes before the end of the body, the rest is not read.
    let senders: Vec<_> = posts.iter().cycle().take(100).filter_map(|post| send(address, post).ok()).collect();
    assert_eq!(call(address, "/api/health", "").status, 200);
    // The heads of these are complete, but their bodies never end.
    let forms: Vec<_> = (0..200).map(|n| send(address, &posts[n % 4][..500]).unwrap()).collect();
    assert_eq!(call(address, "/api/health", "").status, 200);
    drop(forms);
    // These do not read their answers.
    let pages = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5000);
    let takers: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    for mut taker in &takers {
        taker.set_nonblocking(true).unwrap();
        let _ = taker.write(pages.as_bytes());
    }
    assert_eq!(call(address, "/api/health", "").status, 200);
    drop(takers);
    let heads: Vec<_> = (0..100).map(|_| send(address, &format!("GET /{}", "x".repeat(1000))).unwrap()).collect();
    assert_eq!(call(address, "/api/health", "").status, 200);
    let grown = memory(serving.id(), "VmRSS").saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB more for {} clients", senders.len() + heads.len());
    assert_eq!(with_key(address, KEY).status, 200);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn wrong_keys_are_slowed_down_and_logged_but_not_the_right_one() {
    let sandbox = Sandbox::new();
    let (mut serving, address) = serve(&sandbox);
    let sign_in = |key: &str| {
        let (form, origin) = (format!("key={key}"), "Origin: http://localhost\r\nConnection: close");
        let head = format!("POST /sign-in HTTP/1.1\r\nHost: localhost\r\n{origin}\r\nContent-Length: {}", form.len());
        let kind = "Content-Type: application/x-www-form-urlencoded";
        exchange(address, &format!("{head}\r\n{kind}\r\n\r\n{form}")).unwrap()
    };
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!((with_key(address, "guess").status, sign_in("guess").status), (401, 401));
    }
    assert!(start.elapsed() < Duration::from_secs(8), "who mistypes a key does not wait for a second each time");
    let last = send(address, "GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nX-API-Key: guess\r\n\r\n").unwrap();
    let start = Instant::now();
    assert_eq!((with_key(address, KEY).status, sign_in(KEY).status), (200, 303));
    assert!(start.elapsed() < Duration::from_millis(950), "{:?}", start.elapsed());
    assert_eq!(with_key(address, "guess").status, 401);
    assert!(start.elapsed() > Duration::from_millis(800), "{:?}", start.elapsed());
    drop(last);

    let cookie = sign_in(KEY).header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    let call = |method: &str, path: &str, headers: &str, body: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}");
        exchange(address, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).unwrap()
    };
    let key = format!("X-API-Key: {KEY}\r\n");
    let task_type = r#"{"name":"a","version":"1","param_schema":{"type":"object"}}"#;
    assert_eq!(call("POST", "/api/task-types/register", &key, task_type).status, 200);
    let form = "Origin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let created = call("POST", "/new", &format!("{form}Cookie: {cookie}\r\n"), "type=a&json=%7B%7D");
    assert_eq!(created.header("Location"), Some("/tasks/1?is=new"));
    let lines =
        ["wrong API key address=127.0.0.1 refused=1\n", "refused=10\n", "signed in on the page address=127.0.0.1"];
    for line in [&lines[..], &["task created on the page address=127.0.0.1 task_id=1"]].concat() {
        serving.wait_for_stderr(line);
    }
    let log = serving.stderr();
    assert_eq!(log.matches("wrong API key").count(), 2, "{log}");
    assert!(!log.contains("guess") && !log.contains(KEY) && !log.contains(&cookie), "{log}");
}

#[test]
fn a_slow_request_is_kept_among_many_connections() {
    let sandbox = Sandbox::new();
    let (_serving, address) = serve(&sandbox);
    // A request whose head has arrived is not idle, however slow it is.
    let head =
        format!("POST /api/tasks/claim HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: 2\r\n\r\n{{");
    let mut slow = send(address, &head).unwrap();
    let crowd: Vec<_> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_for("an answer", || (call(address, "/api/health", "").status == 200).then_some(()));
    slow.write_all(b"}").unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    drop(crowd);
}
