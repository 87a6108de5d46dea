//! The log, where systemd's journal takes it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::json;

use crate::rig::{ANY, Rig};

/// The log of a worker on one task, where `JOURNAL_STREAM` names what standard error leads to, or something else.
fn log(arguments: &[&str], is_journal: bool) -> String {
    let rig = Rig::new();
    rig.create(ANY, &json!({"a": 1}));
    let path = rig.sandbox.path("log");
    let file = File::create(&path).unwrap();
    let metadata = file.metadata().unwrap();
    let stream = format!("{}:{}", metadata.dev(), metadata.ino() + u64::from(!is_journal));
    let mut command: Command = rig.command();
    command.args(["work", "--max-tasks", "1", "--handle", "example.any=exit 1"]).args(arguments);
    assert!(command.env("JOURNAL_STREAM", stream).stderr(file).status().unwrap().success());
    rig.sandbox.read("log")
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let log = log(&[], true);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.contains(&"<6>INFO  claimed task_id=1 task_type=example.any attempt=1"), "{log}");
    assert!(lines.iter().any(|line| line.starts_with("<4>WARN  failed: exit code 1 ")), "{log}");
    assert!(lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
}

#[test]
fn anybody_else_gets_the_time_and_json_stays_as_it_is() {
    let elsewhere = log(&[], false);
    assert!(elsewhere.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{elsewhere}");
    let json = log(&["--log-format", "json"], true);
    assert!(json.lines().all(|line| line.starts_with("{\"timestamp\":")), "{json}");
}
