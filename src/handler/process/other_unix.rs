//! Starts children on systems other than Linux: with the standard library, and a thread that waits for the exit. A process
//! cannot adopt orphans there, so none are found.

use std::fs;
use std::io::{self, PipeReader};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::ptr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use command_fds::{CommandFdExt, FdMapping};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::process::{Pid, Resource, Signal, WaitId, WaitIdOptions, kill_process, setrlimit, setsid, waitid};

use super::{Left, PROGRESS_FD, Program, reap};
use crate::resources;
use crate::task::TaskId;

/// Maximum number of files open while a child is started, and while it runs.
pub(in crate::handler) const FILES: (usize, usize) = (15, 7);

/// The variable that marks a handler's processes; never set on these systems.
const MARK: &str = "PRISMQ_TASK_MARK";

const OPEN_FDS: &str = "/dev/fd";

/// Returns a file that can be polled, and one that makes it readable when 8 bytes are written to it.
pub(in crate::handler) fn wake_files() -> io::Result<[Arc<OwnedFd>; 2]> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok([Arc::new(reader.into()), Arc::new(writer.into())])
}

pub(super) struct ChildProcess {
    pid: Pid,
    /// Closed when the child has exited.
    exited: PipeReader,
    waiter: Option<JoinHandle<()>>,
}

impl ChildProcess {
    /// Starts `program` as the leader of `descendants`, and with `files` as its descriptors 0 to 3.
    pub(super) fn start(program: &Program, descendants: Option<&Descendants>, files: [OwnedFd; 4]) -> io::Result<Self> {
        let mark = descendants.map(Descendants::mark);
        let (exited, waiting) = io::pipe()?;
        let pid = Pid::from_child(&command(program, files)?.envs(mark.map(|mark| (MARK, mark))).spawn()?);
        let wait = move || {
            // NOWAIT leaves the child a zombie, so that its PID is not reused while we may still signal the group.
            // An error means that there is no such child, so it has exited.
            let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            drop(waiting);
        };
        let waiter = thread::Builder::new().name("waiter".into()).spawn(wait);
        if waiter.is_err() {
            let _ = kill_process(pid, Signal::KILL);
            let _ = reap(pid);
        }
        Ok(Self { pid, exited, waiter: Some(waiter?) })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has exited, and reaps it. Must be called at most once.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        // Join the waiter first, so that it never waits for a reused PID.
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
        reap(self.pid)
    }
}

/// Readable when the child has exited.
impl AsFd for ChildProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }
}

fn command(program: &Program, [stdin, stdout, stderr, progress]: [OwnedFd; 4]) -> io::Result<Command> {
    let mut command = Command::new(&program.path);
    command.args(&program.args).current_dir(&program.dir);
    command.env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let mapping = FdMapping { parent_fd: progress, child_fd: PROGRESS_FD };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    set_pre_exec(&mut command)?;
    Ok(command)
}

/// Sets up the child before exec: its own session, the limit on open files with which we were started, and no blocked
/// signals, since the standard library keeps the ones that we inherited blocked. Other files are closed on exec; the ones
/// that we open have that flag already, but those that were open when we started do not.
#[allow(unsafe_code)]
fn set_pre_exec(command: &mut Command) -> io::Result<()> {
    let others: Vec<RawFd> = open_fds()?.into_iter().filter(|fd| *fd > PROGRESS_FD).collect();
    let limit = resources::first_limit().copied();
    let pre_exec = move || {
        setsid()?;
        for fd in &others {
            // SAFETY: the descriptor is used for this one call, which fails if it is closed.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        if let Some(first) = &limit {
            setrlimit(Resource::Nofile, *first)?;
        }
        let mut none = MaybeUninit::uninit();
        // SAFETY: the first call fills in the set, and the second reads it.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: between fork and exec, the child of a process with threads must neither allocate nor take locks. The
    // closure only makes system calls.
    unsafe { command.pre_exec(pre_exec) };
    Ok(())
}

fn open_fds() -> io::Result<Vec<RawFd>> {
    let names = fs::read_dir(OPEN_FDS)?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Does nothing on this system.
pub fn supervise(_token: &str) -> io::Result<()> {
    Ok(())
}

/// A process that outlived its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The process id.
    pub pid: i32,
    /// The task it was started for.
    pub task_id: Option<TaskId>,
}

/// Finds nothing on this system.
pub fn kill_orphans(_is_dead: impl Fn(&str) -> bool) -> Vec<Orphan> {
    Vec::new()
}

/// Never constructed on this system.
pub(super) enum Descendants {}

impl Descendants {
    pub(super) fn register(_: TaskId) -> Option<Self> {
        None
    }

    pub(super) fn mark(&self) -> &str {
        match *self {}
    }

    pub(super) fn reap(&self) {
        match *self {}
    }

    pub(super) fn end(&self, _deadline: Instant) -> Left {
        match *self {}
    }
}
