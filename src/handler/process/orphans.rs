//! Finds and kills processes that handlers start outside of their process groups, and those of dead workers.
//!
//! A process that loses its parent becomes a child of its nearest ancestor that is a subreaper. [`supervise`] makes us
//! one. So, when a handler has exited, everything that it started and that still runs is our child or a descendant of
//! one, however it detached itself. A mark in the environment tells which handler an orphan comes from.

use std::collections::HashSet;
use std::io;
use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{
    DumpableBehavior, Pid, WaitId, WaitIdOptions, getpid, set_child_subreaper, set_dumpable_behavior, waitid,
};

use super::Left;
use super::proc::{self, PidHandle, ProcStat};
use crate::resources::is_shortage;
use crate::task::TaskId;

/// Pause before orphans are listed again if that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long killed orphans may take to exit.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The search ends if no orphan was found for this long and in this many scans. On a busy machine new processes keep
/// appearing, and a single scan may take as long.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_SCANS: u32 = 10;

/// The variable that marks a handler's processes: `<token>-<task id>-<number of the run>`.
pub(super) const MARK: &str = "PRISMQ_TASK_MARK";

/// Soft limits on real-time CPU time that encode a token. In microseconds, they are too long to ever be reached.
const LIMIT_WITH_TOKEN: Range<u64> = 1 << 62..1 << 63;

/// A static because adopting orphans is a property of the process.
static SUPERVISION: OnceLock<Supervision> = OnceLock::new();

struct Supervision {
    token: String,
    /// Whether every orphan comes from a handler. False if we replaced a program that had children (`other & exec
    /// prismq`), or adopt the orphans of a whole container as process 1.
    only_handlers: bool,
    runs: AtomicU64,
    running: Mutex<Vec<ActiveRun>>,
}

/// A handler's run that has not ended.
struct ActiveRun {
    mark: String,
    /// The PID of the handler's process; 0 before it exists. Written by the kernel.
    leader: Arc<AtomicI32>,
}

impl ActiveRun {
    fn leader(&self) -> Option<Pid> {
        Pid::from_raw(self.leader.load(Ordering::Acquire))
    }
}

/// Makes this process kill everything that its handlers start when they end, including processes that leave the group
/// by `setsid` or by forking twice. From then on, only root can read this process's environment and memory or trace it,
/// and it leaves no core dump.
///
/// `token` identifies this process to [`kill_orphans`] in later processes, so it must never be
/// used twice. Only the first call counts. Afterwards the main thread must start children only through handlers:
/// others would be taken for a handler's orphans.
///
/// Fails if the system lacks Linux 5.3 with `/proc`. On systems other than Linux it does nothing.
pub fn supervise(token: &str) -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    PidHandle::open(getpid())?;
    let only_handlers = !getpid().is_init() && proc::children_of_main_thread()?.is_empty();
    set_child_subreaper(Some(getpid()))?;
    SUPERVISION.get_or_init(|| Supervision {
        token: token.to_owned(),
        only_handlers,
        runs: AtomicU64::new(1),
        running: Mutex::default(),
    });
    Ok(())
}

/// Parses a mark into the token of the worker's process and the task.
fn parse_mark(mark: &str) -> Option<(&str, TaskId)> {
    let (rest, _run) = mark.rsplit_once('-')?;
    let (token, task) = rest.rsplit_once('-')?;
    Some((token, task.parse().ok()?))
}

/// Encodes the token of a mark as a soft limit on real-time CPU time, if it is a 62-bit number in 16 hexadecimal digits.
/// `env -i` and `sudo` clear the environment but keep this limit, which is too high to have an effect.
pub(super) fn limit_with_token(mark: &str) -> Option<u64> {
    let (token, _) = parse_mark(mark).filter(|(token, _)| token.len() == 16)?;
    let number = u64::from_str_radix(token, 16).ok()?;
    Some(LIMIT_WITH_TOKEN.start + number).filter(|limit| LIMIT_WITH_TOKEN.contains(limit))
}

/// Decodes the token in such a limit.
fn token_in_limit(limit: u64) -> Option<String> {
    LIMIT_WITH_TOKEN.contains(&limit).then(|| format!("{:016x}", limit - LIMIT_WITH_TOKEN.start))
}

