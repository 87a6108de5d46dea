//! `serve`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Running, Sandbox, complains, complains_in_json, wait_for};

const ANY_PORT: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// The base URL that `serve` prints.
fn url(serving: &mut Running) -> String {
    serving.wait_for_stdout("\n");
    serving.stdout().trim().to_owned()
}

/// The address of a base URL.
fn connect(url: &str) -> TcpStream {
    TcpStream::connect(url.trim_start_matches("http://").trim_end_matches("/api")).unwrap()
}

#[test]
fn only_the_url_is_printed() {
    let sandbox = Sandbox::new();
    let mut serving = sandbox.prismq(ANY_PORT).start();
    let url = url(&mut serving);
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/api"), "{url}");
    serving.wait_for_stderr(&format!("export TASKMANAGER_API_URL={url}\n"));
    let page = url.trim_end_matches("api");
    serving.wait_for_stderr(&format!("its web page is {page}\n"));
    let health = sandbox.prismq(["health", "--json", "--api-url", &url]).run().exits(0).json();
    assert_eq!(health["api_connectivity"], true);
    serving.terminate();
    let output = serving.wait().exits(0);
    assert_eq!(output.stdout, format!("{url}\n"));

    let mut serving = sandbox.prismq(ANY_PORT).args(["--json"]).start();
    serving.wait_for_stdout("\n");
    serving.terminate();
    let said = serving.wait().exits(0).json();
    let api_url = said["api_url"].as_str().unwrap();
    assert_eq!(api_url.strip_suffix("api"), said["page_url"].as_str());
}

#[test]
fn tasks_survive_a_restart() {
    let sandbox = Sandbox::new();
    let mut first = sandbox.prismq(ANY_PORT).args(["--db", "folder/tasks.db"]).start();
    let first_url = url(&mut first);
    let run = |url: &str, line: &str| sandbox.prismq(line.split(' ')).env("TASKMANAGER_API_URL", url).run();
    run(&first_url, "register-type a.b --schema {\"type\":\"object\"}").exits(0);
    run(&first_url, "create-task a.b n=1").exits(0);
    first.terminate();
    first.wait().exits(0);
    let mut second = sandbox.prismq(ANY_PORT).args(["--db", "folder/tasks.db", "--claim-timeout", "1ms"]).start();
    let second_url = url(&mut second);
    for attempt in 1..=2 {
        let claimed = run(&second_url, "claim a.b --timeout 5s --json").exits(0).json();
        assert_eq!((&claimed["id"], &claimed["attempt"]), (&json!(1), &json!(attempt)));
    }
}

#[test]
fn max_attempts_limits_attempts() {
    let sandbox = Sandbox::new();
    let mut serving = sandbox.prismq(ANY_PORT).args(["--max-attempts", "1"]).start();
    let url = url(&mut serving);
    let run = |line: &str| sandbox.prismq(line.split(' ')).env("TASKMANAGER_API_URL", &url).run().exits(0);
    run("register-type a.b --schema {\"type\":\"object\"}");
    run("create-task a.b n=1");
    run("claim a.b --once");
    run("fail 1 --error x");
    assert_eq!(run("show-task 1 --json").json()["status"], "failed");
}

#[test]
fn ended_tasks_are_kept_for_the_retention_time() {
    let sandbox = Sandbox::new();
    let mut serving = sandbox.prismq(ANY_PORT).args(["--keep", "100ms"]).start();
    let url = url(&mut serving);
    let run = |line: &str| sandbox.prismq(line.split(' ')).env("TASKMANAGER_API_URL", &url).run();
    run("register-type a.b --schema {\"type\":\"object\"}").exits(0);
    run("create-task a.b n=1").exits(0);
    run("create-task a.b n=2").exits(0);
    run("claim a.b --once").exits(0);
    run("complete 1").exits(0);
    wait_for("the first to be removed", || (run("show-task 1").code() == 1).then_some(()));
    run("show-task 2").exits(0);
}

#[test]
fn serve_stops_at_once_despite_open_connections() {
    for signal in [Signal::TERM, Signal::INT] {
        let sandbox = Sandbox::new();
        let mut serving = sandbox.prismq(ANY_PORT).start();
        let url = url(&mut serving);
        let _silent = connect(&url);
        let mut idle = connect(&url);
        idle.write_all(b"GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let start = Instant::now();
        serving.signal(signal);
        serving.wait().exits(0);
        assert!(start.elapsed() < Duration::from_millis(2900), "connections are left after 3 s: {:?}", start.elapsed());
    }
}

#[test]
fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Sandbox::new().prismq(["serve", "--listen", &address]).run();
    complains(&output, 1, &[&address, "already", "--listen"]);
    complains_in_json(&Sandbox::new().prismq(["serve", "--json", "--listen", &address]).run(), 1);
}

#[test]
fn other_machines_need_a_key() {
    let sandbox = Sandbox::new();
    let everywhere = ["serve", "--listen", "0.0.0.0:0"];
    complains(&sandbox.prismq(everywhere).run(), 2, &["0.0.0.0:0", "other machines", "TASKMANAGER_API_KEY"]);
    let output = sandbox.prismq(everywhere).env("TASKMANAGER_API_KEY", "k").run();
    complains(&output, 2, &["0.0.0.0:0", "fewer than 16 characters", "openssl rand -hex 16"]);
    let mut serving = sandbox.prismq(everywhere).env("TASKMANAGER_API_KEY", "a-key-of-the-tests").start();
    let url = url(&mut serving);
    serving.wait_for_stderr("other machines can reach");
    let list = || sandbox.prismq(["list-tasks", "--json", "--api-url", &url]);
    complains_in_json(&list().run(), 5);
    list().env("TASKMANAGER_API_KEY", "a-key-of-the-tests").run().exits(0);
}

#[test]
fn another_programs_database_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("text", "this is no database\n");
    let output = sandbox.prismq(ANY_PORT).args(["--db", "text"]).run();
    complains(&output, 2, &["text", "not a database"]);
    assert_eq!(sandbox.read("text"), "this is no database\n");
    for arguments in [["--listen", "localhost:x"], ["--listen", "127.0.0.1"], ["--claim-timeout", "0"], ["--keep", "0"]]
    {
        sandbox.prismq(["serve"]).args(arguments).run().exits(2);
    }
}
