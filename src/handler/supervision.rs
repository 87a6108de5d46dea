//! What handlers start outside of their process groups, and what would outlive them there.
//!
//! A process that loses its parent becomes a child of its nearest ancestor that adopts orphans. [`supervise`] makes us
//! one. So, when a handler has ended, all that is left of what it started is our orphans and what is below them; and
//! when no orphan of a handler is left, nothing of it is, however it detached itself. Which handler an orphan comes
//! from is told by a mark in its environment.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    DumpableBehavior, Pid, WaitId, WaitIdOptions, getpid, set_child_subreaper, set_dumpable_behavior, waitid,
};

use super::proc::{self, Process, Stat};
use crate::resources::is_shortage;
use crate::task::TaskId;

/// The pause before orphans are looked for again that could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The variable that marks what a handler starts: `<token>-<task's id>-<number of the run>`.
pub(super) const MARK: &str = "PRISMQ_TASK_MARK";

/// What a soft limit on real-time CPU time says that holds a token: in microseconds, longer than any machine has run.
const LIMIT_WITH_TOKEN: Range<u64> = 1 << 62..1 << 63;

/// To adopt orphans is a property of the process, as is whose children they are: hence a static.
static SUPERVISION: OnceLock<Supervision> = OnceLock::new();

struct Supervision {
    token: String,
    /// Whether every orphan comes from a handler. Not so where we replaced a program that had children (`other & exec
    /// prismq`), nor where we adopt those of a whole container, as process 1.
    only_handlers: bool,
    runs: AtomicU64,
    running: Mutex<Vec<Running>>,
}

/// One run of a handler.
struct Running {
    mark: String,
    /// The handler's own process; `None` while it is being started.
    leader: Option<Pid>,
}

/// Makes this process answer for what its handlers start: what leaves their process groups, into sessions of its own
/// or by forking twice, is found and ended when they end. Nor can anybody but root read this process's environment and
/// memory from now on; it leaves no core dump, and only root can trace it.
///
/// `token` names this process, for [`end_leftovers`](super::end_leftovers) in later ones, so it must be of no other
/// process, not even a former one. Only the first call counts. The program must then start children by handlers alone,
/// at least from its main thread: those it starts otherwise are taken for orphans of handlers.
///
/// The error is that the system lacks what it takes: Linux 5.3 with `/proc`. Elsewhere than on Linux nothing is done.
pub fn supervise(token: &str) -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Process::open(getpid())?;
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

/// What a mark says: the token of the worker's process, and the task.
pub(super) fn parse(mark: &str) -> Option<(&str, TaskId)> {
    let (rest, _run) = mark.rsplit_once('-')?;
    let (token, task) = rest.rsplit_once('-')?;
    Some((token, task.parse().ok()?))
}

/// The token of a mark as a soft limit on real-time CPU time, where it is a number of 62 bits in 16 hexadecimal digits.
/// Who clears the environment, as `env -i` and `sudo` do, keeps this one. It limits nothing.
pub(super) fn limit_with_token(mark: &str) -> Option<u64> {
    let (token, _) = parse(mark).filter(|(token, _)| token.len() == 16)?;
    let number = u64::from_str_radix(token, 16).ok()?;
    Some(LIMIT_WITH_TOKEN.start + number).filter(|limit| LIMIT_WITH_TOKEN.contains(limit))
}

/// The token in such a limit.
pub(super) fn token_in_limit(limit: u64) -> Option<String> {
    LIMIT_WITH_TOKEN.contains(&limit).then(|| format!("{:016x}", limit - LIMIT_WITH_TOKEN.start))
}

/// All that one run of a handler starts.
pub(super) struct Descendants {
    supervision: &'static Supervision,
    mark: String,
}

impl Descendants {
    /// What a handler that is about to be started for `task` will start; `None` where we do not supervise.
    pub(super) fn expect(task: TaskId) -> Option<Self> {
        let supervision = SUPERVISION.get()?;
        let run = supervision.runs.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{task}-{run}", supervision.token);
        supervision.running().push(Running { mark: mark.clone(), leader: None });
        Some(Self { supervision, mark })
    }

    /// The value of [`MARK`] that it gets.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// The handler was started as `leader`, our child.
    pub(super) fn started(&self, leader: Pid) {
        let mut running = self.supervision.running();
        if let Some(run) = running.iter_mut().find(|run| run.mark == self.mark) {
            run.leader = Some(leader);
        }
    }

