//! Stored results on their way to the TaskManager: those that are sent for the first time, those whose report did not get
//! through, and those that were refused.

mod pending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

pub(super) use pending::{FirstReport, PendingReport};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::store::StoredResult;
use crate::task::TaskId;
use crate::taskmanager::{Error, MOST_RENEWALS};

/// How long postponed reports may delay the worker's exit; their results are safe in the results file.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// Maximum wait between two retries of a refused report.
const LONGEST_REFUSED_WAIT: Duration = Duration::from_hours(1);

/// A batch of this size saves most of the cost of single calls.
const LARGE_BATCH: usize = 8;
/// Minimum time between two batches that are smaller than that, and than half of the slots. While short tasks keep the
/// machine busy, a call for each of them would take CPU time from them.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);

/// A refused report whose claim may still hold. It is sent again now and then: the cause may be fixed, and if the claim
/// is lost, looking the task up shows that.
struct Refused {
    report: PendingReport,
    error: Error,
    due: Instant,
}

struct Sending {
    task_id: TaskId,
    worker_id: String,
    since: Instant,
    /// When the attempt ended, if the report was postponed.
    postponed: Option<Timestamp>,
}

struct QueueState {
    /// Reports to send for the first time, by several senders.
    fresh: VecDeque<PendingReport>,
    /// Reports that failed, and those of earlier processes: sent by one sender, oldest first.
    postponed: VecDeque<PendingReport>,
    refused: Vec<Refused>,
    sending: Vec<Sending>,
    /// Senders waiting for fresh reports.
    idle_senders: usize,
    senders: usize,
    /// Whether a sender sends a batch: what is added meanwhile is in the next.
    is_sending_batch: bool,
    /// When a small batch may be sent.
    next_batch: Instant,
    /// Whether a sender waits until then.
    is_gathering: bool,
    /// Whether the TaskManager has just answered again.
    woken: bool,
    /// Until when the TaskManager's Retry-After holds for reports.
    paused_until: Instant,
    ended_at: Option<Instant>,
}

impl QueueState {
    /// Whether no report of the same task is being sent: they are sent one after the other.
    fn is_free(&self, report: &PendingReport) -> bool {
        self.sending.iter().all(|it| it.task_id != report.result.task_id)
    }

    /// Returns the number of reports to send as soon as the TaskManager answers.
    fn postponed(&self) -> usize {
        self.postponed.len() + self.sending.iter().filter(|it| it.postponed.is_some()).count()
    }

    /// Returns when the oldest postponed or refused result was finished.
    fn oldest(&self) -> Option<Timestamp> {
        let postponed = self.postponed.iter().map(|it| it.result.finished_at);
        let refused = self.refused.iter().map(|it| it.report.result.finished_at);
        postponed.chain(refused).chain(self.sending.iter().filter_map(|it| it.postponed)).min()
    }

    /// Returns when to send next: postponed reports at `due`, refused ones at their own times.
    fn next_due(&self, due: Instant) -> Option<Instant> {
        let postponed = self.postponed.iter().any(|it| self.is_free(it)).then_some(due);
        let refused = self.refused.iter().filter(|it| self.is_free(&it.report)).map(|it| it.due.max(self.paused_until));
        postponed.into_iter().chain(refused).min()
    }

    /// Takes up to `most` fresh reports, each of another task.
    fn take_fresh(&mut self, most: usize) -> Vec<PendingReport> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(index) = self.fresh.iter().position(|it| self.is_free(it))
            && let Some(report) = self.fresh.remove(index)
        {
            self.begin(&report, None);
            taken.push(report);
        }
        taken
    }

    /// Takes up to `most` postponed reports, each of another task.
    fn take_postponed(&mut self, most: usize) -> Vec<PendingReport> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(index) = self.postponed.iter().position(|it| self.is_free(it))
            && let Some(report) = self.postponed.remove(index)
        {
            let finished_at = report.result.finished_at;
            self.begin(&report, Some(finished_at));
            taken.push(report);
        }
        taken
    }

    fn take_refused(&mut self) -> Option<PendingReport> {
        let now = Instant::now();
        let index = self.refused.iter().position(|it| it.due <= now && self.is_free(&it.report))?;
        let report = self.refused.remove(index).report;
        let finished_at = report.result.finished_at;
        self.begin(&report, Some(finished_at));
        Some(report)
    }

    fn begin(&mut self, report: &PendingReport, postponed: Option<Timestamp>) {
        let (task_id, worker_id) = (report.result.task_id, report.result.worker_id.clone());
        self.sending.push(Sending { task_id, worker_id, since: Instant::now(), postponed });
    }
}

/// Whether a new report needs another sender thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// A sender is idle, or the maximum of senders is reached.
    Nothing,
    /// All senders are busy.
    Sender,
}

