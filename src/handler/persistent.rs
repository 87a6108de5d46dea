//! Handlers whose processes run one task after another and are kept between tasks.
//!
//! There are at most as many processes as slots. An idle process waits for its next task on its standard input. It is
//! not watched, so an exit is noticed only when there is a task for it.

use std::io;
use std::mem;
use std::num::NonZeroU32;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};

use super::answer::{CapturedOutput, TaskAnswer};
use super::envelope;
use super::exec::{self, Exec, input, watch_failure};
use super::lines::RedactingListener;
use super::pipes::StdinInput;
use super::process::{FILES, Program};
use super::run::NullListener;
use super::session::{ChildHandle, Detached, RunOptions, Session};
use super::{Handler, Listener, OpenFiles, Run, stopped};
use crate::parallel::for_each_parallel;
use crate::shutdown::CancelToken;
use crate::task::{Claim, ErrorType, Failure, Outcome};

/// How long a process has to exit after its standard input was closed, before SIGTERM.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// Maximum time from SIGTERM to SIGKILL for a process without a task.
const KILL_IDLE_AFTER: Duration = Duration::from_secs(1);
/// Why a process is replaced that exited, or closed its pipes, between tasks.
const EXITED_WHILE_IDLE: &str = "it exited between two tasks";

/// A handler that keeps the processes of its program between tasks.
pub(crate) struct Persistent {
    exec: Exec,
    max_tasks: Option<NonZeroU32>,
    /// Processes without a task. The one used last is reused first, since its caches are warm.
    idle: Mutex<Vec<IdleProcess>>,
}

/// A process without a task.
struct IdleProcess {
    child: ChildHandle,
    tasks: u32,
}

impl Persistent {
    /// Creates a handler that runs the program of `exec`, each process for at most `max_tasks` tasks.
    #[must_use]
    pub(crate) fn new(exec: Exec, max_tasks: Option<NonZeroU32>) -> Self {
        Self { exec, max_tasks, idle: Mutex::default() }
    }

    /// Takes an idle process that can run a task.
    fn take_idle(&self, run: &Run<'_>) -> Option<IdleProcess> {
        loop {
            // The lock is released before the process is checked or shut down.
            let process = self.idle.lock().pop()?;
            let Some(unusable_reason) = process.unusable_reason() else { return Some(process) };
            log_replacement(run.listener, unusable_reason);
            self.shut_down(process, run.stop, run.listener);
        }
    }

    /// Runs a task in the first idle process that is alive, or in a new one.
    fn run_task(&self, claim: &Claim, run: &Run<'_>) -> Result<Outcome, Failure> {
        loop {
            let process = match self.take_idle(run) {
                Some(process) => process,
                None => self.start(claim, run)?,
            };
            match self.run_in(process, claim, run).map_err(|error| watch_failure(&error))? {
                Some(outcome) => return Ok(self.exec.redactor().outcome(outcome)),
                None => log_replacement(run.listener, EXITED_WHILE_IDLE),
            }
        }
    }

    fn start(&self, claim: &Claim, run: &Run<'_>) -> Result<IdleProcess, Failure> {
        let program = self.exec.program(claim.task.id, exec::process_variables(claim));
        let program = program.map_err(|error| Failure::new(ErrorType::Configuration, error))?;
        let program = Arc::new(program);
        let child = exec::start(&program.path, run, || start_with_keeper(Arc::clone(&program)))?;
        Ok(IdleProcess { child, tasks: 0 })
    }

