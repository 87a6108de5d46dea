//! The one table of what this process holds: tasks, their attempts, and how far each is between its claim and the fate of
//! its result.
//!
//! A task may be claimed here again before its result is settled. Until anything is reported, its claim has expired: the
//! run, or the result that is there, goes under the new claim, and nothing runs twice. Once a report is under way, the
//! task may as well have failed, been put back, and be claimed for its next attempt, all before this process has read the
//! answer. So the new claim waits for the fate of that report: if it arrived, the new attempt runs; if its claim was lost,
//! the result goes under the new claim.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::doubts::{Doubts, Earlier};
use crate::clock::Timestamp;
use crate::shutdown::{Stop, StopReason};
use crate::store::StoredResult;
use crate::task::{Claim, Task, TaskId, TaskResult};

/// So many repeated events are remembered. Beyond that something may be told twice.
const MOST_REPEATED: usize = 1000;

/// One handing out of a task.
pub(super) type Attempt = (TaskId, u32);

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// Its task is to be run.
    New,
    /// The run, or the result, of an earlier attempt goes under it.
    Continues,
    /// A report of an earlier attempt is under way: see [`InFlight::wait`].
    MustWait,
    /// What it waited for has not come in time.
    GivenUp,
    /// The same, since this process ends.
    Ending,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Its handler runs, or is about to.
    #[default]
    Running,
    /// Its result is stored, and nothing was sent.
    Stored,
    /// A report may have been sent.
    Reporting,
}

/// A claim that came while its task was in flight already.
struct NextClaim {
    attempt: u32,
    claimed_at: Timestamp,
    worker_id: String,
}

/// A task in flight.
#[derive(Default)]
struct Held {
    /// Runs and results of which the fate is not known. More than one only if earlier processes left them.
    unsettled: usize,
    phase: Phase,
    /// The latest claim, if nothing goes under it yet.
    next: Option<NextClaim>,
    /// The attempts that this process knows of. One that a look at the TaskManager has found stays, with the time: the
    /// answer to a claim that was made before may still come, and is about the same attempt.
    attempts: Vec<(u32, Option<Instant>)>,
}

impl Held {
    fn is_next(&self, claim: &Claim) -> bool {
        self.next.as_ref().is_some_and(|next| next.attempt == claim.task.attempt)
    }

    fn is_empty(&self) -> bool {
        self.unsettled == 0 && self.next.is_none() && self.attempts.is_empty()
    }

    fn begin(&mut self) {
        (self.unsettled, self.phase, self.next) = (1, Phase::Running, None);
    }

    /// Puts a result under the latest claim; false if it is already.
    fn renew(&mut self, result: &mut TaskResult) -> bool {
        // Of several results only one can count, and only the TaskManager knows which.
        let is_later = |next: &mut NextClaim| next.attempt > result.attempt;
        let Some(next) = self.next.take_if(|next| self.unsettled == 1 && is_later(next)) else { return false };
        (result.attempt, result.claimed_at, result.worker_id) = (next.attempt, next.claimed_at, next.worker_id);
        true
    }
}

/// What may happen to a task again and again, and is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Repeated {
    /// It is claimed while it is in flight.
    ClaimRenewed,
    /// It is of a type that nobody asked for.
    WrongType,
    /// The TaskManager refuses its report.
    ReportRefused,
}

#[derive(Default)]
struct State {
    tasks: HashMap<TaskId, Held>,
    repeated: HashSet<(TaskId, Repeated)>,
    /// What stops each task that runs, and why all of them are stopped.
    cancels: Vec<Arc<Stop>>,
    all_cancelled: Option<StopReason>,
    is_ending: bool,
}

/// The tasks in flight.
pub(super) struct InFlight {
    /// Tasks that this process may hold without knowing.
    pub(super) doubts: Doubts,
    state: Mutex<State>,
    changed: Condvar,
}

