//! Which program runs, where, and in which environment.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::handler::{Exec, ExecCommand, ExecSettings, Handler};
use serde_json::json;

use super::{Bench, failure};

/// Returns the error of both the check and a run for a command, in a folder that contains `file` with `mode`.
fn refusal(command: &[&str], file: Option<(&str, &str, u32)>) -> String {
    let mut bench = Bench::new("");
    if let Some((name, text, mode)) = file {
        fs::write(bench.path(name), text).unwrap();
        fs::set_permissions(bench.path(name), Permissions::from_mode(mode)).unwrap();
    }
    bench.settings.command = ExecCommand::Program(command.iter().map(ToString::to_string).collect());
    let error = Exec::new(bench.settings.clone()).check().unwrap_err();
    let at_run = failure(&bench.run(), "configuration");
    assert_eq!(at_run.error, error);
    assert!(!error.contains('\n'));
    error
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = refusal(&["prismq-no-such-program"], None);
    assert!(error.contains("prismq-no-such-program") && error.contains("PATH"), "{error}");
    let error = refusal(&["./no-such-program"], None);
    assert!(error.contains("no-such-program"), "{error}");
    assert!(refusal(&[], None).contains("empty"));
}

#[test]
fn a_program_that_is_not_executable_says_so() {
    let error = refusal(&["./tool"], Some(("tool", "#!/bin/sh\n", 0o644)));
    assert!(error.contains("not executable") && error.contains("chmod +x"), "{error}");
}

#[test]
fn a_script_must_say_what_runs_it() {
    let error = refusal(&["./tool.py"], Some(("tool.py", "print(1)\n", 0o755)));
    assert!(error.contains("tool.py") && error.contains("#!"), "{error}");
    let error = refusal(&["./tool.sh"], Some(("tool.sh", "#!/bin/sh\r\necho 1\r\n", 0o755)));
    assert!(error.contains(r#""/bin/sh\r""#), "{error}");
    let error = refusal(&["./tool"], Some(("tool", "#! /no/such/interpreter -x\n", 0o755)));
    assert!(error.contains("/no/such/interpreter"), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let mut bench = Bench::new("");
    for command in [ExecCommand::Program(vec!["true".into()]), ExecCommand::Shell("true".into())] {
        bench.settings = ExecSettings::new(command, bench.path("nowhere"));
        let error = Exec::new(bench.settings.clone()).check().unwrap_err();
        assert!(error.contains("nowhere"), "{error}");
        assert_eq!(failure(&bench.run(), "configuration").error, error);
    }
}

#[test]
fn runnable_commands_pass_the_check() {
    let mut bench = Bench::new("");
    assert_eq!(Exec::new(bench.settings.clone()).check(), Ok(()));
    bench.settings.command = ExecCommand::Shell("whatever, sh will see".into());
    assert_eq!(Exec::new(bench.settings.clone()).check(), Ok(()));
}

#[test]
fn a_program_with_a_slash_is_relative_to_the_folder_and_runs_there() {
    let mut bench = Bench::new("");
    fs::create_dir(bench.path("bin")).unwrap();
    symlink("/bin/sh", bench.path("bin/sh")).unwrap();
    bench.settings.command = ExecCommand::Program(["bin/sh", "-c", "pwd -P"].map(String::from).to_vec());
    let folder = bench.dir.path().canonicalize().unwrap();
    assert_eq!(bench.run().data, json!({"output": folder.to_str().unwrap()}));
}

#[test]
fn a_program_is_looked_for_on_the_path_the_child_gets() {
    let mut bench = Bench::new("");
    symlink("/bin/sh", bench.path("sh")).unwrap();
    bench.settings.env = BTreeMap::from([("PATH".into(), bench.dir.path().to_str().unwrap().into())]);
    bench.settings.command = ExecCommand::Program(vec!["cat".into()]);
    assert!(Exec::new(bench.settings.clone()).check().unwrap_err().contains("cat"));
    bench.settings.command = ExecCommand::Shell("echo found".into());
    assert_eq!(bench.run().data, json!({"output": "found"}));
}

#[test]
fn words_are_passed_as_they_are() {
    let mut bench = Bench::new("for word; do echo \"<$word>\"; done");
    let words = ["sh", "handler.sh", "$HOME", "two words", "", "*"];
    bench.settings.command = ExecCommand::Program(words.map(String::from).to_vec());
    assert_eq!(bench.run().data, json!({"output": "<$HOME>\n<two words>\n<>\n<*>"}));
}

#[test]
fn a_line_goes_through_the_shell() {
    let mut bench = Bench::new("");
    bench.settings.command = ExecCommand::Shell("cat | wc -l".into());
    assert_eq!(bench.run().data, json!(1));
}

#[test]
fn the_environment_names_the_task() {
    let mut bench = Bench::new(
        r#"printf '["%s","%s","%s","%s","%s","%s","%s"]' "$PRISMQ_TASK_ID" "$PRISMQ_TASK_TYPE" "$PRISMQ_ATTEMPT" \
            "$PRISMQ_WORKER_ID" "$PRISMQ_DEADLINE" "$PRISMQ_PROGRESS_FD" "$MODEL""#,
    );
    bench.settings.env = BTreeMap::from([
        ("MODEL".into(), "small".into()),
        // The task's own variables take precedence.
        ("PRISMQ_TASK_ID".into(), "99".into()),
    ]);
    let expected = json!(["12", "example.any", "2", "here-1", "2026-01-01T00:05:00Z", "3", "small"]);
    assert_eq!(bench.run().data, expected);
}

#[test]
fn a_clean_environment_is_clean() {
    let script = "echo \"${CARGO_MANIFEST_DIR-unset}\"";
    let mut bench = Bench::new(script);
    // Cargo sets it for tests.
    assert_eq!(bench.run().data, json!({"output": env!("CARGO_MANIFEST_DIR")}));
    bench.settings.clean_env = true;
    assert_eq!(bench.run().data, json!({"output": "unset"}));
    bench.settings.pass_env = vec!["CARGO_MANIFEST_DIR".into()];
    assert_eq!(bench.run().data, json!({"output": env!("CARGO_MANIFEST_DIR")}));
}