/// The reports that are not settled.
pub(super) struct ReportQueue {
    state: Mutex<QueueState>,
    /// The sender of postponed reports waits for it.
    changed: Condvar,
    /// The senders of fresh reports wait for it.
    has_fresh: Condvar,
    /// How long a report waits after its first refusal.
    refused_wait: Duration,
    most_senders: usize,
    batch_interval: Duration,
    /// Held while a count is announced, so that the latest count is announced last.
    announcing: Mutex<()>,
}

impl ReportQueue {
    /// Starts with pending reports of earlier processes. Has at most as many senders as slots.
    pub(super) fn new(left: Vec<StoredResult>, config: &Config) -> Self {
        Self::with_limits(left, config.max_backoff.value, config.concurrency.value)
    }

    fn with_limits(left: Vec<StoredResult>, refused_wait: Duration, most_senders: usize) -> Self {
        let state = QueueState {
            fresh: VecDeque::new(),
            postponed: left.into_iter().map(PendingReport::from).collect(),
            refused: Vec::new(),
            sending: Vec::new(),
            idle_senders: 0,
            senders: 0,
            is_sending_batch: false,
            next_batch: Instant::now(),
            is_gathering: false,
            woken: false,
            paused_until: Instant::now(),
            ended_at: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            has_fresh: Condvar::new(),
            refused_wait: refused_wait.min(LONGEST_REFUSED_WAIT),
            most_senders,
            batch_interval: BATCH_INTERVAL,
            announcing: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }

    /// Returns the number of unconfirmed results, without those being sent for the first time.
    pub(super) fn unreported(&self) -> usize {
        let state = self.lock();
        state.postponed() + state.refused.len()
    }

    /// Returns the number of reports to send as soon as the TaskManager answers.
    pub(super) fn postponed(&self) -> usize {
        self.lock().postponed()
    }

    /// Returns the tasks whose reports the TaskManager refuses, and why.
    pub(super) fn refused(&self) -> Vec<(TaskId, Error)> {
        self.lock().refused.iter().map(|it| (it.report.result.task_id, it.error.clone())).collect()
    }

    /// Returns the claims of results to report, by worker ID and task: some, if there are many.
    pub(super) fn claims(&self) -> Vec<(String, TaskId)> {
        let state = self.lock();
        let waiting = state.fresh.iter().chain(&state.postponed).map(|it| (&it.result.worker_id, it.result.task_id));
        let claims = state.sending.iter().map(|it| (&it.worker_id, it.task_id)).chain(waiting);
        claims.take(MOST_RENEWALS).map(|(worker_id, id)| (worker_id.clone(), id)).collect()
    }

    /// Calls `listen` with the number of postponed and refused reports, the number of refused ones, and the time at
    /// which the oldest was finished.
    pub(super) fn announce(&self, listen: impl FnOnce(usize, usize, Option<Timestamp>)) {
        let _telling = self.announcing.lock();
        let state = self.lock();
        let (refused, oldest) = (state.refused.len(), state.oldest());
        let count = state.postponed() + refused;
        drop(state);
        listen(count, refused, oldest);
    }

    /// Whether a report has been in sending for longer than `limit`.
    pub(super) fn is_hung(&self, limit: Duration) -> bool {
        self.lock().sending.iter().any(|it| it.since.elapsed() > limit)
    }

    /// Sends postponed reports at once, since the TaskManager answers again.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Sends no postponed report for the `asked` time (Retry-After).
    pub(super) fn pause(&self, asked: Duration) {
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Instant::now() + asked);
    }

    pub(super) fn is_paused(&self) -> bool {
        Instant::now() < self.lock().paused_until
    }

    /// Closes the queue. Postponed reports are tried once more.
    pub(super) fn end(&self) {
        self.lock().ended_at = Some(Instant::now());
        self.changed.notify_all();
        self.has_fresh.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended_at.is_some()
    }

    /// Adds reports to send for the first time. One call sends up to `most` of them.
    pub(super) fn add_fresh(&self, reports: Vec<PendingReport>, most: usize) -> Needs {
        let mut state = self.lock();
        state.fresh.extend(reports);
        if state.is_gathering && !self.is_batch_large(&state) {
            return Needs::Nothing;
        }
        let most_senders = if most > 1 { 1 } else { self.most_senders };
        if state.fresh.len() <= state.idle_senders || most > 1 && state.idle_senders > 0 {
            self.has_fresh.notify_one();
        } else if state.senders < most_senders {
            state.senders += 1;
            return Needs::Sender;
        }
        Needs::Nothing
    }

    /// Notes that the system refused a sender thread. If there is no sender at all, returns the fresh reports, to be
    /// postponed.
    pub(super) fn sender_refused(&self) -> Vec<PendingReport> {
        let mut state = self.lock();
        state.senders -= 1;
        if state.senders == 0 { state.fresh.drain(..).collect() } else { Vec::new() }
    }

