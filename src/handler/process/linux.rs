//! Starting a child on Linux, and hearing of its exit.
//!
//! For what a child has to do before it becomes the program, the standard library would fork: that copies our page
//! tables, and then each of our threads faults on what it writes next. Here the child shares our memory until then, as
//! with `posix_spawn`, which knows no parent-death signal. It takes a third of the CPU time.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitStatus;
use std::ptr;

use libc::{c_char, c_int, c_uint, c_void, pid_t};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open};

use super::{PROGRESS_FD, Program, reap};
use crate::handler::supervision::{MARK, limit_with_token};
use crate::resources;

/// How many files we have open at most while a child is started, and while it runs.
pub(in crate::handler) const FILES: (usize, usize) = (10, 7);

/// In units of 16 bytes, by which a stack is aligned. The child only makes system calls on it.
const STACK: usize = 4096;

/// A child process: it dies with the thread that started it.
pub(super) struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// Starts `program`, marked with `mark`, and with `files` as its first ones.
    pub(super) fn start(program: &Program, mark: Option<&str>, files: [OwnedFd; 4]) -> io::Result<Self> {
        let words = Words::of(program, mark)?;
        let realtime = mark.and_then(realtime_limit);
        let files_of_child = files.each_ref().map(AsRawFd::as_raw_fd);
        let pid = Launch { realtime, ..Launch::new(&words, files_of_child) }.start()?;
        // Only the child may hold them, so that we see it close them.
        drop(files);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self { pid, fd }),
            Err(error) => {
                let _ = kill_process(pid, Signal::KILL);
                let _ = reap(pid);
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has exited, and reaps it. To be called once.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        reap(self.pid)
    }
}

/// Ready to be read when it has exited.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a program is started with, as the system wants it.
struct Words {
    path: CString,
    dir: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Words {
    fn of(program: &Program, mark: Option<&str>) -> io::Result<Self> {
        let path = word(&[program.path.as_os_str()])?;
        let args = program.args.iter().map(|arg| word(&[OsStr::new(arg)]));
        let variables = program.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let mark = mark.map(|mark| (OsStr::new(MARK), OsStr::new(mark)));
        let env = variables.chain(mark).map(|(name, value)| word(&[name, OsStr::new("="), value]));
        Ok(Self {
            args: [Ok(path.clone())].into_iter().chain(args).collect::<io::Result<_>>()?,
            env: env.collect::<io::Result<_>>()?,
            dir: word(&[program.dir.as_os_str()])?,
            path,
        })
    }
}

fn word(parts: &[&OsStr]) -> io::Result<CString> {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.as_bytes()).copied().collect();
    Ok(CString::new(bytes)?)
}

/// The list of pointers that the system wants, whose end is a null.
fn list(words: &[CString]) -> Vec<*const c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

/// All that a child needs until it is the program, made before it is there: it must take no memory for itself, since
/// it would never give it back.
struct Launch<'a> {
    words: &'a Words,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    files: [RawFd; 4],
    parent: pid_t,
    /// Its limit on open files, where that is not ours.
    open_files: Option<libc::rlimit>,
    /// Its limit on real-time CPU time, which says that it is ours.
    realtime: Option<libc::rlimit>,
    /// Why it could not become the program.
    error: Option<c_int>,
}

impl<'a> Launch<'a> {
    fn new(words: &'a Words, files: [RawFd; 4]) -> Self {
        // SAFETY: it cannot fail.
        let parent = unsafe { libc::getpid() };
        let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
        let open_files = resources::first_limit()
            .map(|first| libc::rlimit { rlim_cur: number(first.current), rlim_max: number(first.maximum) });
        Self {
            words,
            args: list(&words.args),
            env: list(&words.env),
            files,
            parent,
            open_files,
            realtime: None,
            error: None,
        }
    }

    /// Returns when the child has become the program, or could not.
    fn start(mut self) -> io::Result<Pid> {
        let mut stack: Vec<u128> = Vec::with_capacity(STACK);
        let pid = with_signals_blocked(|| {
            // SAFETY: the child runs `child` on a stack of its own, which grows downwards. VFORK holds this thread until
            // the child has another memory or is gone, so the stack and `self` outlive its use of them.
            let pid = unsafe {
                let top = stack.as_mut_ptr().add(STACK).cast::<c_void>();
                let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
                libc::clone(child, top, flags, ptr::from_mut(&mut self).cast())
            };
            // -1 where it fails.
            Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error)
        })?;
        match self.error {
            None => Ok(pid),
            Some(error) => {
                let _ = reap(pid);
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// What the child does, by system calls alone. It only returns where one fails.
    unsafe fn become_program(&self) -> Result<(), c_int> {
        // SAFETY: each takes numbers, or what `self` points to, which lives as long as the caller waits.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The parent may have died before that.
            if libc::getppid() != self.parent {
                return Err(libc::ESRCH);
            }
            check(libc::setsid())?;
            check(libc::chdir(self.words.dir.as_ptr()))?;
            for (file, number) in self.files.into_iter().zip(0..) {
                become_file(file, number)?;
            }
            close_others_on_exec();
            if let Some(limit) = &self.open_files {
                check(libc::setrlimit(libc::RLIMIT_NOFILE, limit))?;
            }
            if let Some(limit) = &self.realtime {
                // Where it is refused, the environment alone says so.
                libc::setrlimit(libc::RLIMIT_RTTIME, limit);
            }
            reset_signals()?;
            libc::execve(self.words.path.as_ptr(), self.args.as_ptr(), self.env.as_ptr());
        }
        Err(errno())
    }
}

/// The limit on real-time CPU time of what is marked with `mark`, where ours leaves room for that.
fn realtime_limit(mark: &str) -> Option<libc::rlimit> {
    let maximum = getrlimit(Resource::Rttime).maximum.unwrap_or(libc::RLIM_INFINITY);
    let current = limit_with_token(mark).filter(|limit| *limit <= maximum)?;
    Some(libc::rlimit { rlim_cur: current, rlim_max: maximum })
}

/// Runs in the child, with our memory.
extern "C" fn child(launch: *mut c_void) -> c_int {
    // SAFETY: it is the `Launch` that `start` has passed, and nobody else uses it while `start` waits.
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

/// Makes `file` the one called `number`, to be kept on exec.
unsafe fn become_file(file: RawFd, number: RawFd) -> Result<(), c_int> {
    // SAFETY: numbers only.
    unsafe { check(if file == number { libc::fcntl(file, libc::F_SETFD, 0) } else { libc::dup2(file, number) }) }
}

/// Has the other files closed on exec. Those that we open are anyway, but not those that were open when we started.
unsafe fn close_others_on_exec() {
    let first = PROGRESS_FD + 1;
    // SAFETY: numbers only. Nothing is done to a number that no file has.
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

/// Gives signals their usual effects, and lets them through. What is ignored stays so, for `nohup`; but that we, like
/// all Rust programs, ignore SIGPIPE, is our own affair.
unsafe fn reset_signals() -> Result<(), c_int> {
    // SAFETY: plain data, for which all zeros are a value, and calls which fill it in.
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

/// Runs `start` while no signal reaches this thread, nor the child: one of our handlers would run there, in our memory.
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the calls fill in what they are given, and fail only for values other than these.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = start();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started
}
