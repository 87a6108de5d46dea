//! The endpoint itself: what it answers to, and whom it does not let hold it up.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Rig, StatusWorker, wait_for};

#[test]
fn an_address_in_use_is_said_before_anything_is_claimed() {
    let rig = Rig::start();
    let id = rig.case("good", "echo 1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let output = rig.work(["--drain", "--status-addr", &taken.to_string()]).run().exits(2);
    let line = format!(
        "prismq: status_addr: another program is already listening on {taken}; choose another address, or remove it\n"
    );
    assert_eq!(output.stderr, line);
    assert_eq!(rig.taskmanager.status(id), "pending");
}

#[test]
fn the_address_may_come_from_the_environment() {
    let rig = Rig::start();
    let output = rig.work(["--drain"]).env("PRISMQ_STATUS_ADDR", "127.0.0.1:0").run().exits(0);
    assert!(output.stderr.contains("serving status page, health and metrics address=127.0.0.1:"), "{}", output.stderr);
}

#[test]
fn it_answers_only_reads_of_known_paths() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    wait_for("the first answer", || (worker.get("/ready").0 == 200).then_some(()));
    for path in ["/health", "/ready", "/metrics"] {
        let head = worker.ask("HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = worker.ask(method, path);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
    }
    assert_eq!((worker.get("/nothing").0, worker.get("/api/tasks").0), (404, 404));
    let kind = worker.ask("GET", "/metrics").header("content-type").map(str::to_owned);
    assert_eq!(kind.as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[test]
fn a_client_that_sends_its_request_byte_by_byte_is_left() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let mut slow = TcpStream::connect(worker.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nX-Long: ").unwrap();
    let is_open = |mut stream: &TcpStream| match stream.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    let begun = Instant::now();
    while is_open(&slow) && slow.write_all(b"a").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(15), "it is still open");
    }
    assert_eq!(worker.get("/health").0, 200, "others are served");
}

#[test]
fn a_request_without_end_is_refused() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let line = [b"X-Long: ".as_slice(), &[b'a'; 1000], b"\r\n"].concat();
    let _ = stream.write_all(b"GET /health HTTP/1.1\r\n");
    let sent = (0..10_000).take_while(|_| stream.write_all(&line).is_ok()).count();
    assert!(sent < 10_000, "it read ten megabytes of head");
}

#[test]
fn a_body_without_end_is_not_read() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let chunk = [b"fa0\r\n".as_slice(), &[b'a'; 4000], b"\r\n"].concat();
    let _ = stream.write_all(b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let sent = (0..5000).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 5000, "it read twenty megabytes of body");
    assert_eq!(worker.get("/health").0, 200, "others are served");
}

#[test]
fn a_client_that_never_reads_its_answers_is_left() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let error = (0..10_000).find_map(|_| stream.write_all(requests.as_bytes()).err());
    let error = error.expect("it went on reading");
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it kept the connection: {error}");
}

#[test]
fn clients_that_stay_connected_do_not_keep_others_out() {
    /// Many more than there are places.
    const COUNT: usize = 120;
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let begun = Instant::now();
    (0..COUNT).for_each(|_| assert_eq!(worker.get("/health").0, 200));
    let usual = begun.elapsed();
    let begun = Instant::now();
    // Every other one has asked, and stays.
    let kept: Vec<TcpStream> = (0..COUNT)
        .map(|n| {
            let mut stream = TcpStream::connect(worker.address).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream.read_exact(&mut [0; 12]).unwrap();
            }
            stream
        })
        .collect();
    assert_eq!(worker.get("/health").0, 200);
    // Those that have to wait for a place wait for five seconds, and there are as many places as that twice.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3) + 5 * usual, "{took:?}, and {usual:?} for those that do not stay");
    drop(kept);
}

#[test]
fn names_that_are_not_of_this_machine_are_shown_nothing() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    for host in ["rebound.example.com", "rebound.example.com:80", "10.0.0.1", "", "localhost.example.com"] {
        for path in ["/", "/health", "/ready", "/metrics", "/nothing"] {
            let answer = worker.ask_as(host, path);
            assert_eq!((answer.status, answer.body.contains("prismq")), (403, false), "{host} {path}");
        }
    }
    for host in ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:80", "[::1]:80"] {
        assert_eq!(worker.ask_as(host, "/health").status, 200, "{host}");
    }
}

#[test]
fn all_answers_say_that_they_are_not_to_be_kept_or_shown_elsewhere() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let asked = [("GET", "/"), ("GET", "/health"), ("GET", "/metrics"), ("GET", "/nothing"), ("POST", "/"), ("?", "?")];
    for answer in asked.map(|(method, path)| worker.ask(method, path)).iter().chain([&worker.ask_as("a", "/")]) {
        let header = |name| answer.header(name).unwrap_or_default();
        assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff", "no-store"), "{answer:?}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{answer:?}");
    }
}

#[test]
fn an_address_that_others_can_reach_is_warned_of() {
    let rig = Rig::start();
    let output = rig.work(["--drain", "--status-addr", "0.0.0.0:0"]).run().exits(0);
    assert!(output.stderr.contains("other machines can reach"), "{}", output.stderr);
    let output = rig.work(["--drain", "--status-addr", "127.0.0.1:0"]).run().exits(0);
    assert!(!output.stderr.contains("other machines"), "{}", output.stderr);
}

#[test]
fn a_client_that_hangs_does_not_hold_up_the_end() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nX-Long: ").unwrap();
    assert_eq!(worker.get("/health").0, 200, "by then it has read what came before");
    let begun = Instant::now();
    worker.running.terminate();
    worker.running.wait().exits(0);
    assert!(begun.elapsed() < Duration::from_millis(4500), "it is left after 5 s: {:?}", begun.elapsed());
}

#[test]
fn many_requests_are_answered_from_few_looks_while_the_slots_work() {
    const TASKS: u64 = 60;
    let rig = Rig::start();
    rig.script("it", "echo 1");
    let worker = StatusWorker::start(&rig, ["--concurrency", "2"]);
    wait_for("the first answer", || (worker.get("/ready").0 == 200).then_some(()));
    let (asked, begun) = (AtomicUsize::new(0), Instant::now());
    for n in 0..TASKS {
        rig.taskmanager.create("case", json!({"case": "it", "n": n}));
    }
    let ask = |path: &str| {
        let mut bodies = BTreeSet::new();
        while worker.health()["tasks_processed"] != json!(TASKS) {
            for _ in 0..20 {
                bodies.insert(worker.get(path).1);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
        bodies.len()
    };
    // Each answer that is made differs from the one before: by a time in it, or by what it counts.
    let made: Vec<usize> = thread::scope(|scope| {
        let askers = ["/", "/health", "/metrics"].map(|path| scope.spawn(move || ask(path)));
        askers.map(|asker| asker.join().unwrap()).into()
    });
    let (asked, looks) = (asked.into_inner(), begun.elapsed().as_millis() / 200 + 2);
    assert!(made.iter().all(|made| *made as u128 <= looks), "{made:?} looks for {asked} requests, {looks} are enough");
    assert!(asked > 5 * made.iter().sum::<usize>(), "{asked} requests show nothing");
}
