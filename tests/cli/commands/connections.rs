//! A server that closes connections after use.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::json;

use crate::support::{ANY, Answer, Sandbox, ScriptedServer, type_found};

#[test]
fn each_line_is_created_once_despite_broken_connections() {
    for broken in [Answer::reset(), Answer::close()] {
        let created = Mutex::new(BTreeSet::new());
        let server = ScriptedServer::start(move |request| {
            if request.before > 0 {
                return broken.clone();
            }
            if request.path == "/health" {
                return Answer::data(&json!({"status": "healthy", "database": "connected"}));
            }
            let mut created = created.lock().unwrap();
            assert!(created.insert(request.body.clone()), "it was created before");
            Answer::data(&json!({"id": created.len(), "type": ANY, "status": "pending"}))
        });
        let lines: Vec<String> = (0..40).map(|n| json!({"n": n}).to_string()).collect();
        let sandbox = Sandbox::at(&server.url());
        let create = sandbox.prismq(["create-task", ANY, "--from", "-", "--concurrency", "4"]);
        let output = create.stdin(lines.join("\n")).run().exits(0);
        let ids: BTreeSet<&str> = output.stdout.lines().collect();
        assert_eq!((ids.len(), output.stdout.lines().count()), (40, 40), "{output:?}");
        assert!(output.stderr.contains("40 created, 0 already existed, 0 failed"), "{output:?}");
    }
}

#[test]
fn single_try_clients_do_not_reuse_connections() {
    let server = ScriptedServer::start(|request| match request.path.as_str() {
        _ if request.before > 0 => Answer::reset(),
        "/health" => Answer::data(&json!({"status": "healthy", "database": "connected"})),
        "/task-types/example.any" => type_found(),
        _ => Answer::data(&json!([])),
    });
    let sandbox = Sandbox::at(&server.url());
    sandbox.write("prismq.toml", format!("[[task_type]]\nname = '{ANY}'\nexec = 'cat'\n"));
    sandbox.prismq(["health"]).run().exits(0);
}
