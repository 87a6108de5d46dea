//! What takes long is done beside the thread that serves, and ends where nobody waits for it any more: the real binary.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::exchange;
use crate::support::{Running, Sandbox, wait_for};

/// `prismq serve` with a type `a`.
struct Served {
    running: Running,
    address: SocketAddr,
    _sandbox: Sandbox,
}

impl Served {
    fn start(schema: &Value) -> Self {
        Self::start_with(schema, &[])
    }

    fn start_with(schema: &Value, arguments: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"];
        let mut running = sandbox.prismq(serve.iter().chain(arguments).copied()).start();
        running.wait_for_stdout("/api\n");
        let address = running.stdout().split('/').nth(2).unwrap().parse().unwrap();
        let this = Self { running, address, _sandbox: sandbox };
        this.call("POST", "/task-types/register", &json!({"name": "a", "version": "1", "param_schema": schema}));
        this
    }

    /// The data of the answer to a call.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.send(method, path, &body.to_string())
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = exchange::exchange(self.address, (method, path), None, body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str::<Value>(&answer.body).unwrap()["data"].take()
    }

    /// Makes so many calls at once; how often `/health` is answered meanwhile.
    fn health_meanwhile(&self, calls: usize, call: impl Fn(usize) + Sync) -> usize {
        let (made, call) = (AtomicUsize::new(0), &call);
        thread::scope(|scope| {
            for n in 0..calls {
                let made = &made;
                scope.spawn(move || {
                    call(n);
                    made.fetch_add(1, Ordering::SeqCst);
                });
            }
            let mut answered = 0;
            while made.load(Ordering::SeqCst) < calls {
                self.send("GET", "/health", "");
                answered += 1;
            }
            answered
        })
    }

    /// Starts a check that goes on for minutes, and waits until it is under way.
    fn start_long_check(&self) -> std::net::TcpStream {
        let params = json!({"v": vec!["a".repeat(4_000); 60]});
        let body = json!({"type": "a", "params": params}).to_string();
        let waiting = exchange::send(self.address, ("POST", "/tasks"), None, &body).unwrap();
        wait_for("the check to begin", || self.is_checking().then_some(()));
        waiting
    }

    /// Whether a thread of it checks params.
    fn is_checking(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.running.id())).unwrap().flatten();
        threads.map(|it| fs::read_to_string(it.path().join("comm")).unwrap_or_default()).any(|name| name == "schema\n")
    }
}

/// All of each text is looked at from each place in it.
fn stubborn() -> Value {
    json!({"type": "object", "properties": {"v": {"items": {"not": {"pattern": "^(?:(?=.*a)a)+(?=b)b$"}}}}})
}

