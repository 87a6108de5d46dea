//! What handlers had started when their worker was killed.

use std::collections::HashSet;
use std::iter;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use super::proc::{self, Process, Stat};
use super::supervision::{self, MARK};
use crate::task::TaskId;

/// How long the leftovers may take to die.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long, and in how many looks, none may be found among the processes that keep coming on a busy machine. There a
/// single look may take as long.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_LOOKS: u32 = 10;

/// A process that outlived its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// Its number.
    pub pid: i32,
    /// The task it was started for; `None` where it has cleared its environment, which says so.
    pub task_id: Option<TaskId>,
}

/// Ends what the handlers of other worker processes had started and left behind, where those are dead, and returns it.
///
/// `is_dead` tells whether the process that called [`supervise`](super::supervise) with this token is dead. It must not
/// guess: of a token that it does not know, such as one of a worker with another results file, it says false. Processes
/// that have changed their limit on real-time CPU time, too, when they cleared their environment, or that belong to users
/// whom we may not meddle with, are not found. Elsewhere than on Linux nothing is.
pub fn end_leftovers(is_dead: impl Fn(&str) -> bool) -> Vec<Leftover> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen: HashSet<Pid> = ancestors().collect();
    let mut ended = Vec::new();
    let (mut quiet_at, mut quiet_looks) = (Instant::now() + QUIET, 0);
    // What forks and exits may slip through a look at all processes, and what forks as it is killed leaves another: so
    // we look again, at those that have come since.
    loop {
        let new: Vec<Pid> = proc::all().into_iter().filter(|pid| seen.insert(*pid)).collect();
        let killed: Vec<_> = new.iter().filter_map(|pid| kill(*pid, &is_dead)).collect();
        ended.extend(killed.iter().map(|(leftover, _)| *leftover));
        quiet_looks += 1;
        if !killed.is_empty() {
            (quiet_at, quiet_looks) = (Instant::now() + QUIET, 0);
        }
        let are_gone = killed.iter().all(|(_, process)| process.is_gone_by(deadline));
        let is_quiet = quiet_looks >= QUIET_LOOKS && Instant::now() >= quiet_at;
        if new.is_empty() || !are_gone || is_quiet || Instant::now() >= deadline {
            return ended;
        }
    }
}

/// This process and those above it. Somebody may have started it from what a handler left: a terminal, say.
fn ancestors() -> impl Iterator<Item = Pid> {
    iter::successors(Some(getpid()), |pid| Stat::of(*pid)?.parent)
}

/// Kills `pid` if it is a leftover.
fn kill(pid: Pid, is_dead: impl Fn(&str) -> bool) -> Option<(Leftover, Process)> {
    let process = Process::open(pid).ok()?;
    let (token, task_id) = origin(&process)?;
    let is_killed = !Stat::of(pid)?.is_zombie && is_dead(&token) && process.kill().is_ok();
    is_killed.then_some((Leftover { pid: pid.as_raw_pid(), task_id }, process))
}

/// The token of the worker whose handler has started a process, and the task, as its environment or else its limits say.
fn origin(process: &Process) -> Option<(String, Option<TaskId>)> {
    if let Some(mark) = process.variable(MARK) {
        let (token, task_id) = supervision::parse(&mark)?;
        return Some((token.to_owned(), Some(task_id)));
    }
    Some((supervision::token_in_limit(process.realtime_limit()?)?, None))
}
