//! What is confirmed is on disk: the real binary on a disk that can be made to fail.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::api::Client;
use crate::browser::Browser;
use crate::support::{Running, Sandbox, exchange};

/// A server whose syncs fail while there is a file `broken` in its folder, which is the sandbox's; and its API.
fn serve(sandbox: &Sandbox) -> (Running, Client) {
    let source = sandbox.write("fdatasync.c", include_str!("fdatasync.c"));
    let library = sandbox.path("fdatasync.so");
    // The C compiler that SQLite takes as well.
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db", "--max-attempts", "1"];
    let mut running = sandbox.prismq(serve).env("LD_PRELOAD", library.to_str().unwrap()).start();
    running.wait_for_stdout("/api\n");
    let api = Client::new(running.stdout().trim().to_owned());
    (running, api)
}

#[test]
fn no_change_is_confirmed_before_it_is_on_disk() {
    let sandbox = Sandbox::new();
    let (running, api) = serve(&sandbox);
    let post = |path: &str, body: serde_json::Value| api.send("POST", path, &[], &body.to_string());
    let browser = Browser::of(running.stdout().split('/').nth(2).unwrap().parse().unwrap());
    let create = |n: &str| browser.post("/new", &[("type", "a"), ("json", &format!("{{\"n\":{n}}}"))]);
    let put_back = || browser.post("/tasks/1/put-back", &[]);
    post("/task-types/register", json!({"name": "a", "version": "1.0.0", "param_schema": {"type": "object"}})).data();
    create("1").leads_to("/tasks/1?is=new");
    let fail = || {
        post("/tasks/claim", json!({"worker_id": "w", "task_type_id": 1})).data();
        post("/tasks/1/complete", json!({"worker_id": "w", "success": false, "error": "no"})).data();
    };
    fail();
    put_back().leads_to("/tasks/1?is=back");
    fail();

    sandbox.write("broken", "");
    for page in [create("2"), put_back()] {
        assert_eq!((page.status, page.header("location")), (500, None), "{}", page.body);
        page.has(&["<h1>Internal Server Error</h1>", ": input/output error<"]);
    }
    assert_eq!(post("/tasks", json!({"type": "a", "params": {"n": 3}})).status, 500);
    browser.get("/tasks/1").has(&["Task 1"]);

    fs::remove_file(sandbox.path("broken")).unwrap();
    create("2").leads_to("/tasks/2?is=old");
}

#[test]
fn a_server_whose_database_is_gone_confirms_nothing_more() {
    type Lose = fn(&Sandbox);
    let losses: [(&str, Lose); 4] = [
        ("tasks.db was deleted or moved", |sandbox| fs::remove_file(sandbox.path("tasks.db")).unwrap()),
        ("tasks.db was replaced by another file", |sandbox| {
            fs::copy(sandbox.path("tasks.db"), sandbox.path("copy")).unwrap();
            fs::rename(sandbox.path("copy"), sandbox.path("tasks.db")).unwrap();
        }),
        ("tasks.db was emptied", |sandbox| drop(fs::File::create(sandbox.path("tasks.db")).unwrap())),
        ("tasks.db-wal was deleted or moved", |sandbox| fs::remove_file(sandbox.path("tasks.db-wal")).unwrap()),
    ];
    for (loss, lose) in losses {
        let sandbox = Sandbox::new();
        let mut running = sandbox.prismq(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]).start();
        running.wait_for_stdout("/api\n");
        let address = running.stdout().split('/').nth(2).unwrap().parse().unwrap();
        let register = |name: &str| {
            let body = json!({"name": name, "version": "1.0.0", "param_schema": {"type": "object"}}).to_string();
            let head = "POST /api/task-types/register HTTP/1.1\r\nHost: localhost\r\nConnection: close";
            let length = body.len();
            exchange(address, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"))
        };
        assert_eq!(register("a").unwrap().status, 200);
        lose(&sandbox);
        // It looks once a second, and may have ended by now.
        if let Ok(answer) = register("b") {
            assert_eq!(answer.status, 500, "{loss}: {}", answer.body);
        }
        let ended = running.wait().exits(1);
        let said = format!("{loss} while it was in use; start it again: ");
        assert!(ended.stderr.contains(&said), "{loss}: {}", ended.stderr);
    }
}
