//! Handlers that start a program for each task.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::io::Errno;
use serde::Serialize;

use super::answer::CapturedOutput;
use super::envelope;
use super::pipes::StdinInput;
use super::process::{FILES, KILL_AFTER, PROGRESS_FD, Program};
use super::redact::Redactor;
use super::session::{ChildHandle, EndedSession, RunOptions, Session};
use super::settings::{EnvVars, ExecCommand, ExecSettings};
use super::{Handler, OpenFiles, Run, lookup, stopped};
use crate::os_error;
use crate::resources::is_shortage;
use crate::task::{Claim, ErrorType, Failure, Outcome, Task, TaskId};

/// The first and the longest pause before starting a program is retried.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A handler that starts a program for each task.
pub struct Exec {
    settings: ExecSettings,
    redactor: Redactor,
    pub(super) kill_after: Duration,
}

impl Exec {
    /// Creates a handler that runs the program of `settings`.
    #[must_use]
    pub fn new(settings: ExecSettings) -> Self {
        let passed = settings.passed_secrets(env::vars_os());
        let redactor = Redactor::new(settings.secrets.iter().chain(&passed).map(String::as_str));
        Self { settings, redactor, kill_after: KILL_AFTER }
    }

    /// Sets how long a process has to exit after SIGTERM before it is killed. The default is 5 s.
    #[must_use]
    pub fn kill_after(mut self, kill_after: Duration) -> Self {
        self.kill_after = kill_after;
        self
    }

    /// Returns the executable, using the `PATH` in `variables`.
    fn find(&self, variables: &EnvVars) -> Result<PathBuf, String> {
        let program = match &self.settings.command {
            ExecCommand::Program(words) => words.first().map_or("", String::as_str),
            ExecCommand::Shell(_) => "sh",
        };
        lookup::find(program, &self.settings.dir, path_in(variables))
    }

    fn args(&self) -> Vec<String> {
        match &self.settings.command {
            ExecCommand::Program(words) => words.iter().skip(1).cloned().collect(),
            ExecCommand::Shell(line) => vec!["-c".into(), line.clone()],
        }
    }

