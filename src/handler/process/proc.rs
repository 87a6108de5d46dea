//! Inspects and kills other processes on Linux, through `/proc` and pidfds. Any of them may exit at any time.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// How long to wait for the environment of a process that is just starting its program.
const ENVIRON_WAIT_MAX: Duration = Duration::from_millis(100);
/// Pause between two reads of an environment.
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// The flag of kernel threads (`PF_KTHREAD`), which have no environment.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Returns the children of this process's main thread: those that it started, and adopted orphans, since the kernel
/// gives these to the first living thread.
pub(super) fn children_of_main_thread() -> io::Result<Vec<Pid>> {
    let path = format!("/proc/self/task/{}/children", getpid());
    Ok(fs::read_to_string(path)?.split_ascii_whitespace().filter_map(pid).collect())
}

/// Returns all processes.
pub(super) fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| pid(entry.file_name().to_str()?)).collect()
}

fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}

/// Fields of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProcStat {
    /// `None` for processes that the kernel started.
    pub(super) parent: Option<Pid>,
    pub(super) is_zombie: bool,
    /// Start time in clock ticks since boot.
    pub(super) started: u64,
    /// Whether an empty environment is final. False while the program starts or exits, and if we may not read it.
    is_environ_final: bool,
}

impl ProcStat {
    pub(super) fn of(pid: Pid) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// Parses the file. The name, in brackets, may contain anything; the third field follows it.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let flags: u32 = fields.get(6)?.parse().ok()?;
        let environment_end = *fields.get(48)?;
        Some(Self {
            parent: pid(fields[1]),
            is_zombie: fields[0] == "Z",
            started: fields[19].parse().ok()?,
            is_environ_final: environment_end != "0" || flags & KERNEL_THREAD != 0,
        })
    }
}

/// A process with its pidfd, so that signals never reach another process with the same PID.
pub(super) struct PidHandle {
    pid: Pid,
    fd: OwnedFd,
}

impl PidHandle {
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, fd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.fd, Signal::KILL)?)
    }

    /// Waits for its exit until `deadline`; true if it has exited.
    pub(super) fn is_gone_by(&self, deadline: Instant) -> bool {
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], left.as_ref()) {
                Err(Errno::INTR) => {}
                ready => return ready.is_ok_and(|count| count > 0),
            }
        }
    }

    /// Returns a variable of the environment that its program was started with, if we may read it.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let environment = self.environment();
        let mut variables = environment.split(|byte| *byte == 0);
        let value = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        String::from_utf8(value.to_vec()).ok()
    }

    /// Returns its soft limit on real-time CPU time in microseconds, if it has one.
    pub(super) fn realtime_limit(&self) -> Option<u64> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid)).ok()?;
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
        limit.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Reads the environment; empty if we may not read it. While a program starts or exits it is missing, so try again.
    fn environment(&self) -> Vec<u8> {
        let deadline = Instant::now() + ENVIRON_WAIT_MAX;
        loop {
            let environment = match fs::read(format!("/proc/{}/environ", self.pid)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Vec::new(),
                read => read.unwrap_or_default(),
            };
            let is_environ_final =
                !environment.is_empty() || ProcStat::of(self.pid).is_none_or(|stat| stat.is_environ_final);
            if is_environ_final || self.is_gone_by(Instant::now() + RETRY_PAUSE) || Instant::now() >= deadline {
                return environment;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let until_start = "174 0 0 0 0 0 0 0 20 0 1 0 4711";
        let after_start = "2654208 349 18446744073709551615 1 1 0 0 0 0 0 4096 0 1 0 0 17 0 0 0 0 0 0 1 1 1 1 1";
        for (state, flags, end, is_zombie, is_environ_final) in [
            ("S", 4_194_560, 140_721, false, true),
            ("R", 4_194_560, 0, false, false),
            ("Z", 4_194_560, 0, true, false),
            ("I", 2_129_984, 0, false, true),
        ] {
            let head = format!("42 (a) Z 1 (b) {state} 41 42 42 0 -1 {flags}");
            let stat = ProcStat::parse(&format!("{head} {until_start} {after_start} 1 {end} 0\n"));
            assert_eq!(stat, Some(ProcStat { parent: Pid::from_raw(41), is_zombie, started: 4711, is_environ_final }));
        }
        assert_eq!(ProcStat::parse("42 (a"), None);
    }

    #[test]
    fn we_are_among_all() {
        assert!(all().contains(&getpid()));
        let us = ProcStat::of(getpid()).unwrap();
        assert!(!us.is_zombie && us.started > 0 && us.parent == rustix::process::getppid());
        let us = PidHandle::open(getpid()).unwrap();
        assert_eq!(us.variable("CARGO_MANIFEST_DIR").as_deref(), Some(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(us.variable("CARGO_MANIFEST"), None);
        assert!(!us.is_gone_by(Instant::now()));
        assert_eq!(us.realtime_limit(), getrlimit(Resource::Rttime).current);
    }
}
