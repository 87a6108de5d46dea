//! Child processes: the only place that starts them, and signals and reaps what leads and fills their process groups.
//!
//! Each child leads a process group of its own, so that what it starts ends with it; [`Descendants`] are what leaves
//! the group.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};

use super::supervision::{Descendants, MARK};
use super::wake::{Wake, Waker};
use crate::task::TaskId;

/// How long a handler that was asked to end has until it is killed.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long a child's end may be delayed by others that hold its pipes open, or that do not die.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Where a child writes its progress.
pub(super) const PROGRESS_FD: RawFd = 3;
/// Where the system lists our open files.
const OPEN_FDS: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// What to run.
pub(super) struct Program {
    /// What it is started for.
    pub(super) task: TaskId,
    /// The executable, absolute.
    pub(super) path: PathBuf,
    /// Its arguments, without its own name.
    pub(super) args: Vec<String>,
    /// The working folder.
    pub(super) dir: PathBuf,
    /// The whole environment.
    pub(super) env: Vec<(OsString, OsString)>,
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

/// A child process, its group, and what left that. Dropping it kills all of them and reaps the child.
pub(super) struct Child {
    process: std::process::Child,
    group: Pid,
    descendants: Option<Descendants>,
    waiter: Option<JoinHandle<()>>,
    reaped: bool,
}

impl Child {
    /// Starts `program`, which writes its progress to `progress`; `wake` hears of its exit.
    pub(super) fn start(program: &Program, progress: OwnedFd, wake: &Wake) -> io::Result<Self> {
        let descendants = Descendants::expect(program.task);
        let mut command = command(program, progress)?;
        command.envs(descendants.iter().map(|descendants| (MARK, descendants.mark())));
        let (process, waiter) = start_and_wait(command, wake.waker())?;
        let group = Pid::from_child(&process);
        if let Some(descendants) = &descendants {
            descendants.started(group);
        }
        Ok(Self { process, group, descendants, waiter: Some(waiter), reaped: false })
    }

    /// Standard input, output and error.
    pub(super) fn take_pipes(&mut self) -> io::Result<[OwnedFd; 3]> {
        let child = &mut self.process;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok([stdin.into(), stdout.into(), stderr.into()]),
            _ => Err(io::Error::other("the child has no pipes")),
        }
    }

    /// Signals the whole group. That nobody is left in it is as good.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Reaps what the child has left to us to reap so far.
    pub(super) fn reap_orphans(&self) {
        if let Some(descendants) = &self.descendants {
            descendants.reap();
        }
    }

    /// Ends what left the group, when the child has exited. Returns how many processes are left even so.
    pub(super) fn end_descendants(&self) -> usize {
        self.descendants.as_ref().map_or(0, |descendants| descendants.end(Instant::now() + LINGER))
    }

    /// Kills what is left of the group, and reaps the child.
    pub(super) fn end(&mut self) -> io::Result<Exit> {
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
        if !self.reaped {
            let _ = self.end();
            self.end_descendants();
        }
    }
}

/// Starts `command` in a thread that waits for its exit. A child dies with the thread that started it, and this one
/// lives as long as the child does, whichever threads use the child in the meantime.
fn start_and_wait(mut command: Command, waker: Waker) -> io::Result<(std::process::Child, JoinHandle<()>)> {
    let (started, start) = mpsc::sync_channel(1);
    let work = move || {
        let process = command.spawn();
        // It holds the child's end of the progress pipe, whose end we would never see.
        drop(command);
        let pid = process.as_ref().ok().map(Pid::from_child);
        let _ = started.send(process);
        if let Some(pid) = pid {
            // NOWAIT leaves the child a zombie, so that its number stays its own while we may still signal the group.
            // An error means that there is no such child, so it has exited all the more.
            let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            waker.exited();
        }
    };
    let waiter = thread::Builder::new().name("waiter".into()).spawn(work)?;
    let process = start.recv().map_err(io::Error::other)??;
    Ok((process, waiter))
}

fn command(program: &Program, progress: OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(&program.path);
    command.args(&program.args).current_dir(&program.dir);
    command.env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mapping = FdMapping { parent_fd: progress, child_fd: PROGRESS_FD };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    add_first_steps(&mut command)?;
    Ok(command)
}

/// Adds what a child does by itself before it becomes another program: it makes sure that it dies with us, and that it
/// takes along no open file but its own.
#[allow(unsafe_code)]
fn add_first_steps(command: &mut Command) -> io::Result<()> {
    let us = getpid();
    // What we open ourselves is closed on exec, so a file that is opened only after this is. What our own parent left
    // open to us is not.
    let others: Vec<RawFd> = open_fds()?.into_iter().filter(|fd| *fd > PROGRESS_FD).collect();
    let first_steps = move || {
        die_with(us)?;
        for fd in &others {
            // SAFETY: the number is used for this one call; where no file has it any more, the call says so.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Ok(())
    };
    // SAFETY: between fork and exec, a child of a process with threads must neither allocate nor take a lock, whose
    // owner may not exist in it. These steps only make system calls.
    unsafe { command.pre_exec(first_steps) };
    Ok(())
}

fn open_fds() -> io::Result<Vec<RawFd>> {
    let names = fs::read_dir(OPEN_FDS)?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Has the kernel kill this process when its parent does not live any more, which must be `parent`. What the kernel
/// watches is the thread that started it: see [`start_and_wait`].
#[cfg(target_os = "linux")]
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}

/// There is nothing of the kind.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps)] // as on Linux
fn die_with(_: Pid) -> io::Result<()> {
    Ok(())
}
