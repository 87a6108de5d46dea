//! Kills processes that handlers had started when their worker was killed.

use std::collections::HashSet;
use std::iter;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use super::proc::{self, PidHandle, Stat};
use super::supervision::{self, MARK};
use crate::task::TaskId;

/// How long killed orphans may take to exit.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The search ends if no orphan was found for this long and in this many scans. On a busy machine new processes keep
/// appearing, and a single scan may take as long.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_SCANS: u32 = 10;

/// A process that outlived its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The process id.
    pub pid: i32,
    /// The task it was started for; `None` if it has cleared its environment, which names the task.
    pub task_id: Option<TaskId>,
}

/// Kills the processes that handlers of dead workers had started, and returns them.
///
/// `is_dead` returns whether the process that called [`supervise`](super::supervise) with this token is dead. It must
/// return false for unknown tokens, such as those of workers with another results file. Not found are processes that
/// changed both their environment and their limit on real-time CPU time, and processes of other users that we may not
/// inspect. On systems other than Linux none are found.
pub fn kill_orphans(is_dead: impl Fn(&str) -> bool) -> Vec<Orphan> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    let mut seen: HashSet<Pid> = ancestors().collect();
    let mut ended = Vec::new();
    let (mut quiet_at, mut quiet_scans) = (Instant::now() + QUIET, 0);
    // A process that forks and exits may be missed by a scan, and one that forks while it is killed leaves another: so
    // scan again, for processes that are new.
    loop {
        let new: Vec<Pid> = proc::all().into_iter().filter(|pid| seen.insert(*pid)).collect();
        let killed: Vec<_> = new.iter().filter_map(|pid| kill(*pid, &is_dead)).collect();
        ended.extend(killed.iter().map(|(orphan, _)| *orphan));
        quiet_scans += 1;
        if !killed.is_empty() {
            (quiet_at, quiet_scans) = (Instant::now() + QUIET, 0);
        }
        let are_gone = killed.iter().all(|(_, process)| process.is_gone_by(deadline));
        let is_quiet = quiet_scans >= QUIET_SCANS && Instant::now() >= quiet_at;
        if new.is_empty() || !are_gone || is_quiet || Instant::now() >= deadline {
            return ended;
        }
    }
}

/// This process and its ancestors. An ancestor may be an orphan, such as a terminal that a handler started.
fn ancestors() -> impl Iterator<Item = Pid> {
    iter::successors(Some(getpid()), |pid| Stat::of(*pid)?.parent)
}

/// Kills `pid` if it is an orphan.
fn kill(pid: Pid, is_dead: impl Fn(&str) -> bool) -> Option<(Orphan, PidHandle)> {
    let process = PidHandle::open(pid).ok()?;
    let (token, task_id) = origin(&process)?;
    let is_killed = !Stat::of(pid)?.is_zombie && is_dead(&token) && process.kill().is_ok();
    is_killed.then_some((Orphan { pid: pid.as_raw_pid(), task_id }, process))
}

/// Returns the worker's token and the task of a process that a handler started: from its environment, else its limits.
fn origin(process: &PidHandle) -> Option<(String, Option<TaskId>)> {
    if let Some(mark) = process.variable(MARK) {
        let (token, task_id) = supervision::parse(&mark)?;
        return Some((token.to_owned(), Some(task_id)));
    }
    Some((supervision::token_in_limit(process.realtime_limit()?)?, None))
}
