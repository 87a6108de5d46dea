//! Runs a child's task in the calling thread, with one `poll` over its pipes, its exit and a file that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::Run;
use super::answer::Output;
use super::lines::RedactingListener;
use super::pipes::{Pipes, StdinInput};
use super::process::{Child, ChildExit, Ends, LINGER, Program, wake_files};
use super::redact::Redactor;
use super::run::Interruption;
use crate::shutdown::{CancelReason, CancelToken};

/// How often orphans are reaped while the child runs.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// Pause if `poll` fails for lack of memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);
/// Maximum size of a read, in bytes: the capacity of a pipe.
const CHUNK: usize = 64 << 10;

/// A child and our ends of its pipes. Dropping it kills the child.
pub(super) struct ChildHandle {
    child: Child,
    wake: Wake,
    pub(super) ends: Ends,
    reap_at: Instant,
}

impl ChildHandle {
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        let wake = Wake::new()?;
        let (child, ends) = Child::start(program)?;
        Ok(Self { child, wake, ends, reap_at: Instant::now() + REAP_EVERY })
    }

    /// Returns a file that is readable when the child has exited.
    pub(super) fn exit(&self) -> io::Result<OwnedFd> {
        self.child.as_fd().try_clone_to_owned()
    }
}

/// Options of a session.
pub(super) struct RunOptions<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) redactor: &'a Redactor,
    /// Time from SIGTERM to SIGKILL.
    pub(super) kill_after: Duration,
}

/// The result of a session whose child has exited.
pub(super) struct EndedSession<O> {
    pub(super) exit: ChildExit,
    /// Why we stopped it, if we did.
    pub(super) interruption: Option<Interruption>,
    /// Whether it had not read any of its input.
    pub(super) stdin_unread: bool,
    /// What it printed as its result.
    pub(super) stdout: O,
    /// The last lines of its standard error.
    pub(super) stderr_tail: String,
}

/// The result of a session whose child is still alive.
pub(super) struct Detached<O> {
    pub(super) child: ChildHandle,
    /// Whether all of its input was written, so that more may follow.
    pub(super) is_input_written: bool,
    /// What it printed as its result.
    pub(super) stdout: O,
    /// The last lines of its standard error.
    pub(super) stderr_tail: String,
}

/// Which signal has been sent to end the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Termination {
    NotRequested,
    Sigterm,
    Sigkill,
}

/// One task of a child.
pub(super) struct Session<'a, O> {
    options: &'a RunOptions<'a>,
    wake: Wake,
    child: Child,
    pipes: Pipes<'a, O>,
    termination: Termination,
    /// When to send the next signal, or after the child's exit, when to stop waiting for its pipes; `None` for never.
    until: Option<Instant>,
    reap_at: Instant,
    exited: bool,
    stdin_unread: bool,
    interruption: Option<Interruption>,
}

impl<'a, O: Output> Session<'a, O> {
    /// Prepares a session that writes `input` to the child and its standard output to `stdout`.
    pub(super) fn new(handle: ChildHandle, input: StdinInput, stdout: O, options: &'a RunOptions<'a>) -> Self {
        let RunOptions { run, redactor, .. } = options;
        let ChildHandle { child, wake, ends, reap_at } = handle;
        wake.on_raise(run.stop);
        Self {
            options,
            wake,
            child,
            pipes: Pipes::new(ends, input, stdout, RedactingListener { listener: run.listener, redactor }),
            termination: Termination::NotRequested,
            until: Instant::now().checked_add(run.time_left()),
            reap_at,
            exited: false,
            stdin_unread: false,
            interruption: None,
        }
    }

