//! Child processes: the only module that starts, signals and reaps them.
//!
//! Each child leads its own session and process group. It has no controlling terminal, so opening `/dev/tty` fails
//! instead of stopping it. Processes that it starts are signalled through the group; [`Descendants`] are those that
//! leave it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod orphans;
#[cfg(not(target_os = "linux"))]
mod other_unix;
#[cfg(target_os = "linux")]
mod proc;

use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::ptr;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

#[cfg(not(target_os = "linux"))]
use self::other_unix::{ChildProcess, Descendants};
#[cfg(target_os = "linux")]
use self::{linux::ChildProcess, orphans::Descendants};
use crate::failpoint;
use crate::task::TaskId;

#[cfg(target_os = "linux")]
pub(super) use self::linux::{FILES, wake_files};
#[cfg(target_os = "linux")]
pub use self::orphans::{Orphan, kill_orphans, supervise};
#[cfg(not(target_os = "linux"))]
pub(super) use self::other_unix::{FILES, wake_files};
#[cfg(not(target_os = "linux"))]
pub use self::other_unix::{Orphan, kill_orphans, supervise};

/// Default time from SIGTERM to SIGKILL.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long to wait, after a child's exit, for processes that hold its pipes open or do not exit.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// The file descriptor to which a child writes progress.
pub(super) const PROGRESS_FD: RawFd = 3;

/// A program to start.
pub(super) struct Program {
    pub(super) task: TaskId,
    /// The absolute path of the executable.
    pub(super) path: PathBuf,
    /// The arguments, without the program's name.
    pub(super) args: Vec<String>,
    pub(super) dir: PathBuf,
    /// The complete environment.
    pub(super) env: Vec<(OsString, OsString)>,
}

/// Our ends of the pipes to a child; `None` if one is closed.
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) progress: Option<OwnedFd>,
}

impl Ends {
    /// Makes newly opened pipes non-blocking.
    pub(super) fn new([stdin, stdout, stderr, progress]: [OwnedFd; 4]) -> io::Result<Self> {
        for fd in [&stdin, &stdout, &stderr, &progress] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), progress: Some(progress) })
    }
}

/// What is left of a child's descendants after they were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    alive: usize,
    /// Whether there may be others: it is not known of each process where it comes from, or they could not be listed.
    may_be_more: bool,
}

/// How a child exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChildExit {
    Code(i32),
    /// Killed by a signal, such as `9 (SIGKILL)`.
    Signal(String),
}

impl From<ExitStatus> for ChildExit {
    fn from(status: ExitStatus) -> Self {
        let by_signal = || Self::Signal(status.to_string().trim_start_matches("signal: ").to_owned());
        status.code().map_or_else(by_signal, Self::Code)
    }
}

/// A child process, its group, and its descendants outside of the group. Dropping it kills them and reaps the child.
///
/// On Linux, the kernel kills the child when the thread that started it ends.
pub(super) struct Child {
    process: ChildProcess,
    descendants: Option<Descendants>,
    /// Whether the child has exited and no descendant of it is left.
    has_none: bool,
    reaped: bool,
}

impl Child {
    /// Starts `program`. Returns the child and our ends of its pipes.
    pub(super) fn start(program: &Program) -> io::Result<(Self, Ends)> {
        failpoint::check("start")?;
        keep_exit_codes();
        let (stdin_of_child, stdin) = io::pipe()?;
        let (stdout, stdout_of_child) = io::pipe()?;
        let (stderr, stderr_of_child) = io::pipe()?;
        let (progress, progress_of_child) = io::pipe()?;
        let ends = Ends::new([stdin.into(), stdout.into(), stderr.into(), progress.into()])?;
        let descendants = Descendants::register(program.task);
        let files = [stdin_of_child.into(), stdout_of_child.into(), stderr_of_child.into(), progress_of_child.into()];
        let process = ChildProcess::start(program, descendants.as_ref(), files)?;
        Ok((Self { process, descendants, has_none: false, reaped: false }, ends))
    }

    /// Signals the whole group. An empty group is not an error.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.process.pid(), signal);
    }

    /// Reaps orphans of the child that have exited.
    pub(super) fn reap_orphans(&self) {
        if let Some(descendants) = &self.descendants {
            descendants.reap();
        }
    }

    /// Kills descendants outside of the group after the child has exited. Returns how many could not be killed.
    pub(super) fn end_descendants(&mut self) -> usize {
        let Some(descendants) = self.descendants.as_ref().filter(|_| !self.has_none) else { return 0 };
        let left = descendants.end(Instant::now() + LINGER);
        self.has_none = left == Left { alive: 0, may_be_more: false };
        left.alive
    }

    /// Kills the rest of the group and reaps the child. Must be called at most once.
    pub(super) fn end(&mut self) -> io::Result<ChildExit> {
        self.signal(Signal::KILL);
        self.reaped = true;
        self.process.wait().map(ChildExit::from)
    }
}

/// Readable when the child has exited.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
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

/// Stops ignoring SIGCHLD, which we may have inherited: otherwise the system discards our children's exit codes.
#[allow(unsafe_code)]
fn keep_exit_codes() {
    // SAFETY: plain data, for which all zeros are a value, and calls that take a number or fill it in.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut action);
        if action.sa_sigaction == libc::SIG_IGN {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }
}

/// Waits until a child has exited, and reaps it.
fn reap(pid: Pid) -> io::Result<ExitStatus> {
    let ended = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
    // Without NOHANG there is always a status.
    ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())).ok_or_else(|| io::ErrorKind::WouldBlock.into())
}
