//! `examples/count.rs`, which the crate's documentation includes.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Sandbox;

/// Builds the current example, and returns its path in the folder of the profile.
fn build(name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--message-format", "json", "--example", name]);
    // With the variables that cargo sets for this test, it would rebuild the dependencies.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        cargo.env_remove(variable);
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut paths = messages.filter(|message| message["target"]["name"] == name && message["executable"].is_string());
    paths.next().unwrap()["executable"].as_str().unwrap().into()
}

#[test]
fn the_example_works_the_tasks_of_a_real_server_until_a_signal() {
    let count = build("count");
    let sandbox = Sandbox::new().env("PRISMQ_RESULTS", "results.db").env("POLL_INTERVAL", "50ms");
    let mut server = sandbox.prismq(["serve", "--listen", "127.0.0.1:0"]).start();
    server.wait_for_stdout("\n");
    let sandbox = sandbox.env("TASKMANAGER_API_URL", server.stdout().trim());
    sandbox.write(
        "prismq.toml",
        "[[task_type]]\nname = 'example.count'\nschema = {type = 'object', required = ['text']}\nexec = 'exit 1'\n
        [[task_type]]\nname = 'example.other'\nexec = 'cat'\n",
    );
    let mut worker = sandbox.program(count, []).start();
    worker.wait_for_stderr("worker ready task_types=example.count concurrency=8");
    let create = |arguments: &'static str| sandbox.prismq(arguments.split(' ')).run();
    let created = create("create-task example.count text=three\tsmall\twords --wait --json").exits(0).json();
    assert_eq!(created["result"]["data"], json!({"words": 3}), "{created}");
    let failed = create("create-task example.count text:=4 --wait").exits(1);
    assert!(failed.stderr.contains("no text to count"), "{}", failed.stderr);
    assert!(create("create-task example.count txt=4").exits(1).stderr.contains("text"));
    worker.terminate();
    let log = worker.wait().exits(0).stderr;
    assert!(log.contains("error=\"no text to count\""), "{log}");
    let results = sandbox.prismq(["results", "--json"]).run().exits(0).json_lines();
    assert!(results.len() > 1 && results.iter().all(|row| row["reported_at"].is_string()), "{results:?}");
}

#[test]
fn the_example_ends_with_one_line_where_its_settings_are_wrong() {
    let sandbox = Sandbox::at("nowhere");
    let output = sandbox.program(build("count"), []).run().exits(1);
    assert!(output.stderr.starts_with("Error: environment (TASKMANAGER_API_URL): \"nowhere\""), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}
