//! `demo`, on a machine without any settings.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Running, Sandbox, names_in, plain, wait_for};

/// A sandbox, and its folder for temporary files.
fn sandbox() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("tmp");
    std::fs::create_dir(&folder).unwrap();
    (sandbox, folder)
}

fn start(sandbox: &Sandbox, folder: &Path, flags: &[&str]) -> Running {
    sandbox.prismq(["demo"]).args(flags.iter().copied()).env("TMPDIR", folder.to_str().unwrap()).start()
}

/// Whether a running process has this text in its command line or its environment.
#[cfg(target_os = "linux")]
fn runs(text: &str) -> bool {
    let is_there = |path: PathBuf| {
        let read = |name| std::fs::read(path.join(name)).unwrap_or_default();
        [read("cmdline"), read("environ")].iter().any(|bytes| String::from_utf8_lossy(bytes).contains(text))
    };
    std::fs::read_dir("/proc").unwrap().any(|entry| is_there(entry.unwrap().path()))
}

#[cfg(not(target_os = "linux"))]
fn runs(_: &str) -> bool {
    false
}

fn assert_nothing_is_left(sandbox: &Sandbox, folder: &Path) {
    assert_eq!(names_in(folder), [] as [String; 0]);
    assert_eq!(names_in(&sandbox.path("")), ["tmp"]);
    assert_eq!(names_in(&sandbox.home("")), [] as [String; 0]);
    // Processes of the demo inherit the variable with the folder.
    wait_for("the end of every process", || (!runs(folder.to_str().unwrap())).then_some(()));
}

#[test]
fn demo_runs_all_tasks_and_shows_the_next_commands() {
    let (sandbox, folder) = sandbox();
    let output = start(&sandbox, &folder, &[]).wait().exits(0);
    let row: Vec<&str> = output.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..6], ["example.count", "200", "0", "0", "100.0", "%"]);
    let last: Vec<&str> = output.stderr.lines().rev().take(5).collect();
    for command in ["prismq work --embedded", "prismq create-task example.count"] {
        assert!(last.iter().any(|line| line.trim().starts_with(command)), "{last:?}");
    }
    assert!(output.stderr.lines().all(|line| line.chars().count() <= 80), "{}", output.stderr);
    assert!(!output.stderr.contains("WARN") && !output.stderr.contains("ERROR"), "{}", output.stderr);
    assert_nothing_is_left(&sandbox, &folder);
}

#[test]
fn demo_needs_no_home_and_ignores_settings() {
    let (sandbox, folder) = sandbox();
    let mut command: Command = plain(&sandbox, "http://127.0.0.1:1/api");
    command.args(["demo", "--json"]).env_remove("HOME").env("TMPDIR", &folder);
    command.env("TASKMANAGER_API_KEY", "a-key").env("MAX_RUNS", "3").env("WORKER_ID", "me");
    command.env("POLL_INTERVAL", "soon").env("PRISMQ_CA_FILE", "nofile");
    let files = ["prismq.toml", ".env"].map(|name| sandbox.write(name, "[nonsense"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
    assert!(output.status.success(), "{output:?}");
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let group = &stats["groups"][0];
    let expected = [json!("example.count"), json!(200), json!(0)];
    assert_eq!(["name", "completed", "failed"].map(|key| group[key].clone()), expected);
    assert_nothing_is_left(&sandbox, &folder);
}

#[test]
fn an_interrupted_demo_leaves_no_files_and_processes() {
    for (text, signal) in [("created 200 tasks\n", Signal::INT), ("started a TaskManager", Signal::TERM)] {
        let (sandbox, folder) = sandbox();
        let mut running = start(&sandbox, &folder, &[]);
        running.wait_for_stderr(text);
        running.signal(signal);
        let output = running.wait().exits(130);
        assert!(!output.stderr.contains("Next"), "{}", output.stderr);
        assert_nothing_is_left(&sandbox, &folder);
    }
}

#[test]
fn demo_names_what_is_missing() {
    let (sandbox, folder) = sandbox();
    let output = sandbox.prismq(["demo"]).env("TMPDIR", folder.to_str().unwrap()).env("PATH", "").run();
    assert!(output.code() != 0 && output.stderr.contains("wc"), "{output:?}");
    assert_eq!(names_in(&folder), [] as [String; 0]);
    let output = sandbox.prismq(["demo"]).env("TMPDIR", "/no/such/folder").run().exits(1);
    assert!(output.stderr.contains("/no/such/folder"), "{}", output.stderr);
}
