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

/// How long the end of the worker may be delayed by results whose report did not get through; they are safe in the
/// results file.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// The longest wait between two tries of a refused report.
const LONGEST_REFUSED_WAIT: Duration = Duration::from_hours(1);
/// A report that could not be sent so often, while other calls were answered, is what is wrong itself.
const MOST_FAILED_ALONE: u32 = 12;

/// A stored result whose fate is not known yet.
pub(super) struct PendingReport {
    pub(super) id: ResultId,
    pub(super) result: TaskResult,
    /// It may have arrived, or its claim may be another's by now: the task is looked up before anything is sent.
    pub(super) in_doubt: bool,
    /// Of which attempt it is the result, until it has been sent once.
    pub(super) first: Option<FirstReport>,
    /// How many calls had been answered when it last could not be sent.
    failed_after: Option<u64>,
    /// How often it could not be sent although other calls were answered since the time before.
    failed_alone: u32,
    /// How long it waited the last time that the TaskManager refused it.
    refused_for: Option<Duration>,
}

/// What is to be noted when the first report of a result has been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstReport {
    /// The attempt, as it was claimed.
    pub(super) attempt: u32,
    /// When the poll began that claimed it.
    pub(super) polled_at: Instant,
    /// A handler was run, and is none that always refuses.
    pub(super) has_run: bool,
}

impl PendingReport {
    /// A result that was stored just now.
    pub(super) fn new(id: ResultId, result: TaskResult, in_doubt: bool, first: FirstReport) -> Self {
        let first = Some(first);
        Self { id, result, in_doubt, first, failed_after: None, failed_alone: 0, refused_for: None }
    }

    /// Notes that it could not be sent when so many calls had been answered. True if that has happened so often, while
    /// others were answered, that it counts as refused.
    pub(super) fn fails_alone(&mut self, error: &Error, answers: u64) -> bool {
        let others_get_through = self.failed_after.replace(answers).is_some_and(|before| before < answers);
        if others_get_through && error.retry_after().is_none() {
            self.failed_alone += 1;
        }
        self.failed_alone >= MOST_FAILED_ALONE
    }

    /// Whether its task is not in flight any more, since the TaskManager has refused the report: a later claim of the
    /// task is run anew.
    pub(super) fn was_refused(&self) -> bool {
        self.refused_for.is_some()
    }
}

/// A report that the TaskManager refuses, though the claim may still hold. It is kept and sent again now and then: what
/// refuses it may be mended, and once the claim is lost, a look at the task says so.
struct Refused {
    report: PendingReport,
    error: Error,
    due: Instant,
}

/// A report that is being sent.
struct Sending {
    task_id: TaskId,
    since: Instant,
    /// When the attempt ended, if this is not its first report.
    postponed: Option<Timestamp>,
}

struct State {
    /// Sent for the first time, by one of several senders.
    fresh: VecDeque<PendingReport>,
    /// Those that did not get through, and those of earlier processes: sent by one sender, oldest first.
    postponed: VecDeque<PendingReport>,
    refused: Vec<Refused>,
    sending: Vec<Sending>,
    /// Senders that wait for fresh reports, and all of them.
    idle_senders: usize,
    senders: usize,
    /// The TaskManager answers again.
    woken: bool,
    /// The TaskManager asked to be left alone with reports until then.
    paused_until: Instant,
    ended_at: Option<Instant>,
}

impl State {
    /// Whether no report of the task is being sent: those of one task are sent one after the other.
    fn is_free(&self, report: &PendingReport) -> bool {
        self.sending.iter().all(|it| it.task_id != report.result.task_id)
    }

    /// Those that are sent as soon as the TaskManager answers.
    fn postponed(&self) -> usize {
        self.postponed.len() + self.sending.iter().filter(|it| it.postponed.is_some()).count()
    }

    /// When the oldest of the postponed and the refused was finished.
    fn oldest(&self) -> Option<Timestamp> {
        let postponed = self.postponed.iter().map(|it| it.result.finished_at);
        let refused = self.refused.iter().map(|it| it.report.result.finished_at);
        postponed.chain(refused).chain(self.sending.iter().filter_map(|it| it.postponed)).min()
    }

    /// When something is to be sent again: what was postponed at `due`, what was refused at a time of its own.
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

/// Whether a report that is handed over needs another sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// One waits for it, or there are as many as may be.
    Nothing,
    /// All are busy.
    Sender,
}

