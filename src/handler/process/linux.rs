//! Starts children on Linux, with a pidfd for the exit.
//!
//! The standard library would fork to run code before exec: that copies our page tables, and our threads then fault on
//! their next writes. Here the child shares our memory until exec, as with `posix_spawn`, which does not support
//! parent-death signals. It takes a third of the CPU time.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitStatus;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libc::{c_char, c_int, c_uint, c_void, pid_t};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open};

use super::orphans::{Descendants, MARK, limit_with_token};
use super::{PROGRESS_FD, Program, reap};
use crate::resources;

/// Maximum number of files open while a child is started, and while it runs.
pub(in crate::handler) const FILES: (usize, usize) = (9, 6);

/// Size of the child's stack until exec, in units of 16 bytes, its alignment. The child only makes system calls.
const STACK: usize = 4096;

/// Returns a file that can be polled, and one that makes it readable when 8 bytes are written to it.
pub(in crate::handler) fn wake_files() -> io::Result<[Arc<OwnedFd>; 2]> {
    let file = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok([Arc::clone(&file), file])
}

/// A child process that dies with the thread that started it.
pub(super) struct ChildProcess {
    pid: Pid,
    fd: OwnedFd,
}

impl ChildProcess {
    /// Starts `program` as the leader of `descendants`, and with `files` as its descriptors 0 to 3.
    pub(super) fn start(program: &Program, descendants: Option<&Descendants>, files: [OwnedFd; 4]) -> io::Result<Self> {
        let mark = descendants.map(Descendants::mark);
        let words = ExecArgs::of(program, mark)?;
        let realtime = mark.and_then(realtime_limit);
        let files_of_child = files.each_ref().map(AsRawFd::as_raw_fd);
        let pid = Launch { realtime, ..Launch::new(&words, files_of_child, descendants) }.start()?;
        // Only the child may keep them open, so that we notice when it closes them.
        drop(files);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self { pid, fd }),
            Err(error) => {
                let _ = kill_process(pid, Signal::KILL);
                reap_failed(pid, descendants);
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has exited, and reaps it. Must be called at most once.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        reap(self.pid)
    }
}

/// Readable when the child has exited.
impl AsFd for ChildProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The strings of an `execve` call.
struct ExecArgs {
    path: CString,
    dir: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl ExecArgs {
    fn of(program: &Program, mark: Option<&str>) -> io::Result<Self> {
        let path = c_string(&[program.path.as_os_str()])?;
        let args = program.args.iter().map(|arg| c_string(&[OsStr::new(arg)]));
        let variables = program.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let mark = mark.map(|mark| (OsStr::new(MARK), OsStr::new(mark)));
        let env = variables.chain(mark).map(|(name, value)| c_string(&[name, OsStr::new("="), value]));
        Ok(Self {
            args: [Ok(path.clone())].into_iter().chain(args).collect::<io::Result<_>>()?,
            env: env.collect::<io::Result<_>>()?,
            dir: c_string(&[program.dir.as_os_str()])?,
            path,
        })
    }
}

fn c_string(parts: &[&OsStr]) -> io::Result<CString> {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.as_bytes()).copied().collect();
    Ok(CString::new(bytes)?)
}

/// Returns pointers to `words`, terminated by a null.
fn null_terminated(words: &[CString]) -> Vec<*const c_char> {
    words.iter().map(|c_string| c_string.as_ptr()).chain([ptr::null()]).collect()
}

/// Everything that the child needs until exec, prepared by the parent. The child must not allocate: it shares our
/// memory and would never free it.
struct Launch<'a> {
    words: &'a ExecArgs,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    files: [RawFd; 4],
    descendants: Option<&'a Descendants>,
    parent: pid_t,
    /// The child's limit on open files, if it differs from ours.
    open_files: Option<libc::rlimit>,
    /// The child's limit on real-time CPU time, which contains our token.
    realtime: Option<libc::rlimit>,
    /// Why the program could not be executed.
    error: Option<c_int>,
}

impl<'a> Launch<'a> {
    fn new(words: &'a ExecArgs, files: [RawFd; 4], descendants: Option<&'a Descendants>) -> Self {
        // SAFETY: getpid cannot fail.
        let parent = unsafe { libc::getpid() };
        let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
        let open_files = resources::first_limit()
            .map(|first| libc::rlimit { rlim_cur: number(first.current), rlim_max: number(first.maximum) });
        Self {
            words,
            args: null_terminated(&words.args),
            env: null_terminated(&words.env),
            files,
            descendants,
            parent,
            open_files,
            realtime: None,
            error: None,
        }
    }

