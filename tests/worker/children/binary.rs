//! The real binary: that all this is switched on in it.

use prismq::internals::server::{Server, Settings};
use serde_json::json;

use crate::support::{Sandbox, assert_ends, pid_in, processes_in};

const KEY: &str = "the-key-of-the-task-manager";
const TOKEN: &str = "the-token-of-a-model";

/// A TaskManager with one task, and a folder in which `prismq` has a handler for it.
fn scene(script: &str) -> (Server, Sandbox) {
    let sandbox = Sandbox::new().env("TASKMANAGER_API_KEY", KEY).env("MODEL_TOKEN", TOKEN);
    let any_port = ([127, 0, 0, 1], 0).into();
    let settings = Settings { api_key: Some(KEY.into()), ..Settings::new(any_port, sandbox.path("tasks.db")) };
    let server = Server::start(&settings).unwrap();
    let sandbox = sandbox.env("TASKMANAGER_API_URL", &server.api_url());
    sandbox.write("handler.sh", script);
    sandbox.write("key", KEY);
    let handler = "[[task_type]]\nname = 'example.any'\nexec = ['sh', 'handler.sh']\npass_env = ['MODEL_TOKEN']\n";
    sandbox.write("prismq.toml", handler);
    sandbox.prismq(["register-type", "example.any"]).run().exits(0);
    sandbox.prismq(["create-task", "example.any"]).run().exits(0);
    (server, sandbox)
}

#[test]
fn secrets_reach_neither_the_log_nor_the_results_nor_the_task_manager() {
    let script = "echo \"on stderr: $(cat key), $MODEL_TOKEN\" >&2
        echo \"{\\\"key\\\":\\\"$(cat key)\\\",\\\"token\\\":\\\"<$MODEL_TOKEN>\\\"}\"
        (setsid sleep 60 &)";
    let (_server, sandbox) = scene(script);
    let worked = sandbox.prismq(["work", "--drain"]).run().exits(0);
    assert!(worked.stderr.contains("on stderr: ***, ***"), "{worked:?}");
    let data = json!({"key": "***", "token": "<***>"});
    assert_eq!(sandbox.prismq(["show-task", "1", "--json"]).run().json()["result"]["data"], data);
    assert_eq!(sandbox.prismq(["results", "1", "--json"]).run().json()["data"], data);
    assert_eq!(processes_in(&sandbox.path("")), [""; 0]);
}

/// It runs on the main thread, whose children are the orphans, too.
#[test]
fn a_claim_by_hand_gets_the_exit_of_its_handler() {
    let (_server, sandbox) = scene("(setsid true &); (setsid sleep 60 &); exit 75");
    let worked = sandbox.prismq(["claim", "--run"]).run().exits(1);
    assert_eq!(worked.json()["error_type"], "temporary");
    assert_eq!(processes_in(&sandbox.path("")), [""; 0]);
}

#[test]
fn the_next_worker_ends_what_has_cleared_its_environment() {
    let (_server, sandbox) = scene("env -i setsid sh -c 'echo $$ > pid; exec sleep 60' & exec sleep 60");
    let worker = sandbox.prismq(["work"]).start();
    let bare = pid_in(&sandbox.path("pid"));
    worker.crash();
    let mut next = sandbox.prismq(["work"]).start();
    next.wait_for_stderr(&format!("orphan killed pid={bare}"));
    assert_ends(bare);
}

#[test]
fn a_handler_dies_with_its_worker() {
    for command in [&["work"][..], &["claim", "--run"]] {
        let (_server, sandbox) = scene("echo $$ > pid; exec sleep 60");
        let worker = sandbox.prismq(command.iter().copied()).start();
        let handler = pid_in(&sandbox.path("pid"));
        worker.crash();
        assert_ends(handler);
    }
}
