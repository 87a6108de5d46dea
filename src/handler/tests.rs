//! Handlers, with real processes.

mod answers;
mod builtin;
mod encoded;
mod ending;
#[cfg(target_os = "linux")]
mod escape;
#[cfg(target_os = "linux")]
mod files;
mod persistent;
mod persistent_end;
mod persistent_io;
mod pipes;
#[allow(dead_code, reason = "shared with the integration tests, which use more of it")]
#[path = "../../tests/support/process.rs"]
mod process;
mod redaction;
mod settings;
#[allow(dead_code, reason = "shared with the integration tests, which use more of it")]
#[path = "../../tests/support/wait.rs"]
mod wait;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::handler::{Exec, ExecCommand, ExecSettings, Handler, Listener, Run, supervise};
use crate::shutdown::{CancelReason, CancelToken};
use crate::task::{Claim, Failure, Outcome, Task, TaskId};
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Records what it is sent, and cancels the run at given lines.
struct RecordingListener {
    progress: Mutex<Vec<(u8, Option<String>)>>,
    stderr: Mutex<Vec<String>>,
    /// When the script printed `leaving`.
    left_at: Mutex<Option<Instant>>,
    stop: Arc<CancelToken>,
    stop_at: Vec<(&'static str, CancelReason)>,
}

impl RecordingListener {
    fn new() -> Self {
        Self {
            progress: Mutex::default(),
            stderr: Mutex::default(),
            left_at: Mutex::default(),
            stop: Arc::new(CancelToken::new(None)),
            stop_at: Vec::new(),
        }
    }
}

impl Listener for RecordingListener {
    fn progress(&self, percent: u8, message: Option<&str>) {
        self.progress.lock().unwrap().push((percent, message.map(str::to_owned)));
    }

    fn stderr_line(&self, line: &str) {
        self.stderr.lock().unwrap().push(line.to_owned());
        if line == "leaving" {
            *self.left_at.lock().unwrap() = Some(Instant::now());
        }
        for (_, reason) in self.stop_at.iter().filter(|(at, _)| *at == line) {
            self.stop.raise(Some(*reason));
        }
    }
}

/// Panics when it is called, and keeps the line that it was called with.
#[derive(Default)]
struct PanickingListener(Mutex<String>);

impl Listener for PanickingListener {
    fn progress(&self, _: u8, _: Option<&str>) {
        resume_unwind(Box::new("as the test wants it"));
    }

    fn stderr_line(&self, line: &str) {
        line.clone_into(&mut self.0.lock().unwrap());
        resume_unwind(Box::new("as the test wants it"));
    }
}

/// Runs `handler` with a listener that panics, and returns the line that it was called with.
fn run_with_panic(handler: &dyn Handler, timeout: Duration) -> String {
    let listener = PanickingListener::default();
    let stop = CancelToken::new(None);
    let run = Run::new(timeout, &stop, &listener);
    assert!(catch_unwind(AssertUnwindSafe(|| handler.run(&claim(json!({})), &run))).is_err());
    listener.0.into_inner().unwrap()
}

/// A folder with a script in it, and one run of the script.
struct Bench {
    dir: TempDir,
    settings: ExecSettings,
    params: Value,
    timeout: Duration,
    kill_after: Duration,
    listener: RecordingListener,
}

impl Bench {
    fn new(script: &str) -> Self {
        supervise("handler-tests").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("handler.sh"), script).unwrap();
        // Run by name: a file just written cannot be executed while another test's child holds it open, between its
        // fork and its exec.
        let command = ExecCommand::Program(vec!["sh".into(), "handler.sh".into()]);
        Self {
            settings: ExecSettings::new(command, dir.path().to_owned()),
            dir,
            params: json!({}),
            timeout: Duration::from_secs(60),
            kill_after: Duration::from_secs(5),
            listener: RecordingListener::new(),
        }
    }

    fn run(&self) -> Outcome {
        let handler = Exec::new(self.settings.clone()).kill_after(self.kill_after);
        run(&handler, self.params.clone(), &self.listener, self.timeout)
    }

    fn run_timed(&self) -> (Outcome, Duration) {
        let start = Instant::now();
        (self.run(), start.elapsed())
    }

    /// Raises `reason` when the script prints `line` on its standard error.
    fn stop_at(mut self, line: &'static str, reason: CancelReason) -> Self {
        self.listener.stop_at.push((line, reason));
        self
    }

    fn stderr(&self) -> Vec<String> {
        self.listener.stderr.lock().unwrap().clone()
    }

    /// Returns the process whose PID the script printed first.
    fn printed_pid(&self) -> Pid {
        let line = self.stderr().first().cloned().expect("the script printed a process number");
        Pid::from_raw(line.parse().unwrap()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn run(handler: &dyn Handler, params: Value, listener: &RecordingListener, timeout: Duration) -> Outcome {
    handler.run(&claim(params), &Run::new(timeout, &listener.stop, listener))
}

fn claim(params: Value) -> Claim {
    Claim {
        task: Task { id: TaskId(12), task_type: "example.any".into(), params, attempt: 2, priority: -1 },
        worker_id: "here-1".into(),
        claimed_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        deadline: "2026-01-01T00:05:00Z".parse::<jiff::Timestamp>().unwrap().into(),
    }
}

/// Returns the failure of `outcome`, which must be of type `error_type`.
fn failure(outcome: &Outcome, error_type: &str) -> Failure {
    let failure = outcome.failure.clone().unwrap_or_else(|| panic!("it succeeded: {outcome:?}"));
    assert_eq!(failure.error_type.as_str(), error_type, "{failure:?}");
    failure
}