    /// Runs a task in a process, which is kept if it answers. Returns `None` if it had exited before it read the task.
    fn run_in(&self, process: IdleProcess, claim: &Claim, run: &Run<'_>) -> io::Result<Option<Outcome>> {
        let IdleProcess { child, tasks } = process;
        let redactor = self.exec.redactor();
        let options = RunOptions { run, redactor, kill_after: self.exec.kill_after };
        let answer = TaskAnswer::new(claim.task.id, RedactingListener { listener: run.listener, redactor });
        let mut session = Session::new(child, StdinInput { bytes: input(claim), is_last: false }, answer, &options);
        if session.run()? {
            let Detached { child, is_input_written, stdout, stderr_tail } = session.detach();
            let process = IdleProcess { child, tasks: tasks + 1 };
            if is_input_written && !stdout.has_trailing_output() {
                self.keep(process, run);
            } else {
                log_replacement(run.listener, "it kept printing after its answer, or answered before reading its task");
            }
            let answer = stdout.envelope.unwrap_or_default();
            return Ok(Some(envelope::outcome_of_answer(answer, stderr_tail, run.listener)));
        }
        let ended = session.end()?;
        let missed = tasks > 0 && ended.stdin_unread && ended.interruption.is_none();
        Ok((!missed).then(|| envelope::outcome_of_end(ended, run.listener)))
    }

    /// Keeps a process for the next task, unless it has worked enough of them.
    fn keep(&self, process: IdleProcess, run: &Run<'_>) {
        if self.max_tasks.is_some_and(|max_tasks| process.tasks >= max_tasks.get()) {
            self.shut_down(process, run.stop, run.listener);
        } else {
            self.idle.lock().push(process);
        }
    }

    /// Shuts down a process without a task: closes its standard input, then signals it. Output goes to `listener`.
    fn shut_down(&self, process: IdleProcess, stop: &CancelToken, listener: &dyn Listener) {
        let run = Run::new(EXIT_GRACE, stop, listener);
        let kill_after = self.exec.kill_after.min(KILL_IDLE_AFTER);
        let options = RunOptions { run: &run, redactor: self.exec.redactor(), kill_after };
        let nothing = StdinInput { bytes: Vec::new(), is_last: true };
        let mut session = Session::new(process.child, nothing, CapturedOutput::default(), &options);
        // If it cannot be watched, dropping it kills it.
        if session.run().is_ok() {
            let _ = session.end();
        }
    }
}

impl Handler for Persistent {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        if let Some(reason) = run.stop.get() {
            return stopped(reason);
        }
        self.run_task(claim, run).unwrap_or_else(Outcome::from)
    }

    fn open_files(&self) -> OpenFiles {
        let (starting, running) = FILES;
        // The keeper of each process has one file open.
        OpenFiles { running: starting - running, idle: running + 1 }
    }

    fn check(&self) -> Result<(), String> {
        self.exec.check()
    }

    fn end_idle(&self, stop: &CancelToken) {
        let idle = mem::take(&mut *self.idle.lock());
        for_each_parallel(idle, |process| self.shut_down(process, stop, &NullListener));
    }
}

impl IdleProcess {
    /// Returns why it cannot take a task: it has exited, or printed something since its last task.
    fn unusable_reason(&self) -> Option<&'static str> {
        let (Some(_), Some(stdout)) = (&self.child.ends.stdin, &self.child.ends.stdout) else {
            return Some(EXITED_WHILE_IDLE);
        };
        let mut buffer = [0; 256];
        match rustix::io::read(stdout, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(0) | Err(_) => Some(EXITED_WHILE_IDLE),
            Ok(count) if buffer[..count].trim_ascii().is_empty() => None,
            Ok(_) => Some("it printed output between two tasks"),
        }
    }
}

/// Starts `program` in a thread that lives as long as the child, because a child dies with the thread that started it.
fn start_with_keeper(program: Arc<Program>) -> io::Result<ChildHandle> {
    let (started, start) = mpsc::sync_channel(1);
    let keep = move || {
        let child = ChildHandle::start(&program).and_then(|child| Ok((child.exit()?, child)));
        let (exit, child) = child.map_or_else(|error| (None, Err(error)), |(exit, child)| (Some(exit), Ok(child)));
        let _ = started.send(child);
        if let Some(exit) = exit {
            let _ = retry_on_intr(|| poll(&mut [PollFd::new(&exit, PollFlags::IN)], None));
        }
    };
    thread::Builder::new().name("keeper".into()).spawn(keep)?;
    start.recv().map_err(io::Error::other)?
}

/// Logs why a process is replaced if the task does not fail for that.
fn log_replacement(listener: &dyn Listener, problem: &str) {
    listener.stderr_line(&format!("[prismq: process replaced: {problem}]"));
}
