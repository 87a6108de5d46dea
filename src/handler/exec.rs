//! Handlers that are programs: one process a task.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::io::Errno;
use serde::Serialize;

use super::answer::Everything;
use super::envelope::{self, failure};
use super::environment::{self, Variables, environment};
use super::interruption::Interruption;
use super::pipes::Input;
use super::process::{FILES, KILL_AFTER, Program};
use super::redact::Redactor;
use super::session::{Ended, Link, Session, Terms};
use super::settings::{Command, ExecSettings};
use super::{Handler, OpenFiles, Run, lookup, script};
use crate::os_error;
use crate::resources::is_shortage;
use crate::task::{Claim, ErrorType, Failure, Outcome, Task, TaskId};

/// The first and the longest wait for what is missing to start a program.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A handler that starts a program for each task.
pub struct Exec {
    settings: ExecSettings,
    redactor: Redactor,
    pub(super) kill_after: Duration,
}

impl Exec {
    /// A handler that runs the program of `settings`.
    #[must_use]
    pub fn new(settings: ExecSettings) -> Self {
        let passed = environment::passed_secrets(env::vars_os(), &settings);
        let redactor = Redactor::new(settings.secrets.iter().chain(&passed).map(String::as_str));
        Self { settings, redactor, kill_after: KILL_AFTER }
    }

    /// The same handler, killed `kill_after` after it was asked to end; 5 s where this is not called.
    #[must_use]
    pub fn kill_after(mut self, kill_after: Duration) -> Self {
        self.kill_after = kill_after;
        self
    }

    /// The executable, looked for as the child would in `variables`.
    fn find(&self, variables: &Variables) -> Result<PathBuf, String> {
        let program = match &self.settings.command {
            Command::Program(words) => words.first().map_or("", String::as_str),
            Command::Shell(_) => "sh",
        };
        lookup::find(program, &self.settings.dir, path_in(variables))
    }

    fn args(&self) -> Vec<String> {
        match &self.settings.command {
            Command::Program(words) => words.iter().skip(1).cloned().collect(),
            Command::Shell(line) => vec!["-c".into(), line.clone()],
        }
    }

    /// What is run for `task`, which gets `variables` beside those that it gets for every task.
    pub(super) fn program(&self, task: TaskId, variables: Variables) -> Result<Program, String> {
        let mut env = environment(env::vars_os(), &self.settings);
        let path = self.find(&env)?;
        env.extend(variables);
        Ok(Program { task, path, args: self.args(), dir: self.settings.dir.clone(), env: env.into_iter().collect() })
    }

    /// What of the program's output nobody may see.
    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

impl Handler for Exec {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        if let Some(reason) = run.stop.get() {
            return Interruption::Stopped(reason).outcome("");
        }
        let program = match self.program(claim.task.id, environment::of_task(claim)) {
            Ok(program) => program,
            Err(error) => return Outcome::failure(ErrorType::Configuration, error),
        };
        let link = match start(&program.path, run, || Link::start(&program)) {
            Ok(link) => link,
            Err(failure) => return failure.into(),
        };
        let terms = Terms { run, redactor: &self.redactor, kill_after: self.kill_after };
        match work(link, input(claim), &terms) {
            Ok(ended) => self.redactor.outcome(envelope::outcome(ended, run.listener)),
            Err(error) => unwatched(&error).into(),
        }
    }

    fn open_files(&self) -> OpenFiles {
        OpenFiles { running: FILES.0, idle: 0 }
    }

    fn check(&self) -> Result<(), String> {
        let variables = environment(env::vars_os(), &self.settings);
        self.find(&variables)?;
        match &self.settings.command {
            Command::Program(words) => script::check(words, &self.settings.dir, path_in(&variables)),
            // What the line means is up to the shell.
            Command::Shell(_) => Ok(()),
        }
    }
}

/// Where the child looks for programs.
fn path_in(variables: &Variables) -> Option<&OsStr> {
    variables.get(OsStr::new("PATH")).map(OsString::as_os_str)
}

/// Gives `input` to a child, until its end. The error is that it could not be watched.
fn work(link: Link, input: Vec<u8>, terms: &Terms<'_>) -> io::Result<Ended<Everything>> {
    let input = Input { bytes: input, is_last: true };
    let mut session = Session::new(link, input, Everything::default(), terms);
    session.work()?;
    session.end()
}

/// What a handler reads: one line of JSON.
pub(super) fn input(claim: &Claim) -> Vec<u8> {
    #[derive(Serialize)]
    struct Input<'a> {
        #[serde(flatten)]
        task: &'a Task,
        worker_id: &'a str,
        deadline: Timestamp,
    }
    let input = Input { task: &claim.task, worker_id: &claim.worker_id, deadline: claim.deadline.time };
    // Writing to memory cannot fail, and every key is text.
    let mut line = serde_json::to_vec(&input).expect("a task can be written as JSON");
    line.push(b'\n');
    line
}

/// Starts a child by `start`. While the system has nothing to start it with, it is waited for: that is not the task's
/// trouble, so where the run's time is up over it, the failure is the worker's.
pub(super) fn start(path: &Path, run: &Run<'_>, start: impl Fn() -> io::Result<Link>) -> Result<Link, Failure> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match start() {
            Ok(link) => return Ok(link),
            Err(error) if may_pass(&error) => error,
            Err(error) => return Err(could_not_run(path, &error)),
        };
        if wait == FIRST_WAIT {
            let line =
                format!("[prismq: {} cannot be started now: {}; retrying]", path.display(), os_error::words(&error));
            run.listener.stderr_line(&line);
        }
        let _ = run.sleep(wait);
        let stopped = run.stop.get().and_then(|reason| Interruption::Stopped(reason).outcome("").failure);
        if let Some(failure) = stopped {
            return Err(failure);
        }
        if run.time_left().is_zero() {
            let error = format!("not run: cannot start {}: {}", path.display(), os_error::words(&error));
            return Err(failure(ErrorType::Worker, error));
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Whether what is missing to start a program may be there soon: somebody may be just writing it, too.
fn may_pass(error: &io::Error) -> bool {
    is_shortage(error) || Errno::from_io_error(error) == Some(Errno::TXTBSY)
}

/// The failure of a program that was found but cannot be started.
fn could_not_run(path: &Path, error: &io::Error) -> Failure {
    let (path, words) = (path.display(), os_error::words(error));
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOEXEC) => {
            return failure(
                ErrorType::Configuration,
                format!(
                    "{path} cannot be executed on this machine: {words}; scripts need a first line such as `#!/bin/sh`"
                ),
            );
        }
        Some(Errno::TOOBIG) => "; shorten `exec` and `env` of its type, or set clean_env = true",
        _ => "",
    };
    failure(ErrorType::Configuration, format!("{path} could not be run: {words}{advice}"))
}

/// The failure of a program that was started, and of which nothing can be heard.
pub(super) fn unwatched(error: &io::Error) -> Failure {
    failure(ErrorType::Temporary, format!("cannot watch its process: {}", os_error::words(error)))
}