    /// Runs until the child has exited or its output is complete. Returns whether it is alive.
    pub(super) fn run(&mut self) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(CHUNK);
        // The pipe is empty, and the input usually fits into it.
        self.pipes.stdin.write();
        while !self.is_over() {
            let exits = self.wait()?;
            self.pipes.transfer(&mut buffer);
            if exits {
                self.on_exit();
            }
            if !self.is_done() {
                self.enforce_limits();
            }
            self.reap_orphans();
        }
        Ok(!self.exited)
    }

    /// Ends the session but keeps the child for the next one. Only valid after `run` has returned true.
    pub(super) fn detach(self) -> Detached<O> {
        let Self { child, wake, pipes, reap_at, .. } = self;
        let is_input_written = pipes.stdin.fd().is_none();
        let (ends, stdout, stderr_tail) = pipes.finish();
        Detached { child: ChildHandle { child, wake, ends, reap_at }, is_input_written, stdout, stderr_tail }
    }

    /// Reaps the exited child and kills its descendants.
    pub(super) fn end(mut self) -> io::Result<EndedSession<O>> {
        let exit = self.child.end()?;
        let survivors = self.child.end_descendants();
        if survivors > 0 {
            let line = format!("[prismq: {survivors} processes it started cannot be killed]");
            self.options.run.listener.stderr_line(&line);
        }
        let (_, stdout, stderr_tail) = self.pipes.finish();
        // The last output, read after the exit, may contain an error too.
        let interruption = self.interruption.or_else(|| stdout.fault());
        Ok(EndedSession { exit, interruption, stdin_unread: self.stdin_unread, stdout, stderr_tail })
    }

    fn is_over(&self) -> bool {
        self.is_done() || (self.exited && (self.pipes.are_closed() || self.time_is_up()))
    }

    /// Whether the output is complete and the child alive.
    fn is_done(&self) -> bool {
        self.termination == Termination::NotRequested && !self.exited && self.pipes.stdout.sink().is_complete()
    }

    fn time_is_up(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Waits for the next event. Returns whether the child has just exited.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend((!self.exited).then(|| PollFd::new(&self.child, PollFlags::IN)));
        fds.extend(self.pipes.sources().map(|source| PollFd::new(source, PollFlags::IN)));
        fds.extend(self.pipes.stdin.fd().map(|feed| PollFd::new(feed, PollFlags::OUT)));
        let until = self.until.map_or(self.reap_at, |until| until.min(self.reap_at));
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The system lacks memory for the list: try again later.
            Err(Errno::NOMEM | Errno::AGAIN) => thread::sleep(SHORTAGE_PAUSE),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| !fds[index].revents().is_empty();
        if is_ready(0) {
            self.wake.drain();
        }
        Ok(!self.exited && is_ready(1))
    }

    fn reap_orphans(&mut self) {
        let now = Instant::now();
        if self.reap_at <= now {
            self.child.reap_orphans();
            self.reap_at = now + REAP_EVERY;
        }
    }

    /// Handles the child's exit. The rest of its group is killed, or keeps the rest of its grace period after SIGTERM. Then
    /// the pipes get a short time to close.
    fn on_exit(&mut self) {
        self.exited = true;
        self.stdin_unread = self.pipes.stdin.is_unread();
        self.pipes.stdin.close();
        let linger = Instant::now() + LINGER;
        let kill_at = self.until.filter(|_| self.termination == Termination::Sigterm);
        self.until = Some(kill_at.map_or(linger, |kill_at| kill_at.min(linger)));
        if self.termination != Termination::Sigterm {
            self.kill();
            self.child.end_descendants();
        }
    }

    /// Stops the child if its time is up, its output is invalid, or the worker stops it.
    fn enforce_limits(&mut self) {
        if let Some(fault) = self.pipes.stdout.sink().fault() {
            self.interrupt(fault);
        }
        if let Some(reason) = self.options.run.stop.get() {
            self.interrupt(Interruption::Stopped(reason));
        }
        if !self.exited && self.time_is_up() {
            match self.termination {
                Termination::NotRequested => self.interrupt(Interruption::Timeout(self.options.run.timeout)),
                Termination::Sigterm | Termination::Sigkill => self.kill(),
            }
        }
    }

    /// Stops the child with SIGTERM or SIGKILL, depending on the reason. SIGKILL may follow an earlier SIGTERM.
    fn interrupt(&mut self, interruption: Interruption) {
        let kills = match interruption {
            Interruption::Timeout(_) | Interruption::Stopped(CancelReason::Shutdown) => false,
            // After a lost claim, another worker may be running the same task already.
            Interruption::Stopped(CancelReason::Kill | CancelReason::ClaimLost)
            | Interruption::OutputTooLong
            | Interruption::ProtocolViolation(_) => true,
        };
        if kills && self.termination != Termination::Sigkill {
            self.kill();
        } else if self.termination == Termination::NotRequested {
            self.terminate();
        } else {
            return;
        }
        self.interruption.get_or_insert(interruption);
    }

    fn terminate(&mut self) {
        self.child.signal(Signal::TERM);
        self.termination = Termination::Sigterm;
        self.until = Instant::now().checked_add(self.options.kill_after);
    }

    fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.termination = Termination::Sigkill;
        if !self.exited {
            self.until = None;
        }
    }
}

/// Wakes a session that polls it.
struct Wake {
    reader: Arc<OwnedFd>,
    writer: Arc<OwnedFd>,
}

impl Wake {
    fn new() -> io::Result<Self> {
        let [reader, writer] = wake_files()?;
        Ok(Self { reader, writer })
    }

    /// Wakes the session when `stop` is raised. `stop` may outlive the files.
    fn on_raise(&self, stop: &CancelToken) {
        let writer = Arc::downgrade(&self.writer);
        stop.on_raise(None, move |_| {
            if let Some(writer) = writer.upgrade() {
                // A few bytes always fit.
                let _ = rustix::io::write(&*writer, &1_u64.to_ne_bytes());
            }
        });
    }

    fn drain(&self) {
        let _ = rustix::io::read(&*self.reader, &mut [0; 64]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