/// Everything that one run of a handler starts.
pub(super) struct Descendants {
    supervision: &'static Supervision,
    mark: String,
    leader: Arc<AtomicI32>,
}

impl Descendants {
    /// Registers a handler that is about to be started for `task`. `None` if [`supervise`] was not called.
    pub(super) fn register(task: TaskId) -> Option<Self> {
        let supervision = SUPERVISION.get()?;
        let run = supervision.runs.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{task}-{run}", supervision.token);
        let leader = Arc::default();
        supervision.running().push(ActiveRun { mark: mark.clone(), leader: Arc::clone(&leader) });
        Some(Self { supervision, mark, leader })
    }

    /// Returns the value of [`MARK`] for the handler.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// The PID of the handler's process, written when it is started; 0 before.
    pub(super) fn leader(&self) -> &AtomicI32 {
        &self.leader
    }

    /// Reaps orphans that have exited. Those of a handler that runs for hours would pile up otherwise.
    pub(super) fn reap(&self) {
        // If this fails, the next call reaps them.
        let _ = reap_and_list_orphans(&self.supervision.running());
    }

    /// Kills what is left after the handler has exited, and waits for it until `deadline`. Returns how many processes are
    /// still alive.
    ///
    /// When an orphan dies, its children become our orphans and are found in the next iteration; no orphans means no
    /// descendants. Processes that fork and exit may keep it searching, so other handlers get the lock in between.
    pub(super) fn end(&self, deadline: Instant) -> Left {
        let mut known_zombies = HashSet::new();
        loop {
            let Ok(Killed { dying, immune, is_other_left, zombies }) = self.kill() else {
                if Instant::now() >= deadline {
                    return Left { alive: 0, may_be_more: true };
                }
                thread::sleep(RETRY_PAUSE);
                continue;
            };
            // A zombie's children may have become ours after the orphans were listed.
            let mut has_new_zombies = false;
            for zombie in zombies {
                has_new_zombies |= known_zombies.insert(zombie);
            }
            if dying.is_empty() && !has_new_zombies {
                return Left { alive: immune, may_be_more: is_other_left };
            }
            if !dying.iter().all(|process| process.is_gone_by(deadline)) || Instant::now() >= deadline {
                return Left { alive: immune + dying.len(), may_be_more: true };
            }
        }
    }

    /// Kills the orphans of this run that live now. Fails if no more files can be opened.
    fn kill(&self) -> io::Result<Killed> {
        // Orphans are only reaped under this lock, so that no PID is reused meanwhile.
        let running = self.supervision.running();
        let Orphans { living, zombies } = reap_and_list_orphans(&running)?;
        let mut killed = Killed { dying: Vec::new(), immune: 0, is_other_left: false, zombies };
        for (pid, stat) in living {
            let orphan = match PidHandle::open(pid) {
                Ok(orphan) => orphan,
                Err(error) if is_shortage(&error) => return Err(error),
                Err(_) => {
                    killed.immune += 1;
                    continue;
                }
            };
            // One that has just exited has lost its mark, and may seem to belong to another run. Its children may be ours,
            // so it counts as killed: the next search finds them.
            let is_killed = if self.belongs_to_another_run(&running, &orphan, &stat) {
                orphan.is_gone_by(Instant::now())
            } else if orphan.kill().is_ok() {
                true
            } else {
                killed.immune += 1;
                false
            };
            if is_killed {
                killed.dying.push(orphan);
            } else {
                killed.is_other_left = true;
            }
        }
        Ok(killed)
    }

    /// Whether an orphan may belong to another active run. One without a readable mark belongs to a run that started
    /// before it did.
    fn belongs_to_another_run(&self, running: &[ActiveRun], orphan: &PidHandle, stat: &ProcStat) -> bool {
        let mut others = running.iter().filter(|run| run.mark != self.mark);
        if let Some(mark) = orphan.variable(MARK).filter(|mark| self.supervision.has_own_token(mark)) {
            return others.any(|run| run.mark == mark);
        }
        // A run whose leader has exited kills its own orphans.
        let is_older = |leader| ProcStat::of(leader).is_some_and(|leader| leader.started <= stat.started);
        let may_own = |run: &ActiveRun| run.leader().is_none_or(is_older);
        let is_ours = self.supervision.only_handlers || self.supervision.has_own_limit(orphan);
        !is_ours || others.any(may_own)
    }
}

