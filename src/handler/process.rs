//! Child processes: the only place that starts, signals and reaps them.
//!
//! [`run`] takes one child from its start to its end in the calling thread, by one poll over the pipes to it and a wake
//! pipe. Each child leads a process group of its own, so that what it starts ends with it.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Run;
use super::interruption::Interruption;
use super::pipes::{ErrorLog, Feed, Lines, Output, Pipes, Reports, Source};
use crate::shutdown::{Stop, StopReason};

/// How long a handler that was asked to end has until it is killed.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long a child's end may be delayed by others that hold its pipes open.
const LINGER: Duration = Duration::from_secs(2);
/// Where a child writes its progress.
pub(super) const PROGRESS_FD: i32 = 3;
/// What is read at once, in bytes: as much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// What to run.
pub(super) struct Program {
    /// The executable, absolute.
    pub(super) path: PathBuf,
    /// Its arguments, without its own name.
    pub(super) args: Vec<String>,
    /// The working folder.
    pub(super) dir: PathBuf,
    /// The whole environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// How long it has from SIGTERM to SIGKILL.
    pub(super) kill_after: Duration,
}

/// How a child left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal, such as `9 (SIGKILL)`.
    Signal(String),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let by_signal = || Self::Signal(status.to_string().trim_start_matches("signal: ").to_owned());
        status.code().map_or_else(by_signal, Self::Code)
    }
}

/// What is left of a child that has ended.
pub(super) struct Ended {
    /// How it left.
    pub(super) exit: Exit,
    /// Why we ended it, where we did.
    pub(super) interruption: Option<Interruption>,
    /// What it printed as its result.
    pub(super) stdout: Vec<u8>,
    /// The last lines of its standard error.
    pub(super) last_words: String,
}

/// Runs `program` on `input` to its end. The error is that it could not be started or watched.
pub(super) fn run(program: &Program, input: Vec<u8>, run: &Run<'_>) -> io::Result<Ended> {
    let wake = Wake::new()?;
    let (child, pipes) = start(program, input, run, &wake)?;
    wake.on_raise(run.stop);
    let until = Instant::now().checked_add(run.timeout);
    let kill_after = program.kill_after;
    Session { run, wake, child, pipes, kill_after, phase: Phase::Running, until, exited: false, interruption: None }
        .finish()
}

/// Starts `program`, with pipes to it.
fn start<'a>(program: &Program, input: Vec<u8>, run: &Run<'a>, wake: &Wake) -> io::Result<(Child, Pipes<'a>)> {
    // Opened before the child is: the lowest free numbers are taken, so 3 can hardly be the number of the pipe by
    // which the standard library hears of a failed exec, and which the child's progress would then overwrite.
    let (progress, progress_of_child) = io::pipe()?;
    let mut command = command(program, progress_of_child.into())?;
    let mut child = Child::spawn(&mut command, wake)?;
    // It holds our copy of the child's end of the progress pipe, which would never end otherwise.
    drop(command);
    let [stdin, stdout, stderr] = child.take_pipes()?;
    let pipes = Pipes {
        stdin: Feed::new(stdin, input)?,
        stdout: Source::new(stdout, Output::default())?,
        stderr: Source::new(stderr, Lines::new(ErrorLog::new(run.listener)))?,
        progress: Source::new(progress.into(), Lines::new(Reports::new(run.listener)))?,
    };
    Ok((child, pipes))
}

fn command(program: &Program, progress: OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(&program.path);
    command.args(&program.args).current_dir(&program.dir);
    command.env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mapping = FdMapping { parent_fd: progress, child_fd: PROGRESS_FD };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    Ok(command)
}

/// A child process and its group. Dropping it kills the group and reaps the child.
struct Child {
    process: std::process::Child,
    group: Pid,
    waiter: Option<JoinHandle<()>>,
    reaped: bool,
}

impl Child {
    /// Starts `command`; `wake` hears of the child's exit.
    fn spawn(command: &mut Command, wake: &Wake) -> io::Result<Self> {
        let process = command.spawn()?;
        let group = Pid::from_child(&process);
        let mut child = Self { process, group, waiter: None, reaped: false };
        let waker = Arc::clone(&wake.waker);
        let wait = move || {
            // NOWAIT leaves the child a zombie, so that its number stays its own while we may still signal the group.
            // An error means that there is no such child, so it has exited all the more.
            let _ = retry_on_intr(|| waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            send(&waker, EXITED);
        };
        child.waiter = Some(thread::Builder::new().name("waiter".into()).spawn(wait)?);
        Ok(child)
    }

    /// Standard input, output and error.
    fn take_pipes(&mut self) -> io::Result<[OwnedFd; 3]> {
        let child = &mut self.process;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok([stdin.into(), stdout.into(), stderr.into()]),
            _ => Err(io::Error::other("the child has no pipes")),
        }
    }

