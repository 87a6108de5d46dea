//! The table of tasks in flight: each task, its attempts, and its phase between claim and settled report.
//!
//! A task may be claimed here again before its result is settled. As long as nothing was reported, its old claim must
//! have expired: the running attempt or its result continues under the new claim, and nothing runs twice. Once a report
//! is being sent, the task may instead have failed, returned to the queue and been claimed for its next attempt, all
//! before this process has read the answer. So the new claim waits for the outcome of that report: if it arrived, the
//! new attempt runs; if its claim was lost, the result moves to the new claim.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::lost_claims::{EarlierWorkers, LostClaims};
use crate::clock::Timestamp;
use crate::shutdown::{CancelReason, CancelToken};
use crate::store::StoredResult;
use crate::task::{Claim, Task, TaskId, TaskResult};

/// Number of repeated events to remember. Beyond it, an event may be emitted twice.
const MOST_REPEATED: usize = 1000;

/// A task and the number of its attempt.
pub(super) type AttemptId = (TaskId, u32);

/// What to do with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// Run its task.
    New,
    /// An earlier attempt that is in flight here continues under it.
    Continues,
    /// A report of an earlier attempt is being sent: see [`InFlight::wait`].
    MustWait,
    /// The earlier report was not settled in time.
    GivenUp,
    /// The earlier report was not settled before this process exits.
    Ending,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum TaskPhase {
    /// Its handler is running or about to run.
    #[default]
    Running,
    /// Its result is stored; nothing was sent.
    Stored,
    /// A report may have been sent.
    Reporting,
}

/// A claim that arrived while its task was already in flight.
struct NextClaim {
    attempt: u32,
    claimed_at: Timestamp,
    worker_id: String,
}

#[derive(Default)]
struct TaskEntry {
    /// Attempts that are not settled. More than one only if earlier processes left results.
    unsettled: usize,
    phase: TaskPhase,
    /// The latest claim, if no attempt continues under it yet.
    next: Option<NextClaim>,
    /// Attempts known to this process. One found by a search keeps its time: the answer to an earlier claim may still
    /// arrive, and is about the same attempt.
    attempts: Vec<(u32, Option<Instant>)>,
}

impl TaskEntry {
    fn is_next(&self, claim: &Claim) -> bool {
        self.next.as_ref().is_some_and(|next| next.attempt == claim.task.attempt)
    }

    fn is_empty(&self) -> bool {
        self.unsettled == 0 && self.next.is_none() && self.attempts.is_empty()
    }

    fn begin(&mut self) {
        (self.unsettled, self.phase, self.next) = (1, TaskPhase::Running, None);
    }

    /// Moves a result to the latest claim; false if it is there already.
    fn renew(&mut self, result: &mut TaskResult) -> bool {
        // Only one of several results can count, and only the TaskManager knows which.
        let is_later = |next: &mut NextClaim| next.attempt > result.attempt;
        let Some(next) = self.next.take_if(|next| self.unsettled == 1 && is_later(next)) else { return false };
        (result.attempt, result.claimed_at, result.worker_id) = (next.attempt, next.claimed_at, next.worker_id);
        true
    }
}

/// Events that may repeat for a task, and are logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Repeated {
    ClaimRenewed,
    WrongType,
    ReportRefused,
}

/// A claimed task whose result is not stored yet, or a wait.
struct Cancellable {
    /// The worker ID of its claim, and its task.
    claim: Option<(String, TaskId)>,
    token: Arc<CancelToken>,
    /// Its run has ended: the claim is kept for renewals only.
    has_run: bool,
}

#[derive(Default)]
struct InFlightState {
    tasks: HashMap<TaskId, TaskEntry>,
    repeated: HashSet<(TaskId, Repeated)>,
    /// What cancels each claimed task and each wait, and the reason if all were cancelled.
    cancels: Vec<Cancellable>,
    all_cancelled: Option<CancelReason>,
    is_ending: bool,
}

impl InFlightState {
    /// Forgets the claim under which a task has run: its result is stored, or there will be none. A later claim may wait.
    fn forget_claim(&mut self, id: TaskId) {
        self.cancels.retain(|it| !it.has_run || it.claim.as_ref().is_none_or(|(_, of)| *of != id));
    }
}

/// The tasks in flight. These calls remove a task from it, once all that is known of the task is removed:
///
/// | Call | Removes | When, and who calls it |
/// |---|---|---|
/// | [`InFlight::settle`] | an unsettled result | its report was answered ([`Reporter`]); its claim or its result could not be written ([`Slots`]) |
/// | [`InFlight::end_attempt`] | an attempt, unless a search found it | its first report is done ([`Reporter`]); it was not run, or not stored ([`Slots`]) |
/// | [`InFlight::abandon`] | an attempt, however it became known | it is not worked here: the wait for its earlier report took too long ([`Slots`]), it expired before its run or could not be recovered ([`Recovery`]) |
///
/// [`Recovery`]: super::recovery::Recovery
/// [`Reporter`]: super::reporter::Reporter
/// [`Slots`]: super::slots::Slots
pub(super) struct InFlight {
    /// Claims that this process may hold without knowing.
    pub(super) lost_claims: LostClaims,
    state: Mutex<InFlightState>,
    changed: Condvar,
}