    /// Reaps the orphans that have ended. Those of a handler that runs for hours would pile up otherwise.
    pub(super) fn reap(&self) {
        // Where they cannot be listed just now, the next call reaps them.
        let _ = living_orphans(&self.supervision.running());
    }

    /// Ends what is left when the handler has exited, and waits until it is gone, but not after `deadline`. Returns how
    /// many processes are left even so.
    ///
    /// What a process has started becomes our orphan as it dies, to be found by the next round; and when there are no
    /// orphans, there is nothing below them either.
    pub(super) fn end(&self, deadline: Instant) -> usize {
        loop {
            let Ok((dying, immune)) = self.kill() else {
                if Instant::now() >= deadline {
                    return 0;
                }
                thread::sleep(LOOK_AGAIN);
                continue;
            };
            if dying.is_empty() {
                return immune;
            }
            if !dying.iter().all(|process| process.is_gone_by(deadline)) || Instant::now() >= deadline {
                return immune + dying.len();
            }
        }
    }

    /// Kills the orphans that no other run goes on with. Returns what dies, and how many we may not kill. The error is that
    /// we have too few open files left to look at them.
    fn kill(&self) -> io::Result<(Vec<Process>, usize)> {
        // Orphans are only reaped under this lock, so that what is told of one is not told of another.
        let running = self.supervision.running();
        let (mut dying, mut immune) = (Vec::new(), 0);
        for (pid, stat) in living_orphans(&running)? {
            let orphan = match Process::open(pid) {
                Ok(orphan) => orphan,
                Err(error) if is_shortage(&error) => return Err(error),
                Err(_) => {
                    immune += 1;
                    continue;
                }
            };
            let is_anothers = self.is_anothers(&running, &orphan, &stat);
            // The environment of one that exits by itself is gone by now: then we cannot know, and need not.
            if !is_anothers && orphan.kill().is_err() {
                immune += 1;
            } else if !is_anothers || orphan.is_gone_by(Instant::now()) {
                dying.push(orphan);
            }
        }
        Ok((dying, immune))
    }

    /// Whether an orphan may come from another run, which goes on. One without our mark, since it cleared its
    /// environment or nobody may read it, comes from a run that started before it did.
    fn is_anothers(&self, running: &[Running], orphan: &Process, stat: &Stat) -> bool {
        let mut others = running.iter().filter(|run| run.mark != self.mark);
        if let Some(mark) = orphan.variable(MARK).filter(|mark| self.supervision.made(mark)) {
            return others.any(|run| run.mark == mark);
        }
        // One whose leader is gone is ending what is its own itself.
        let is_older = |leader| Stat::of(leader).is_some_and(|leader| leader.started <= stat.started);
        let may_be_older = |run: &Running| run.leader.is_none_or(is_older);
        let is_ours = self.supervision.only_handlers || self.supervision.has_limited(orphan);
        !is_ours || others.any(may_be_older)
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        self.supervision.running().retain(|run| run.mark != self.mark);
    }
}

impl Supervision {
    fn made(&self, mark: &str) -> bool {
        parse(mark).is_some_and(|(token, _)| token == self.token)
    }

    fn has_limited(&self, orphan: &Process) -> bool {
        orphan.realtime_limit().and_then(token_in_limit).is_some_and(|token| token == self.token)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock()
    }
}

/// Our orphans that live. The others are reaped, but never a child that somebody waits for: a handler's own process.
fn living_orphans(running: &[Running]) -> io::Result<Vec<(Pid, Stat)>> {
    // Any child may be the one that is being started.
    let may_reap = running.iter().all(|run| run.leader.is_some());
    let is_leader = |pid| running.iter().any(|run| run.leader == Some(pid));
    let mut ended = Vec::new();
    loop {
        let children = proc::children_of_main_thread()?;
        let orphans = children.into_iter().filter(|pid| !is_leader(*pid) && !ended.contains(pid));
        let orphans = orphans.filter_map(|pid| Some((pid, Stat::of(pid)?)));
        let is_zombie = |(pid, stat): &(Pid, Stat)| stat.is_zombie && (!may_reap || is_reaped(*pid));
        let (zombies, living): (Vec<_>, Vec<_>) = orphans.partition(is_zombie);
        if zombies.is_empty() {
            return Ok(living);
        }
        // Until a moment ago they may have had children, which are ours now.
        ended.extend(zombies.into_iter().map(|(pid, _)| pid));
    }
}

/// Reaps a child that has ended. A zombie has not, where only its first thread did.
fn is_reaped(pid: Pid) -> bool {
    let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    !matches!(ended, Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_a_token() {
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