    /// Starts the child. Returns when the program is executed, or has failed.
    fn start(mut self) -> io::Result<Pid> {
        let mut stack: Vec<u128> = Vec::with_capacity(STACK);
        // The kernel writes the PID before the child runs: others see early that it is a leader, not an orphan.
        let mut unused = 0;
        let leader = self.descendants.map_or(&raw mut unused, |descendants| descendants.leader().as_ptr());
        let pid = with_signals_blocked(|| {
            // SAFETY: the child runs `child_main` on a stack of its own, which grows downwards. VFORK holds this thread until
            // the child has executed the program or exited, so the stack and `self` outlive its use of them.
            let pid = unsafe {
                let top = stack.as_mut_ptr().add(STACK).cast::<c_void>();
                let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
                libc::clone(child_main, top, flags, ptr::from_mut(&mut self).cast(), leader)
            };
            // -1 on failure.
            Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error)
        })?;
        match self.error {
            None => Ok(pid),
            Some(error) => {
                reap_failed(pid, self.descendants);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// Sets up the child and executes the program, using only system calls. Returns only if one fails.
    unsafe fn become_program(&self) -> Result<(), c_int> {
        // SAFETY: the calls take numbers, or pointers into `self`, which lives while the caller waits.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The parent may have died before the call.
            if libc::getppid() != self.parent {
                return Err(libc::ESRCH);
            }
            check(libc::setsid())?;
            check(libc::chdir(self.words.dir.as_ptr()))?;
            for (file, number) in self.files.into_iter().zip(0..) {
                install_fd(file, number)?;
            }
            close_others_on_exec();
            if let Some(limit) = &self.open_files {
                check(libc::setrlimit(libc::RLIMIT_NOFILE, limit))?;
            }
            if let Some(limit) = &self.realtime {
                // If it is refused, the mark is only in the environment.
                libc::setrlimit(libc::RLIMIT_RTTIME, limit);
            }
            reset_signals()?;
            libc::execve(self.words.path.as_ptr(), self.args.as_ptr(), self.env.as_ptr());
        }
        Err(errno())
    }
}

/// Reaps a child that could not be started. From then on its PID may be that of an orphan.
fn reap_failed(pid: Pid, descendants: Option<&Descendants>) {
    if let Some(descendants) = descendants {
        descendants.leader().store(0, Ordering::Release);
    }
    let _ = reap(pid);
}

/// Returns the limit on real-time CPU time that contains the token of `mark`, if our own limit allows it.
fn realtime_limit(mark: &str) -> Option<libc::rlimit> {
    let maximum = getrlimit(Resource::Rttime).maximum.unwrap_or(libc::RLIM_INFINITY);
    let current = limit_with_token(mark).filter(|limit| *limit <= maximum)?;
    Some(libc::rlimit { rlim_cur: current, rlim_max: maximum })
}

/// Entry point of the child, which shares our memory.
extern "C" fn child_main(launch: *mut c_void) -> c_int {
    // SAFETY: `launch` is the `Launch` that `start` passed, and nothing else uses it while `start` waits.
    unsafe {
        let launch = &mut *launch.cast::<Launch<'_>>();
        launch.error = launch.become_program().err();
        libc::_exit(127)
    }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(result: c_int) -> Result<(), c_int> {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

/// Makes `file` descriptor `number`, kept open on exec.
unsafe fn install_fd(file: RawFd, number: RawFd) -> Result<(), c_int> {
    // SAFETY: numbers only.
    unsafe { check(if file == number { libc::fcntl(file, libc::F_SETFD, 0) } else { libc::dup2(file, number) }) }
}

/// Closes all other files on exec. Those that we open have that flag already; those that we inherited do not.
unsafe fn close_others_on_exec() {
    let first = PROGRESS_FD + 1;
    // SAFETY: numbers only. Closed descriptors are ignored.
    unsafe {
        let all = (first.cast_unsigned(), c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if libc::syscall(libc::SYS_close_range, all.0, all.1, all.2) < 0 {
            // Linux before 5.11.
            let end = libc::sysconf(libc::_SC_OPEN_MAX).clamp(0, 65_536) as c_int;
            for file in first..end {
                libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Resets signal handlers and unblocks all signals. Ignored signals stay ignored, for `nohup`, except SIGPIPE, which
/// every Rust program ignores.
unsafe fn reset_signals() -> Result<(), c_int> {
    // SAFETY: the structs are plain data, for which all zeros are valid, and the calls fill them in.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, ptr::null(), &raw mut action);
            let is_ours = ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
            if is_ours || signal == libc::SIGPIPE {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()))
    }
}

/// Runs `start` with all signals blocked in this thread, and so in the child, where our signal handlers would run in
/// our memory.
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the calls fill in their arguments and cannot fail for these values.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = start();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started
}