impl InFlight {
    /// Starts with the tasks of earlier processes' pending reports, which may have arrived.
    pub(super) fn new(unreported: &[StoredResult], earlier: EarlierWorkers) -> Self {
        let mut state = InFlightState::default();
        for StoredResult { result, .. } in unreported {
            let entry = state.tasks.entry(result.task_id).or_default();
            (entry.unsettled, entry.phase) = (entry.unsettled + 1, TaskPhase::Reporting);
        }
        Self { state: Mutex::new(state), changed: Condvar::new(), lost_claims: LostClaims::new(earlier) }
    }

    fn lock(&self) -> MutexGuard<'_, InFlightState> {
        self.state.lock()
    }

    /// Whether this process holds no task.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().tasks.is_empty()
    }

    /// Returns the number of running tasks.
    pub(super) fn running(&self) -> usize {
        self.lock().tasks.values().filter(|entry| entry.unsettled > 0 && entry.phase == TaskPhase::Running).count()
    }

    /// Enters a claim, and returns what to do with it.
    pub(super) fn enter(&self, claim: &Claim) -> Entered {
        let mut state = self.lock();
        let entry = state.tasks.entry(claim.task.id).or_default();
        if entry.unsettled == 0 && entry.next.is_none() {
            entry.begin();
            return Entered::New;
        }
        let Claim { task, worker_id, claimed_at, .. } = claim;
        // A claim with an earlier attempt number has expired: ignore it.
        if entry.next.as_ref().is_none_or(|next| next.attempt < task.attempt) {
            let (attempt, claimed_at, worker_id) = (task.attempt, *claimed_at, worker_id.clone());
            entry.next = Some(NextClaim { attempt, claimed_at, worker_id });
            self.changed.notify_all();
        }
        if entry.phase == TaskPhase::Reporting { Entered::MustWait } else { Entered::Continues }
    }

    /// Waits until the task's earlier reports are settled, at most for `limit` and until this process exits.
    pub(super) fn wait(&self, claim: &Claim, limit: Duration) -> Entered {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        loop {
            let is_ending = state.is_ending;
            let entry = state.tasks.get_mut(&claim.task.id).filter(|entry| entry.is_next(claim));
            let Some(entry) = entry else { return Entered::Continues };
            if entry.unsettled == 0 {
                entry.begin();
                return Entered::New;
            }
            if is_ending || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                entry.next = None;
                return if is_ending { Entered::Ending } else { Entered::GivenUp };
            }
            match deadline {
                Some(deadline) => drop(self.changed.wait_until(&mut state, deadline)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Ends all waits: the process exits.
    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// Marks a task's result as stored.
    pub(super) fn stored(&self, id: TaskId) {
        let mut state = self.lock();
        state.forget_claim(id);
        if let Some(entry) = state.tasks.get_mut(&id).filter(|entry| entry.phase == TaskPhase::Running) {
            entry.phase = TaskPhase::Stored;
        }
    }

    /// Marks a task as being reported. If nothing of the result may have been sent yet and there is a later claim of
    /// the task, moves the result to that claim; true if it did.
    pub(super) fn begin_report(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let entry = state.tasks.get_mut(&result.task_id).filter(|entry| entry.phase != TaskPhase::Reporting);
        let Some(entry) = entry else { return false };
        entry.phase = TaskPhase::Reporting;
        entry.renew(result)
    }

    /// Moves a result that was not sent, or whose claim was lost, to the task's latest claim; false if there is none.
    /// If a failure was reported and more than one attempt has begun since, nobody can tell whether it arrived: then
    /// the latest attempt runs.
    pub(super) fn renew(&self, result: &mut TaskResult) -> bool {
        let mut state = self.lock();
        let is_known = |entry: &TaskEntry| {
            let next = entry.next.as_ref().map(|next| next.attempt);
            entry.phase != TaskPhase::Reporting || result.outcome.failure.is_none() || next == Some(result.attempt + 1)
        };
        let entry = state.tasks.get_mut(&result.task_id).filter(|entry| is_known(entry));
        let renewed = entry.is_some_and(|entry| entry.renew(result));
        if renewed {
            self.changed.notify_all();
        }
        renewed
    }

    /// Removes an attempt whose result is settled or refused.
    pub(super) fn settle(&self, id: TaskId) {
        let mut state = self.lock();
        state.forget_claim(id);
        let Some(entry) = state.tasks.get_mut(&id) else { return };
        entry.unsettled = entry.unsettled.saturating_sub(1);
        if entry.is_empty() {
            state.tasks.remove(&id);
        }
        self.changed.notify_all();
    }
}

/// The attempts known to this process.
impl InFlight {
    /// Registers the attempt returned by a claim made at `asked_at`. False if a search found it first.
    pub(super) fn register(&self, task: &Task, asked_at: Instant) -> bool {
        let mut state = self.lock();
        let entry = state.tasks.entry(task.id).or_default();
        let known = entry.attempts.iter_mut().find(|(attempt, _)| *attempt == task.attempt);
        let Some((_, found_at)) = known else {
            entry.attempts.push((task.attempt, None));
            return true;
        };
        // A later call gets the same attempt only if somebody has put the task back.
        let is_new = found_at.is_none_or(|found_at| found_at < asked_at);
        if is_new {
            *found_at = None;
        }
        is_new
    }

    /// Registers an attempt found by a search; false if it is known.
    pub(super) fn register_found(&self, (id, attempt): AttemptId) -> bool {
        let mut state = self.lock();
        let entry = state.tasks.entry(id).or_default();
        let is_new = entry.attempts.iter().all(|(known, _)| *known != attempt);
        if is_new {
            entry.attempts.push((attempt, Some(Instant::now())));
        }
        is_new
    }

    /// Removes an attempt that has ended. One found by a search stays: the answer to an earlier claim may still arrive.
    pub(super) fn end_attempt(&self, attempt: AttemptId) {
        self.drop_attempt(attempt, |found_at| found_at.is_none());
    }

    /// Removes an attempt that is not worked after all.
    pub(super) fn abandon(&self, attempt: AttemptId) {
        self.drop_attempt(attempt, |_| true);
    }

    fn drop_attempt(&self, (id, attempt): AttemptId, goes: impl Fn(Option<Instant>) -> bool) {
        let mut state = self.lock();
        let Some(entry) = state.tasks.get_mut(&id) else { return };
        entry.attempts.retain(|(known, found_at)| *known != attempt || !goes(*found_at));
        if entry.is_empty() {
            state.tasks.remove(&id);
        }
    }
}

/// Cancel tokens, and which events were emitted.
impl InFlight {
    /// Returns a cancel token, of a claimed task if `claim` is one; already raised if all tasks were cancelled.
    pub(super) fn cancel_token(&self, claim: Option<&Claim>) -> Arc<CancelToken> {
        let token = Arc::new(CancelToken::new(None));
        let mut state = self.lock();
        token.raise(state.all_cancelled);
        let claim = claim.map(|claim| (claim.worker_id.clone(), claim.task.id));
        state.cancels.push(Cancellable { claim, token: Arc::clone(&token), has_run: false });
        token
    }

    /// Notes that a task has run: nothing is left to cancel. Its claim is kept until the result is stored.
    pub(super) fn end_run(&self, token: &Arc<CancelToken>) {
        if let Some(ended) = self.lock().cancels.iter_mut().find(|it| Arc::ptr_eq(&it.token, token)) {
            (ended.has_run, ended.token) = (true, Arc::new(CancelToken::new(None)));
        }
    }

    /// Forgets the cancel token of a wait that has ended, or of a task that must not run.
    pub(super) fn drop_token(&self, token: &Arc<CancelToken>) {
        self.lock().cancels.retain(|other| !Arc::ptr_eq(&other.token, token));
    }

    /// Returns the claims of tasks whose results are not stored yet: their worker ID, their task, and what cancels it.
    /// A task that continues under a later claim has that one's worker ID: the first may be a dead worker's.
    pub(super) fn unstored_claims(&self) -> Vec<(String, TaskId, Arc<CancelToken>)> {
        let state = self.lock();
        let with_claim = |it: &Cancellable| {
            let (worker_id, id) = it.claim.as_ref()?;
            let next = state.tasks.get(id).and_then(|entry| entry.next.as_ref());
            let worker_id = next.map_or(worker_id, |next| &next.worker_id);
            Some((worker_id.clone(), *id, Arc::clone(&it.token)))
        };
        state.cancels.iter().filter_map(with_claim).collect()
    }

    /// Cancels every claimed task, and every one that is still claimed.
    pub(super) fn cancel_all(&self, reason: CancelReason) {
        let running = {
            let mut state = self.lock();
            state.all_cancelled = state.all_cancelled.max(Some(reason));
            state.cancels.iter().map(|it| Arc::clone(&it.token)).collect::<Vec<_>>()
        };
        for token in running {
            token.raise(Some(reason));
        }
    }

    /// Records this event as emitted for the task. True if it was not already.
    pub(super) fn mark_emitted(&self, id: TaskId, event: Repeated) -> bool {
        let repeated = &mut self.lock().repeated;
        if repeated.len() >= MOST_REPEATED {
            repeated.clear();
        }
        repeated.insert((id, event))
    }

    /// Forgets a settled task's events, so that new ones are emitted again.
    pub(super) fn forget_repeated(&self, id: TaskId) {
        self.lock().repeated.retain(|(told, _)| *told != id);
    }
}
