//! Child processes: the only place that starts them, and signals and reaps what leads and fills their process groups.
//!
//! Each child leads a session of its own. So it has no controlling terminal: opening that fails at once, and does not stop
//! it. And it leads a process group, so that what it starts ends with it; [`Descendants`] are what leaves the group.

#[cfg_attr(target_os = "linux", path = "process/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "process/elsewhere.rs")]
mod system;

use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::ptr;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

use super::pipes::Ends;
use super::supervision::Descendants;
use crate::failpoint;
use crate::task::TaskId;
pub(super) use system::FILES;
use system::Process;

/// How long a handler that was asked to end has until it is killed.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long a child's end may be delayed by others that hold its pipes open, or that do not die.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Where a child writes its progress.
pub(super) const PROGRESS_FD: RawFd = 3;

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
///
/// On Linux, the kernel kills it where the thread that started it ends, however that comes.
pub(super) struct Child {
    process: Process,
    descendants: Option<Descendants>,
    reaped: bool,
}

impl Child {
    /// Starts `program`. Returns our ends of its pipes, too.
    pub(super) fn start(program: &Program) -> io::Result<(Self, Ends)> {
        failpoint::check("start")?;
        keep_exit_codes();
        let (stdin_of_child, stdin) = io::pipe()?;
        let (stdout, stdout_of_child) = io::pipe()?;
        let (stderr, stderr_of_child) = io::pipe()?;
        let (progress, progress_of_child) = io::pipe()?;
        let ends = Ends::new([stdin.into(), stdout.into(), stderr.into(), progress.into()])?;
        let descendants = Descendants::expect(program.task);
        let files = [stdin_of_child.into(), stdout_of_child.into(), stderr_of_child.into(), progress_of_child.into()];
        let process = Process::start(program, descendants.as_ref().map(Descendants::mark), files)?;
        if let Some(descendants) = &descendants {
            descendants.started(process.pid());
        }
        Ok((Self { process, descendants, reaped: false }, ends))
    }

    /// Signals the whole group. That nobody is left in it is as good.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.process.pid(), signal);
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

    /// Kills what is left of the group, and reaps the child. To be called once.
    pub(super) fn end(&mut self) -> io::Result<Exit> {
        self.signal(Signal::KILL);
        self.reaped = true;
        self.process.wait().map(Exit::from)
    }
}

/// Ready to be read when it has exited.
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

/// Has the system keep the exit codes of our children, also where the program that started us ignored SIGCHLD.
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

/// Waits until our child has exited, and reaps it.
fn reap(pid: Pid) -> io::Result<ExitStatus> {
    let ended = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
    // Without NOHANG there always is one.
    ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())).ok_or_else(|| io::ErrorKind::WouldBlock.into())
}
