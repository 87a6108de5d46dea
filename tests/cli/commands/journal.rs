//! The log in systemd's journal.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::{ANY, Rig};

/// The standard error of this command. `JOURNAL_STREAM` names it, or another file.
fn written(rig: &Rig, arguments: &[&str], is_journal: bool) -> String {
    let file = File::create(rig.sandbox.path("log")).unwrap();
    let metadata = file.metadata().unwrap();
    let stream = format!("{}:{}", metadata.dev(), metadata.ino() + u64::from(!is_journal));
    rig.command().args(arguments).env("JOURNAL_STREAM", stream).stderr(file).status().unwrap();
    rig.sandbox.read("log")
}

/// The log of a worker that runs one task.
fn log(arguments: &[&str], is_journal: bool) -> String {
    let rig = Rig::new();
    rig.create(ANY, &json!({"a": 1}));
    let work = ["work", "--max-tasks", "1", "--handle", "example.any=exit 1"];
    written(&rig, &[&work, arguments].concat(), is_journal)
}

#[test]
fn the_journal_gets_levels_without_times() {
    let log = log(&[], true);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.contains(&"<6>INFO  task claimed task_id=1 task_type=example.any attempt=1"), "{log}");
    assert!(
        lines.iter().any(|line| line.starts_with("<4>WARN  task failed ") && line.contains("error=\"exit code 1\"")),
        "{log}"
    );
    assert!(lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
}

#[test]
fn other_logs_have_times_and_json_is_unchanged() {
    let elsewhere = log(&[], false);
    assert!(elsewhere.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{elsewhere}");
    let json = log(&["--log-format", "json"], true);
    assert!(json.lines().all(|line| line.starts_with("{\"timestamp\":")), "{json}");
}

#[test]
fn a_fatal_error_has_the_level_error_in_the_journal() {
    let rig = Rig::new();
    for (line, beginning) in [
        (&["work", "nobody.knows"][..], "<3>prismq: the task type nobody.knows is not configured"),
        (&["work", "--nonsense"], "<3>prismq: unknown option --nonsense"),
        (&["work", "nobody.knows", "--json"], "{\"code\":2"),
    ] {
        let written = written(&rig, line, true);
        assert!(written.starts_with(beginning) && written.lines().count() == 1, "{written}");
    }
    assert!(written(&rig, &["work", "nobody.knows"], false).starts_with("prismq: "));
}
