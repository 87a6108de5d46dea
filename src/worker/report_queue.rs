//! Stored results on their way to the TaskManager: those that are sent for the first time, those whose report did not get
//! through, and those that were refused.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::store::{ResultId, StoredResult};
use crate::task::{TaskId, TaskResult};
use crate::taskmanager::Error;

/// How long postponed reports may delay the worker's exit; their results are safe in the results file.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// Maximum wait between two retries of a refused report.
const LONGEST_REFUSED_WAIT: Duration = Duration::from_hours(1);
/// A report that fails this often while other calls are answered is itself the problem.
const MOST_FAILED_ALONE: u32 = 12;

/// A stored result that is not settled.
pub(super) struct PendingReport {
    pub(super) id: ResultId,
    pub(super) result: TaskResult,
    /// Whether it may have arrived, or its claim may have been lost: the task is looked up before anything is sent.
    pub(super) in_doubt: bool,
    /// What to note after its first report, until that was sent.
    pub(super) first: Option<FirstReport>,
    /// Number of answered calls when it last failed.
    failed_after: Option<u64>,
    /// How often it failed although other calls had been answered since the failure before.
    failed_alone: u32,
    /// Its last wait after a refusal by the TaskManager.
    refused_for: Option<Duration>,
}

/// What to note after the first report of a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstReport {
    /// Number of the attempt when it was claimed.
    pub(super) attempt: u32,
    /// When the poll that claimed it began.
    pub(super) polled_at: Instant,
    /// Whether a handler ran.
    pub(super) has_run: bool,
}

impl PendingReport {
    /// Creates the pending report of a newly stored result.
    pub(super) fn new(id: ResultId, result: TaskResult, in_doubt: bool, first: FirstReport) -> Self {
        let first = Some(first);
        Self { id, result, in_doubt, first, failed_after: None, failed_alone: 0, refused_for: None }
    }

    /// Notes a failure after `answers` answered calls. True if it has failed so often while others were answered that
    /// it counts as refused.
    pub(super) fn fails_alone(&mut self, error: &Error, answers: u64) -> bool {
        let others_get_through = self.failed_after.replace(answers).is_some_and(|before| before < answers);
        if others_get_through && error.retry_after().is_none() {
            self.failed_alone += 1;
        }
        self.failed_alone >= MOST_FAILED_ALONE
    }

    /// Whether the TaskManager has refused it. Then its task is no longer in flight, and a later claim of the task runs
    /// anew.
    pub(super) fn was_refused(&self) -> bool {
        self.refused_for.is_some()
    }
}

/// A refused report whose claim may still hold. It is sent again now and then: the cause may be fixed, and if the claim
/// is lost, looking the task up shows that.
struct Refused {
    report: PendingReport,
    error: Error,
    due: Instant,
}

struct Sending {
    task_id: TaskId,
    since: Instant,
    /// When the attempt ended, if the report was postponed.
    postponed: Option<Timestamp>,
}

struct State {
    /// Reports to send for the first time, by several senders.
    fresh: VecDeque<PendingReport>,
    /// Reports that failed, and those of earlier processes: sent by one sender, oldest first.
    postponed: VecDeque<PendingReport>,
    refused: Vec<Refused>,
    sending: Vec<Sending>,
    /// Senders waiting for fresh reports.
    idle_senders: usize,
    senders: usize,
    /// Whether the TaskManager has just answered again.
    woken: bool,
    /// Until when the TaskManager's Retry-After holds for reports.
    paused_until: Instant,
    ended_at: Option<Instant>,
}

impl State {
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

    fn take_fresh(&mut self) -> Option<PendingReport> {
        let index = self.fresh.iter().position(|it| self.is_free(it))?;
        let report = self.fresh.remove(index)?;
        self.begin(&report, None);
        Some(report)
    }

    fn take_postponed(&mut self) -> Option<PendingReport> {
        let index = self.postponed.iter().position(|it| self.is_free(it))?;
        self.postponed.remove(index)
    }

    fn take_refused(&mut self) -> Option<PendingReport> {
        let now = Instant::now();
        let index = self.refused.iter().position(|it| it.due <= now && self.is_free(&it.report))?;
        Some(self.refused.remove(index).report)
    }

    fn begin(&mut self, report: &PendingReport, postponed: Option<Timestamp>) {
        self.sending.push(Sending { task_id: report.result.task_id, since: Instant::now(), postponed });
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
    state: Mutex<State>,
    /// The sender of postponed reports waits for it.
    changed: Condvar,
    /// The senders of fresh reports wait for it.
    has_fresh: Condvar,
    /// How long a report waits after its first refusal.
    refused_wait: Duration,
    most_senders: usize,
    /// Held while a count is announced, so that the latest count is announced last.
    announcing: Mutex<()>,
}

impl ReportQueue {
    /// Starts with pending reports of earlier processes. Has at most as many senders as slots.
    pub(super) fn new(left: Vec<StoredResult>, config: &Config) -> Self {
        Self::with_limits(left, config.max_backoff.value, config.concurrency.value)
    }

    fn with_limits(left: Vec<StoredResult>, refused_wait: Duration, most_senders: usize) -> Self {
        let state = State {
            fresh: VecDeque::new(),
            postponed: left.into_iter().map(PendingReport::from).collect(),
            refused: Vec::new(),
            sending: Vec::new(),
            idle_senders: 0,
            senders: 0,
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
            announcing: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
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

    /// Adds a report to send for the first time.
    pub(super) fn add_fresh(&self, report: PendingReport) -> Needs {
        let mut state = self.lock();
        state.fresh.push_back(report);
        if state.fresh.len() <= state.idle_senders {
            self.has_fresh.notify_one();
        } else if state.senders < self.most_senders {
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

    /// Waits for a report to send for the first time; `None` once the queue is closed and empty.
    pub(super) fn next_fresh(&self) -> Option<PendingReport> {
        let mut state = self.lock();
        loop {
            if let Some(report) = state.take_fresh() {
                return Some(report);
            }
            if state.ended_at.is_some() && state.fresh.is_empty() {
                return None;
            }
            state.idle_senders += 1;
            self.has_fresh.wait(&mut state);
            state.idle_senders -= 1;
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

    /// Takes the next postponed report, or the next refused one that is due.
    pub(super) fn next_postponed(&self) -> Option<PendingReport> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        let next = if too_late { None } else { state.take_postponed() };
        let next = next.or_else(|| if state.ended_at.is_none() { state.take_refused() } else { None })?;
        let finished_at = next.result.finished_at;
        state.begin(&next, Some(finished_at));
        Some(next)
    }

    /// Puts a failed report back: in front, unless it may itself be the problem.
    pub(super) fn put_back(&self, report: PendingReport) {
        let task_id = report.result.task_id;
        let mut state = self.lock();
        if report.failed_alone > 0 {
            state.postponed.push_back(report);
        } else {
            state.postponed.push_front(report);
        }
        self.sent_locked(&mut state, task_id);
    }

    /// Notes that a report is no longer being sent.
    pub(super) fn sent(&self, task_id: TaskId) {
        self.sent_locked(&mut self.lock(), task_id);
    }

    fn sent_locked(&self, state: &mut State, task_id: TaskId) {
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

impl From<StoredResult> for PendingReport {
    fn from(stored: StoredResult) -> Self {
        let StoredResult { id, result, .. } = stored;
        Self { id, result, in_doubt: true, first: None, failed_after: None, failed_alone: 0, refused_for: None }
    }
}