/// Processes that this process has adopted, of all runs.
struct Orphans {
    living: Vec<(Pid, ProcStat)>,
    zombies: Vec<Zombie>,
}

/// What [`Descendants::kill`] found.
struct Killed {
    dying: Vec<PidHandle>,
    /// How many may not be killed.
    immune: usize,
    /// Whether there are some that may belong to another run.
    is_other_left: bool,
    /// Orphans of any run that had exited.
    zombies: Vec<Zombie>,
}

/// The PID of a process that has exited, and when it started.
type Zombie = (Pid, u64);

impl Drop for Descendants {
    fn drop(&mut self) {
        self.supervision.running().retain(|run| run.mark != self.mark);
    }
}

impl Supervision {
    fn has_own_token(&self, mark: &str) -> bool {
        parse_mark(mark).is_some_and(|(token, _)| token == self.token)
    }

    fn has_own_limit(&self, orphan: &PidHandle) -> bool {
        orphan.realtime_limit().and_then(token_in_limit).is_some_and(|token| token == self.token)
    }

    fn running(&self) -> MutexGuard<'_, Vec<ActiveRun>> {
        self.running.lock()
    }
}

/// Returns our living orphans, and those that have exited, which it reaps. A handler's own process, which is waited for,
/// is neither.
fn reap_and_list_orphans(running: &[ActiveRun]) -> io::Result<Orphans> {
    // Any child may be a handler that is being started.
    let children = proc::children_of_main_thread()?;
    let leaders: Vec<Option<Pid>> = running.iter().map(ActiveRun::leader).collect();
    let may_reap = !leaders.contains(&None);
    let orphans = children.into_iter().filter(|pid| !leaders.contains(&Some(*pid)));
    let orphans = orphans.filter_map(|pid| Some((pid, ProcStat::of(pid)?)));
    let (zombies, living): (Vec<_>, Vec<_>) =
        orphans.partition(|(pid, stat)| stat.is_zombie && (!may_reap || is_reaped(*pid)));
    Ok(Orphans { living, zombies: zombies.into_iter().map(|(pid, stat)| (pid, stat.started)).collect() })
}

/// Reaps a child that has exited. A zombie whose other threads still run has not.
fn is_reaped(pid: Pid) -> bool {
    let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    !matches!(ended, Ok(None))
}

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
/// `is_dead` returns whether the process that called [`supervise`] with this token is dead. It must
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
        let killed: Vec<_> = new.iter().filter_map(|pid| kill_if_orphan(*pid, &is_dead)).collect();
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
    iter::successors(Some(getpid()), |pid| ProcStat::of(*pid)?.parent)
}

/// Kills `pid` if it is an orphan.
fn kill_if_orphan(pid: Pid, is_dead: impl Fn(&str) -> bool) -> Option<(Orphan, PidHandle)> {
    let process = PidHandle::open(pid).ok()?;
    let (token, task_id) = origin(&process)?;
    let is_killed = !ProcStat::of(pid)?.is_zombie && is_dead(&token) && process.kill().is_ok();
    is_killed.then_some((Orphan { pid: pid.as_raw_pid(), task_id }, process))
}

/// Returns the worker's token and the task of a process that a handler started: from its environment, else its limits.
fn origin(process: &PidHandle) -> Option<(String, Option<TaskId>)> {
    if let Some(mark) = process.variable(MARK) {
        let (token, task_id) = parse_mark(&mark)?;
        return Some((token.to_owned(), Some(task_id)));
    }
    Some((token_in_limit(process.realtime_limit()?)?, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_encodes_a_token() {
        for token in ["0000000000000000", "00000000000000ff", "3fffffffffffffff"] {
            let limit = limit_with_token(&format!("{token}-12-1"));
            assert_eq!(limit.and_then(token_in_limit).as_deref(), Some(token));
        }
        for token in ["", "ff", "4000000000000000", "killed-1-00000012"] {
            assert_eq!(limit_with_token(&format!("{token}-12-1")), None, "{token}");
        }
        for limit in [0, 200_000, (1 << 62) - 1, 1 << 63, u64::MAX] {
            assert_eq!(token_in_limit(limit), None, "{limit}");
        }
    }
}