#[test]
fn other_calls_are_answered_during_large_calls() {
    const CALLS: usize = 4;
    let served = Served::start(&json!({"type": "object"}));
    let list = "0,".repeat(100_000);
    let large = |what: &str, path: &str, body: &dyn Fn(usize) -> (String, String)| {
        let requests: Vec<_> = (0..CALLS).map(body).collect();
        let meanwhile = served.health_meanwhile(CALLS, |n| {
            let (method, body) = &requests[n];
            let path = path.replace('N', &(n + 1).to_string());
            let answer = exchange::exchange(served.address, (method, &path), None, body).unwrap();
            assert_eq!(answer.status, 200, "{what}");
        });
        // One that waits for them is answered between two of them at best.
        assert!(meanwhile > 5 * CALLS, "{what}: {meanwhile}");
    };
    let params = |n: usize| format!(r#"{{"type":"a","params":{{"v":[{list}{n}]}}}}"#);
    large("create", "/tasks", &|n| ("POST".to_owned(), params(n)));
    for _ in 0..CALLS {
        served.call("POST", "/tasks/claim", &json!({"worker_id": "w", "task_type_id": 1}));
    }
    let result = |n: usize| format!(r#"{{"worker_id":"w","success":true,"result":[{list}{n}]}}"#);
    large("complete", "/tasks/N/complete", &|n| ("POST".to_owned(), result(n)));
}

#[test]
fn other_calls_are_answered_during_large_calls_of_the_published_server() {
    const CALLS: usize = 4;
    let served = Served::start_with(&json!({"type": "object"}), &["--fault", "published"]);
    let body = format!(r#"{{"type":"a","params":{{"v":[{}0]}}}}"#, "0,".repeat(450_000));
    let meanwhile = served.health_meanwhile(CALLS, |_| {
        let answer = exchange::exchange(served.address, ("POST", "/tasks"), None, &body).unwrap();
        assert_eq!(answer.status, 500, "{}", answer.body);
        assert!(answer.body.contains("Data too long"), "{}", answer.body);
    });
    assert!(meanwhile > 5 * CALLS, "{meanwhile}");
}

#[test]
fn other_calls_are_answered_while_large_tasks_are_read() {
    const CALLS: usize = 20;
    let served = Served::start(&json!({"type": "object"}));
    let text = "x".repeat(12 << 20);
    served.send("POST", "/tasks", &format!(r#"{{"type":"a","params":{{"text":"{text}"}}}}"#));
    let meanwhile = served.health_meanwhile(CALLS, |_| {
        let answer = exchange::exchange(served.address, ("GET", "/tasks/1"), None, "").unwrap();
        assert_eq!(answer.status, 200);
    });
    assert!(meanwhile > 5 * CALLS, "{meanwhile}");
}

#[cfg(target_os = "linux")]
#[test]
fn large_answers_share_a_memory_limit() {
    use std::io::Read;
    const MIB: usize = 1 << 20;
    let served = Served::start(&json!({"type": "object"}));
    let body = format!(r#"{{"type":"a","params":{{"text":"{}"}}}}"#, "x".repeat(8 * MIB));
    served.send("POST", "/tasks", &body);
    let asking: Vec<_> =
        (0..100).map(|_| exchange::send(served.address, ("GET", "/tasks/1"), None, "").unwrap()).collect();
    let statuses = asking.iter().map(|mut stream| {
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        String::from_utf8_lossy(&start[9..]).into_owned()
    });
    let (answered, refused): (Vec<_>, Vec<_>) = statuses.partition(|status| status == "200");
    assert!(answered.len() >= 20 && refused.iter().all(|status| status == "503"), "{answered:?} {refused:?}");
    let most = peak_memory(served.running.id());
    assert!(most < 500 * MIB, "{} MiB", most / MIB);
}

/// The most memory that a process had, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn calls_of_a_connection_keep_their_order() {
    use std::io::{Read, Write};
    let served = Served::start(&json!({"type": "object"}));
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    let create = |n: usize, length: usize| {
        let body = format!(r#"{{"type":"a","params":{{"n":{n},"text":"{}"}}}}"#, "x".repeat(length));
        let close = if n == 6 { "Connection: close\r\n" } else { "" };
        let length = body.len();
        format!("POST /api/tasks HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: {length}\r\n\r\n{body}")
    };
    let calls: String = (1..=6).map(|n| create(n, if n % 2 == 1 { 100_000 } else { 1 })).collect();
    stream.write_all(calls.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let ids: Vec<&str> = answers.split("\"data\":{\"id\":").skip(1).map(|rest| &rest[..1]).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6"]);
    for n in 1..=6 {
        assert_eq!(served.send("GET", &format!("/tasks/{n}"), "")["params"]["n"], n);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_check_is_cancelled_when_its_client_disconnects() {
    let served = Served::start(&stubborn());
    drop(served.start_long_check());
    wait_for("the check to end", || (!served.is_checking()).then_some(()));
    // Whose params fit is none the worse.
    served.call("POST", "/tasks", &json!({"type": "a", "params": {"v": ["c"]}}));
}

#[cfg(target_os = "linux")]
#[test]
fn sigterm_ends_a_server_during_a_check() {
    let served = Served::start(&stubborn());
    let _waiting = served.start_long_check();
    served.running.terminate();
    served.running.wait().exits(0);
}