    /// Signals the whole group. That nobody is left in it is as good.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Kills what is left of the group, and reaps the child.
    fn end(&mut self) -> io::Result<Exit> {
        if !self.reaped {
            self.signal(Signal::KILL);
            // The waiter comes first: it must never wait for a number that is free again.
            if let Some(waiter) = self.waiter.take() {
                let _ = waiter.join();
            }
            self.reaped = true;
        }
        self.process.wait().map(Exit::from)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

const EXITED: u8 = b'x';
const STOPPED: u8 = b's';

/// A pipe by which other threads interrupt the poll.
struct Wake {
    reader: PipeReader,
    waker: Arc<PipeWriter>,
}

impl Wake {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        Ok(Self { reader, waker: Arc::new(writer) })
    }

    /// Wakes whenever `stop` is raised. The stop may outlive the run, the pipe does not.
    fn on_raise(&self, stop: &Stop) {
        let waker = Arc::downgrade(&self.waker);
        stop.on_raise(None, move |_| {
            if let Some(waker) = waker.upgrade() {
                send(&waker, STOPPED);
            }
        });
    }

    /// Empties the pipe; true where it brought the child's exit.
    fn brings_exit(&self) -> bool {
        let mut buffer = [0; 64];
        let count = (&self.reader).read(&mut buffer).unwrap_or(0);
        buffer[..count].contains(&EXITED)
    }
}

/// Wakes with `what`. The pipe is never full: only a handful of bytes go through it.
fn send(mut waker: &PipeWriter, what: u8) {
    let _ = waker.write(&[what]);
}

/// How hard the child has been asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not at all.
    Running,
    /// By SIGTERM.
    Asked,
    /// By SIGKILL.
    Killed,
}

/// One child on its way to its end.
struct Session<'a> {
    run: &'a Run<'a>,
    wake: Wake,
    child: Child,
    pipes: Pipes<'a>,
    kill_after: Duration,
    phase: Phase,
    /// When the phase, or after the child's exit the wait for its pipes, is over; `None` for never.
    until: Option<Instant>,
    exited: bool,
    interruption: Option<Interruption>,
}

impl Session<'_> {
    fn finish(mut self) -> io::Result<Ended> {
        let mut buffer = vec![0; CHUNK];
        while !self.is_over() {
            self.wait()?;
            // Asked before the pipes are read: what an exited child has printed is in them by then.
            let exits = self.wake.brings_exit();
            self.pipes.transfer(&mut buffer);
            if exits {
                self.note_exit();
            }
            self.obey();
        }
        let exit = self.child.end()?;
        let Output { bytes: stdout, too_long } = self.pipes.stdout.finish();
        self.pipes.progress.finish();
        let last_words = self.pipes.stderr.finish().hearer.last_words();
        // It may also have become too long only after the child's exit.
        let interruption = self.interruption.or(too_long.then_some(Interruption::OutputTooLong));
        Ok(Ended { exit, interruption, stdout, last_words })
    }

    fn is_over(&self) -> bool {
        self.exited && (self.pipes.are_closed() || self.time_is_up())
    }

    fn time_is_up(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.wake.reader, PollFlags::IN)];
        fds.extend(self.pipes.sources().map(|source| PollFd::new(source, PollFlags::IN)));
        fds.extend(self.pipes.stdin.fd().map(|feed| PollFd::new(feed, PollFlags::OUT)));
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        // A time too long for the system's type is as good as none.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The child has exited. What it leaves in its group is killed, or, where the group was asked to end, has the rest
    /// of its time; the pipes are waited for a little.
    fn note_exit(&mut self) {
        self.exited = true;
        self.pipes.stdin.close();
        let linger = Instant::now() + LINGER;
        let kill_at = self.until.filter(|_| self.phase == Phase::Asked);
        self.until = Some(kill_at.map_or(linger, |kill_at| kill_at.min(linger)));
        if self.phase != Phase::Asked {
            self.kill();
        }
    }

    /// Ends the child where its time is up, it prints too much, or the worker says so.
    fn obey(&mut self) {
        if self.pipes.stdout.sink().too_long {
            self.interrupt(Interruption::OutputTooLong);
        }
        if let Some(reason) = self.run.stop.get() {
            self.interrupt(Interruption::Stopped(reason));
        }
        if !self.exited && self.time_is_up() {
            match self.phase {
                Phase::Running => self.interrupt(Interruption::Timeout(self.run.timeout)),
                Phase::Asked | Phase::Killed => self.kill(),
            }
        }
    }

    /// Ends the child for a reason. A reason that kills does so also where an earlier one had asked.
    fn interrupt(&mut self, interruption: Interruption) {
        let kills = match interruption {
            Interruption::Timeout(_) | Interruption::Stopped(StopReason::Shutdown) => false,
            // With a lost claim, another worker may be at the same task already: every moment is one too many.
            Interruption::OutputTooLong | Interruption::Stopped(StopReason::Kill | StopReason::ClaimLost) => true,
        };
        if kills && self.phase != Phase::Killed {
            self.kill();
        } else if self.phase == Phase::Running {
            self.ask();
        } else {
            return;
        }
        self.interruption.get_or_insert(interruption);
    }

    fn ask(&mut self) {
        self.child.signal(Signal::TERM);
        self.phase = Phase::Asked;
        self.until = Instant::now().checked_add(self.kill_after);
    }

    fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.phase = Phase::Killed;
        if !self.exited {
            self.until = None;
        }
    }
}