    /// Returns the program to run for `task`, with `variables` added to its environment.
    pub(super) fn program(&self, task: TaskId, variables: EnvVars) -> Result<Program, String> {
        let mut env = self.settings.environment(env::vars_os());
        let path = self.find(&env)?;
        env.extend(variables);
        Ok(Program { task, path, args: self.args(), dir: self.settings.dir.clone(), env: env.into_iter().collect() })
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

impl Handler for Exec {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        if let Some(reason) = run.stop.get() {
            return stopped(reason);
        }
        let program = match self.program(claim.task.id, task_variables(claim)) {
            Ok(program) => program,
            Err(error) => return Outcome::failure(ErrorType::Configuration, error),
        };
        let child = match start(&program.path, run, || ChildHandle::start(&program)) {
            Ok(child) => child,
            Err(failure) => return failure.into(),
        };
        let options = RunOptions { run, redactor: &self.redactor, kill_after: self.kill_after };
        match run_to_end(child, input(claim), &options) {
            Ok(ended) => self.redactor.outcome(envelope::outcome(ended, run.listener)),
            Err(error) => watch_failure(&error).into(),
        }
    }

    fn open_files(&self) -> OpenFiles {
        OpenFiles { running: FILES.0, idle: 0 }
    }

    fn check(&self) -> Result<(), String> {
        let variables = self.settings.environment(env::vars_os());
        self.find(&variables)?;
        match &self.settings.command {
            ExecCommand::Program(words) => lookup::check_script(words, &self.settings.dir, path_in(&variables)),
            // Only the shell can parse the line.
            ExecCommand::Shell(_) => Ok(()),
        }
    }
}

fn path_in(variables: &EnvVars) -> Option<&OsStr> {
    variables.get(OsStr::new("PATH")).map(OsString::as_os_str)
}

/// Sends `input` to a child and waits until it has exited. Fails if the child could not be watched.
fn run_to_end(
    child: ChildHandle,
    input: Vec<u8>,
    options: &RunOptions<'_>,
) -> io::Result<EndedSession<CapturedOutput>> {
    let input = StdinInput { bytes: input, is_last: true };
    let mut session = Session::new(child, input, CapturedOutput::default(), options);
    session.run()?;
    session.end()
}

/// Returns the variables of a process that runs only the task of `claim`.
fn task_variables(claim: &Claim) -> EnvVars {
    let mut variables = process_variables(claim);
    variables.extend(to_variables([
        ("PRISMQ_TASK_ID", claim.task.id.to_string()),
        ("PRISMQ_ATTEMPT", claim.task.attempt.to_string()),
        ("PRISMQ_DEADLINE", claim.deadline.to_string()),
    ]));
    variables
}

/// Returns the variables of a persistent process: those that do not depend on the task.
pub(super) fn process_variables(claim: &Claim) -> EnvVars {
    to_variables([
        ("PRISMQ_TASK_TYPE", claim.task.task_type.clone()),
        ("PRISMQ_WORKER_ID", claim.worker_id.clone()),
        ("PRISMQ_PROGRESS_FD", PROGRESS_FD.to_string()),
    ])
}

fn to_variables<const N: usize>(variables: [(&str, String); N]) -> EnvVars {
    variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Returns the standard input of a handler: one line of JSON.
pub(super) fn input(claim: &Claim) -> Vec<u8> {
    #[derive(Serialize)]
    struct TaskLine<'a> {
        #[serde(flatten)]
        task: &'a Task,
        worker_id: &'a str,
        deadline: Timestamp,
    }
    let input = TaskLine { task: &claim.task, worker_id: &claim.worker_id, deadline: claim.deadline.time };
    // Writing to memory cannot fail, and every key is text.
    let mut line = serde_json::to_vec(&input).expect("a task can be written as JSON");
    line.push(b'\n');
    line
}

/// Starts a child by calling `start`, and retries while the system lacks resources for it. If the run's time is up
/// before that succeeds, the failure has the type `worker`, since the task did not cause it.
pub(super) fn start(
    path: &Path,
    run: &Run<'_>,
    start: impl Fn() -> io::Result<ChildHandle>,
) -> Result<ChildHandle, Failure> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match start() {
            Ok(child) => return Ok(child),
            Err(error) if is_transient(&error) => error,
            Err(error) => return Err(start_failure(path, &error)),
        };
        if wait == FIRST_WAIT {
            let line =
                format!("[prismq: {} cannot be started now: {}; retrying]", path.display(), os_error::message(&error));
            run.listener.stderr_line(&line);
        }
        let _ = run.sleep(wait);
        let stopped = run.stop.get().and_then(|reason| stopped(reason).failure);
        if let Some(failure) = stopped {
            return Err(failure);
        }
        if run.time_left().is_zero() {
            let error = format!("not run: cannot start {}: {}", path.display(), os_error::message(&error));
            return Err(Failure::new(ErrorType::Worker, error));
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Whether starting a program may succeed soon: a shortage, or the file is still being written.
fn is_transient(error: &io::Error) -> bool {
    is_shortage(error) || Errno::from_io_error(error) == Some(Errno::TXTBSY)
}

/// Returns the failure of a program that exists but cannot be started.
fn start_failure(path: &Path, error: &io::Error) -> Failure {
    let (path, words) = (path.display(), os_error::message(error));
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOEXEC) => {
            return Failure::new(
                ErrorType::Configuration,
                format!(
                    "{path} cannot be executed on this machine: {words}; scripts need a first line such as `#!/bin/sh`"
                ),
            );
        }
        Some(Errno::TOOBIG) => "; shorten `exec` and `env` of its type, or set clean_env = true",
        _ => "",
    };
    Failure::new(ErrorType::Configuration, format!("{path} could not be run: {words}{advice}"))
}

/// Returns the failure of a program that was started but cannot be watched.
pub(super) fn watch_failure(error: &io::Error) -> Failure {
    Failure::new(ErrorType::Temporary, format!("cannot watch its process: {}", os_error::message(error)))
}
