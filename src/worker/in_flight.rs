//! The tasks that this process holds, each from its claim until the fate of its result is known.
//!
//! A task may be claimed here again before that. Until anything is reported, its claim has expired: the run, or the
//! result that is there, goes under the new claim, and nothing runs twice. Once a report is under way, the task may as
//! well have failed, been put back, and be claimed for its next attempt, all before this process has read the answer.
//! So the new claim waits for the fate of that report: if it arrived, the new attempt runs; if its claim was lost, the
//! result goes under the new claim.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::store::StoredResult;
use crate::task::{Claim, TaskId, TaskResult};

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

/// A claim that came while its task was in flight already.
struct NextClaim {
    attempt: u32,
    claimed_at: Timestamp,
    worker_id: String,
}

/// A task in flight.
#[derive(Default)]
struct Held {
    /// Runs and results of which the fate is not known. More than one only where earlier processes left them.
    unsettled: usize,
    /// A report may have been sent.
    is_reporting: bool,
    /// The latest claim, if nothing goes under it yet.
    next: Option<NextClaim>,
}

impl Held {
    fn is_next(&self, claim: &Claim) -> bool {
        self.next.as_ref().is_some_and(|next| next.attempt == claim.task.attempt)
    }

    /// Puts a result under the latest claim; false where it is already.
    fn renew(&mut self, result: &mut TaskResult) -> bool {
        // Of several results only one can count, and only the TaskManager knows which.
        let is_later = |next: &mut NextClaim| next.attempt > result.attempt;
        let Some(next) = self.next.take_if(|next| self.unsettled == 1 && is_later(next)) else { return false };
        (result.attempt, result.claimed_at, result.worker_id) = (next.attempt, next.claimed_at, next.worker_id);
        true
    }
}

#[derive(Default)]
struct State {
    tasks: HashMap<TaskId, Held>,
    is_ending: bool,
}

/// The tasks in flight.
pub(super) struct InFlight {
    state: Mutex<State>,
    changed: Condvar,
}

impl InFlight {
    /// Starts with the tasks whose results earlier processes left unreported. Their reports may have arrived.
    pub(super) fn with(unreported: &[StoredResult]) -> Self {
        let mut state = State::default();
        for StoredResult { result, .. } in unreported {
            let held = state.tasks.entry(result.task_id).or_default();
            (held.unsettled, held.is_reporting) = (held.unsettled + 1, true);
        }
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes a claim, and says what becomes of it.
    pub(super) fn enter(&self, claim: &Claim) -> Entered {
        let mut state = self.lock();
        let held = state.tasks.entry(claim.task.id).or_default();
        if held.unsettled == 0 && held.next.is_none() {
            held.unsettled = 1;
            return Entered::New;
        }
        let Claim { task, worker_id, claimed_at, .. } = claim;
        // One that comes late, after a later one, has expired.
        if held.next.as_ref().is_none_or(|next| next.attempt < task.attempt) {
            let (attempt, claimed_at, worker_id) = (task.attempt, *claimed_at, worker_id.clone());
            held.next = Some(NextClaim { attempt, claimed_at, worker_id });
            self.changed.notify_all();
        }
        if held.is_reporting { Entered::MustWait } else { Entered::Continues }
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
                *held = Held { unsettled: 1, ..Held::default() };
                return Entered::New;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if is_ending || left.is_zero() {
                held.next = None;
                return if is_ending { Entered::Ending } else { Entered::GivenUp };
            }
            self.changed.wait_for(&mut state, left);
        }
    }

    /// No claim waits any more: the process ends.
    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// Notes that a result is reported from now on. Where nothing of it may have been sent yet, and there is a later claim
    /// of its task, it is put under that; true where it is.
    pub(super) fn report(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let Some(held) = state.tasks.get_mut(&result.task_id).filter(|held| !held.is_reporting) else { return false };
        held.is_reporting = true;
        held.renew(result)
    }

    /// Puts a result of which nothing was sent, or whose claim was lost, under the latest claim of its task; false where
    /// there is none. If a failure was reported and more than one attempt has begun since, nothing tells whether it had
    /// arrived: then the latest is run.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let is_known = |held: &Held| {
            let next = held.next.as_ref().map(|next| next.attempt);
            !held.is_reporting || result.outcome.failure.is_none() || next == Some(result.attempt + 1)
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
        if held.unsettled == 0 && held.next.is_none() {
            state.tasks.remove(&id);
        }
        self.changed.notify_all();
    }
}