    /// Whether enough reports wait to send them without delay.
    fn is_batch_large(&self, state: &QueueState) -> bool {
        state.fresh.len() >= (self.most_senders / 2).clamp(1, LARGE_BATCH)
    }

    /// Returns until when to gather reports for the next batch; `None` if it is to be sent now.
    fn gather_until(&self, state: &QueueState) -> Option<Instant> {
        let gathers = !state.fresh.is_empty() && !self.is_batch_large(state) && state.ended_at.is_none();
        Some(state.next_batch).filter(|next| gathers && Instant::now() < *next)
    }

    /// Waits for reports to send for the first time, up to `most` for one call; `None` once the queue is closed and
    /// empty. Of calls for several, one is made at a time.
    pub(super) fn next_fresh(&self, most: impl Fn() -> usize) -> Option<Vec<PendingReport>> {
        let mut state = self.lock();
        loop {
            let most = most();
            let until = self.gather_until(&state).filter(|_| most > 1);
            let must_wait = until.is_some() || most > 1 && state.is_sending_batch;
            let reports = if must_wait { Vec::new() } else { state.take_fresh(most) };
            if !reports.is_empty() {
                state.is_sending_batch |= most > 1;
                state.next_batch = Instant::now() + self.batch_interval;
                return Some(reports);
            }
            if state.ended_at.is_some() && state.fresh.is_empty() {
                return None;
            }
            state.idle_senders += 1;
            state.is_gathering = until.is_some();
            match until {
                None => self.has_fresh.wait(&mut state),
                Some(until) => drop(self.has_fresh.wait_until(&mut state, until)),
            }
            state.is_gathering = false;
            state.idle_senders -= 1;
        }
    }

    /// Notes that a sender has sent what it took, or has died of a panic.
    pub(super) fn fresh_sent(&self, has_died: bool) {
        let mut state = self.lock();
        state.is_sending_batch = false;
        state.senders -= usize::from(has_died);
        if !state.fresh.is_empty() {
            self.has_fresh.notify_one();
        }
    }

    /// Adds a report that failed.
    pub(super) fn postpone(&self, report: PendingReport) {
        self.lock().postponed.push_back(report);
        self.changed.notify_all();
    }

    /// Adds a report that the TaskManager refused. Its wait doubles each time.
    pub(super) fn keep_refused(&self, mut report: PendingReport, error: Error) {
        let wait =
            report.refused_for.map_or(self.refused_wait, |wait| wait.saturating_mul(2).min(LONGEST_REFUSED_WAIT));
        report.refused_for = Some(wait);
        self.lock().refused.push(Refused { report, error, due: Instant::now() + wait });
        self.changed.notify_all();
    }

    /// Waits until a report is due, not before `due` unless woken; false if none will be. Retry-After is respected,
    /// woken or not.
    pub(super) fn wait(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let due = if state.woken { state.paused_until } else { due.max(state.paused_until) };
            let next = state.next_due(due);
            let ended = state.ended_at.is_some();
            if ended && !state.postponed.is_empty() || !ended && next.is_some_and(|next| next <= Instant::now()) {
                state.woken = false;
                return true;
            }
            if ended {
                return false;
            }
            match next {
                None => self.changed.wait(&mut state),
                Some(next) => drop(self.changed.wait_until(&mut state, next)),
            }
        }
    }

    /// Takes the next postponed reports, up to `most`, or the next refused one that is due; none if there are none.
    pub(super) fn next_postponed(&self, most: usize) -> Vec<PendingReport> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        let reports = if too_late { Vec::new() } else { state.take_postponed(most) };
        if reports.is_empty() && state.ended_at.is_none() {
            return state.take_refused().into_iter().collect();
        }
        reports
    }

    /// Puts failed reports back: in front, unless one may itself be the problem.
    pub(super) fn put_back(&self, reports: Vec<PendingReport>) {
        let mut state = self.lock();
        for report in reports.into_iter().rev() {
            let task_id = report.result.task_id;
            if report.failed_alone > 0 {
                state.postponed.push_back(report);
            } else {
                state.postponed.push_front(report);
            }
            self.sent_locked(&mut state, task_id);
        }
    }

    /// Notes that a report is no longer being sent.
    pub(super) fn sent(&self, task_id: TaskId) {
        self.sent_locked(&mut self.lock(), task_id);
    }

    fn sent_locked(&self, state: &mut QueueState, task_id: TaskId) {
        state.sending.retain(|it| it.task_id != task_id);
        // Other reports of the same task may be waiting.
        if state.fresh.iter().any(|it| it.result.task_id == task_id) {
            self.has_fresh.notify_one();
        }
        if !state.postponed.is_empty() || !state.refused.is_empty() {
            self.changed.notify_all();
        }
    }
}