impl InFlight {
    /// Starts with the tasks whose results earlier processes left unreported: their reports may have arrived.
    pub(super) fn new(unreported: &[StoredResult], earlier: Earlier) -> Self {
        let mut state = State::default();
        for StoredResult { result, .. } in unreported {
            let held = state.tasks.entry(result.task_id).or_default();
            (held.unsettled, held.phase) = (held.unsettled + 1, Phase::Reporting);
        }
        Self { state: Mutex::new(state), changed: Condvar::new(), doubts: Doubts::new(earlier) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How many tasks run.
    pub(super) fn running(&self) -> usize {
        self.lock().tasks.values().filter(|held| held.unsettled > 0 && held.phase == Phase::Running).count()
    }

    /// Notes a claim, and says what becomes of it.
    pub(super) fn enter(&self, claim: &Claim) -> Entered {
        let mut state = self.lock();
        let held = state.tasks.entry(claim.task.id).or_default();
        if held.unsettled == 0 && held.next.is_none() {
            held.begin();
            return Entered::New;
        }
        let Claim { task, worker_id, claimed_at, .. } = claim;
        // One that comes late, after a later one, has expired.
        if held.next.as_ref().is_none_or(|next| next.attempt < task.attempt) {
            let (attempt, claimed_at, worker_id) = (task.attempt, *claimed_at, worker_id.clone());
            held.next = Some(NextClaim { attempt, claimed_at, worker_id });
            self.changed.notify_all();
        }
        if held.phase == Phase::Reporting { Entered::MustWait } else { Entered::Continues }
    }

    /// Waits until the fate of the reports that are under way is known, for as long as `patience` and this process last.
    pub(super) fn wait(&self, claim: &Claim, patience: Duration) -> Entered {
        let deadline = Instant::now().checked_add(patience);
        let mut state = self.lock();
        loop {
            let is_ending = state.is_ending;
            let held = state.tasks.get_mut(&claim.task.id).filter(|held| held.is_next(claim));
            let Some(held) = held else { return Entered::Continues };
            if held.unsettled == 0 {
                held.begin();
                return Entered::New;
            }
            if is_ending || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                held.next = None;
                return if is_ending { Entered::Ending } else { Entered::GivenUp };
            }
            match deadline {
                Some(deadline) => drop(self.changed.wait_until(&mut state, deadline)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// No claim waits any more: the process ends.
    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// Notes that the result of a task is stored.
    pub(super) fn stored(&self, id: TaskId) {
        if let Some(held) = self.lock().tasks.get_mut(&id).filter(|held| held.phase == Phase::Running) {
            held.phase = Phase::Stored;
        }
    }

    /// Notes that a result is reported from now on. If nothing of it may have been sent yet, and there is a later claim of
    /// its task, it is put under that; true if it is.
    pub(super) fn report(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let held = state.tasks.get_mut(&result.task_id).filter(|held| held.phase != Phase::Reporting);
        let Some(held) = held else { return false };
        held.phase = Phase::Reporting;
        held.renew(result)
    }

    /// Puts a result of which nothing was sent, or whose claim was lost, under the latest claim of its task; false if there
    /// is none. If a failure was reported and more than one attempt has begun since, nothing tells whether it had arrived:
    /// then the latest is run.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let is_known = |held: &Held| {
            let next = held.next.as_ref().map(|next| next.attempt);
            held.phase != Phase::Reporting || result.outcome.failure.is_none() || next == Some(result.attempt + 1)
        };
        let held = state.tasks.get_mut(&result.task_id).filter(|held| is_known(held));
        let renewed = held.is_some_and(|held| held.renew(result));
        if renewed {
            self.changed.notify_all();
        }
        renewed
    }

    /// Lets go of a run or a result whose fate is known.
    pub(super) fn leave(&self, id: TaskId) {
        let mut state = self.lock();
        let Some(held) = state.tasks.get_mut(&id) else { return };
        held.unsettled = held.unsettled.saturating_sub(1);
        if held.is_empty() {
            state.tasks.remove(&id);
        }
        self.changed.notify_all();
    }
}

/// The attempts that this process knows of.
impl InFlight {
    /// Admits an attempt that a claim, made at `asked_at`, was answered with. False if a look was faster.
    pub(super) fn admit(&self, task: &Task, asked_at: Instant) -> bool {
        let mut state = self.lock();
        let held = state.tasks.entry(task.id).or_default();
        let known = held.attempts.iter_mut().find(|(attempt, _)| *attempt == task.attempt);
        let Some((_, found_at)) = known else {
            held.attempts.push((task.attempt, None));
            return true;
        };
        // A later call may be given the same attempt again only if somebody has put the task back.
        let is_new = found_at.is_none_or(|found_at| found_at < asked_at);
        if is_new {
            *found_at = None;
        }
        is_new
    }

    /// Admits an attempt that a look has found; false if it is known.
    pub(super) fn admit_found(&self, (id, attempt): Attempt) -> bool {
        let mut state = self.lock();
        let held = state.tasks.entry(id).or_default();
        let is_new = held.attempts.iter().all(|(known, _)| *known != attempt);
        if is_new {
            held.attempts.push((attempt, Some(Instant::now())));
        }
        is_new
    }

    /// Forgets an attempt that a look has found and that is not to be worked after all.
    pub(super) fn forget(&self, attempt: Attempt) {
        self.drop_attempt(attempt, |_| true);
    }

    /// Lets go of an attempt whose work has ended.
    pub(super) fn release(&self, attempt: Attempt) {
        self.drop_attempt(attempt, |found_at| found_at.is_none());
    }

    /// Lets go of an attempt whose claim seems to have expired; a look is to find whether it has.
    pub(super) fn give_up(&self, attempt: Attempt) {
        self.forget(attempt);
        self.doubts.add();
    }

    fn drop_attempt(&self, (id, attempt): Attempt, goes: impl Fn(Option<Instant>) -> bool) {
        let mut state = self.lock();
        let Some(held) = state.tasks.get_mut(&id) else { return };
        held.attempts.retain(|(known, found_at)| *known != attempt || !goes(*found_at));
        if held.is_empty() {
            state.tasks.remove(&id);
        }
    }
}

/// What stops the tasks that run, and what was told of tasks.
impl InFlight {
    /// What stops a task that starts to run; raised at once if all tasks are being stopped.
    pub(super) fn cancel_token(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop::new(None));
        let mut state = self.lock();
        stop.raise(state.all_cancelled);
        state.cancels.push(Arc::clone(&stop));
        stop
    }

    /// Forgets what stops a task that has ended.
    pub(super) fn drop_token(&self, stop: &Arc<Stop>) {
        self.lock().cancels.retain(|other| !Arc::ptr_eq(other, stop));
    }

    /// Stops every task that runs, and every one that still starts.
    pub(super) fn cancel_all(&self, reason: StopReason) {
        let running = {
            let mut state = self.lock();
            state.all_cancelled = state.all_cancelled.max(Some(reason));
            state.cancels.clone()
        };
        for stop in running {
            stop.raise(Some(reason));
        }
    }

    /// Whether that has been told of the task. From now on it has.
    pub(super) fn is_repeated(&self, id: TaskId, event: Repeated) -> bool {
        let repeated = &mut self.lock().repeated;
        if repeated.len() >= MOST_REPEATED {
            repeated.clear();
        }
        !repeated.insert((id, event))
    }

    /// The task is done: what may happen to it later is told again.
    pub(super) fn forget_repeated(&self, id: TaskId) {
        self.lock().repeated.retain(|(told, _)| *told != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_until_the_task_is_done() {
        let (table, task) = (InFlight::new(&[], Earlier::None), TaskId(1));
        assert!(!table.is_repeated(task, Repeated::WrongType) && !table.is_repeated(task, Repeated::ClaimRenewed));
        assert!(table.is_repeated(task, Repeated::WrongType) && !table.is_repeated(TaskId(2), Repeated::WrongType));
        table.forget_repeated(task);
        assert!(!table.is_repeated(task, Repeated::WrongType) && table.is_repeated(TaskId(2), Repeated::WrongType));
        (0..10 * MOST_REPEATED as u64).for_each(|id| _ = table.is_repeated(TaskId(id), Repeated::WrongType));
        assert!(table.lock().repeated.len() <= MOST_REPEATED);
    }
}
