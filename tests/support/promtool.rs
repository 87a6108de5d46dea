//! Prometheus' own checks.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs `promtool` on `input` and asserts that it finds no problem.
///
/// It is optional for developers, but required in CI.
#[track_caller]
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        assert!(std::env::var_os("CI").is_none(), "promtool is missing: apt-get install prometheus");
        eprintln!("SKIPPED: promtool is missing, so that nobody has checked this: apt-get install prometheus");
        return;
    };
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap_or_default(); // it need not read it
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}