/// The results whose fate is not known yet.
pub(super) struct ReportQueue {
    state: Mutex<State>,
    /// What the sender of postponed reports waits for.
    changed: Condvar,
    /// What the senders of fresh ones wait for.
    has_fresh: Condvar,
    /// How long a report that is refused for the first time waits.
    refused_wait: Duration,
    most_senders: usize,
    /// Held while somebody is told how many there are: of two threads, the one that counted last is heard last.
    telling: Mutex<()>,
}

impl ReportQueue {
    /// Starts with results that an earlier process left. There are as many senders as slots, if need be.
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
            telling: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How many results the TaskManager has not confirmed, those aside that are sent for the first time.
    pub(super) fn unreported(&self) -> usize {
        let state = self.lock();
        state.postponed() + state.refused.len()
    }

    /// How many of them are to be sent as soon as the TaskManager answers.
    pub(super) fn postponed(&self) -> usize {
        self.lock().postponed()
    }

    /// Those that the TaskManager refuses, and why.
    pub(super) fn refused(&self) -> Vec<(TaskId, Error)> {
        self.lock().refused.iter().map(|it| (it.report.result.task_id, it.error.clone())).collect()
    }

    /// Tells how many were postponed or refused, how many of them were refused, and when the oldest was finished.
    pub(super) fn tell(&self, listen: impl FnOnce(usize, usize, Option<Timestamp>)) {
        let _telling = self.telling.lock();
        let state = self.lock();
        let (refused, oldest) = (state.refused.len(), state.oldest());
        let count = state.postponed() + refused;
        drop(state);
        listen(count, refused, oldest);
    }

    /// Whether a report has been under way for longer than `limit`.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        self.lock().sending.iter().any(|it| it.since.elapsed() > limit)
    }

    /// The TaskManager answers again: what was postponed is tried at once.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// The TaskManager asked for no reports before `asked` is over.
    pub(super) fn pause(&self, asked: Duration) {
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Instant::now() + asked);
    }

    pub(super) fn is_paused(&self) -> bool {
        Instant::now() < self.lock().paused_until
    }

    /// Nothing more will come; what was postponed is tried once more.
    pub(super) fn end(&self) {
        self.lock().ended_at = Some(Instant::now());
        self.changed.notify_all();
        self.has_fresh.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended_at.is_some()
    }

    /// Hands over a report that is sent for the first time.
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

    /// There is no thread for another sender. If there is none at all, what is fresh is sent with what was postponed.
    pub(super) fn sender_refused(&self) -> Vec<PendingReport> {
        let mut state = self.lock();
        state.senders -= 1;
        if state.senders == 0 { state.fresh.drain(..).collect() } else { Vec::new() }
    }

    /// Waits for a report to send for the first time; `None` once none will come.
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

    /// Keeps a report that did not get through.
    pub(super) fn postpone(&self, report: PendingReport) {
        self.lock().postponed.push_back(report);
        self.changed.notify_all();
    }

    /// Keeps a report that the TaskManager refuses. It waits longer each time.
    pub(super) fn set_aside(&self, mut report: PendingReport, error: Error) {
        let wait =
            report.refused_for.map_or(self.refused_wait, |wait| wait.saturating_mul(2).min(LONGEST_REFUSED_WAIT));
        report.refused_for = Some(wait);
        self.lock().refused.push(Refused { report, error, due: Instant::now() + wait });
        self.changed.notify_all();
    }

    /// Waits until something is to be sent again, not before `due` unless woken; false if nothing will be. A pause that
    /// the TaskManager asked for is kept, woken or not.
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

    /// The next that was postponed, else the next that was refused and is due.
    pub(super) fn next_postponed(&self) -> Option<PendingReport> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        let next = if too_late { None } else { state.take_postponed() };
        let next = next.or_else(|| if state.ended_at.is_none() { state.take_refused() } else { None })?;
        let finished_at = next.result.finished_at;
        state.begin(&next, Some(finished_at));
        Some(next)
    }

    /// Puts back what could not be sent: in front, unless this one alone may be what is wrong.
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

    /// The report of a task is no longer being sent.
    pub(super) fn sent(&self, task_id: TaskId) {
        self.sent_locked(&mut self.lock(), task_id);
    }

    fn sent_locked(&self, state: &mut State, task_id: TaskId) {
        state.sending.retain(|it| it.task_id != task_id);
        // Others of the same task may have waited.
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
