//! Reporting stored results: at once by the slot that made them; where that does not get through, by the reporter, when
//! the TaskManager answers again, oldest first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Event, Worker};
use crate::failpoint;
use crate::store::{ResultId, StoreError, StoredResult};
use crate::task::TaskResult;
use crate::taskmanager::{Backoff, Client, Delivery, Error, Report, Retries};

/// The longest wait between two tries: results arrive within a second of the TaskManager's return.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the end of the worker may be delayed by results that wait; they are safe in the results file.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// A stored result whose fate is not known yet.
pub(super) struct Unsettled {
    pub(super) id: ResultId,
    pub(super) result: TaskResult,
    /// It may have arrived, or its claim may be another's by now: the task is looked up before anything is sent.
    pub(super) in_doubt: bool,
}

impl From<StoredResult> for Unsettled {
    fn from(stored: StoredResult) -> Self {
        Self { id: stored.id, result: stored.result, in_doubt: true }
    }
}

struct State {
    waiting: VecDeque<Unsettled>,
    /// Results that wait, and the one that is being sent.
    unreported: usize,
    woken: bool,
    ended_at: Option<Instant>,
}

/// The results that wait to be reported again.
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

impl Waiting {
    /// Starts with results that an earlier process left.
    pub(super) fn new(left: Vec<StoredResult>) -> Self {
        let waiting: VecDeque<_> = left.into_iter().map(Unsettled::from).collect();
        let state = State { unreported: waiting.len(), waiting, woken: false, ended_at: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many results the TaskManager has not confirmed.
    pub(super) fn unreported(&self) -> usize {
        self.lock().unreported
    }

    /// The TaskManager answers again: try at once.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Nothing more will come; what waits is tried once more.
    pub(super) fn end(&self) {
        self.lock().ended_at = Some(Instant::now());
        self.changed.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.lock().ended_at.is_some()
    }

    fn add(&self, unsettled: Unsettled) {
        let mut state = self.lock();
        state.waiting.push_back(unsettled);
        state.unreported += 1;
        self.changed.notify_all();
    }

    /// Waits until something is to be sent, not before `due` unless woken; false where nothing will be.
    fn wait(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let early = due.saturating_duration_since(Instant::now());
            let ended = state.ended_at.is_some();
            if !state.waiting.is_empty() && (early.is_zero() || state.woken || ended) {
                state.woken = false;
                return true;
            }
            if ended {
                return false;
            }
            state = if state.waiting.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn next(&self) -> Option<Unsettled> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        if too_late { None } else { state.waiting.pop_front() }
    }
}

impl Worker<'_> {
    /// Reports a result that was just stored; keeps it for later where that does not get through.
    pub(super) fn report(&self, mut unsettled: Unsettled) -> Result<(), StoreError> {
        failpoint::reach("stored");
        match self.deliver(&self.executor.client, &mut unsettled) {
            Err(error) if !error.is_refusal() => {
                self.contact.failed(&error);
                let (task_id, error) = (unsettled.result.task_id, error.to_string());
                self.executor.observer.event(&Event::ReportPostponed { task_id, error });
                self.waiting.add(unsettled);
                self.queue.note_unreported(|| self.waiting.unreported());
                Ok(())
            }
            answer => self.settle(&unsettled, answer),
        }
    }

    /// Sends what waits, until the end.
    pub(super) fn run_reporter(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), 2.0, LONGEST_WAIT);
        let mut due = Instant::now();
        while self.waiting.wait(due) {
            due = match self.send_waiting() {
                Ok(()) => {
                    backoff.reset();
                    Instant::now()
                }
                Err(error) => Instant::now() + error.retry_after().unwrap_or_else(|| backoff.jittered()),
            };
            if self.waiting.has_ended() {
                return;
            }
        }
    }

    /// Sends what waits, oldest first, until nothing does or the TaskManager does not answer.
    pub(super) fn send_waiting(&self) -> Result<(), Error> {
        let client = self.executor.client.with_retries(Retries::NONE);
        while let Some(mut unsettled) = self.waiting.next() {
            let answer = self.deliver(&client, &mut unsettled);
            if let Err(error) = &answer
                && !error.is_refusal()
            {
                self.contact.failed(error);
                self.waiting.lock().waiting.push_front(unsettled);
                return answer.map(drop);
            }
            if let Err(error) = self.settle(&unsettled, answer) {
                let (task_id, error) = (unsettled.result.task_id, error.to_string());
                self.executor.observer.event(&Event::NotStored { task_id, error, reported: true });
            }
            self.waiting.lock().unreported -= 1;
            self.queue.note_unreported(|| self.waiting.unreported());
        }
        Ok(())
    }

    /// Delivers a result, under a later claim of its task where there is one by now.
    fn deliver(&self, client: &Client, unsettled: &mut Unsettled) -> Result<Delivery, Error> {
        loop {
            unsettled.in_doubt |= self.running.renew(&mut unsettled.result);
            let report = Report::from(&unsettled.result);
            let answer = if unsettled.in_doubt { client.deliver_again(&report) } else { client.deliver(&report) };
            unsettled.in_doubt = true;
            if answer != Ok(Delivery::ClaimLost) || !self.running.renew(&mut unsettled.result) {
                return answer;
            }
        }
    }

    /// Marks what became of a result.
    fn settle(&self, unsettled: &Unsettled, answer: Result<Delivery, Error>) -> Result<(), StoreError> {
        failpoint::reach("reported");
        let Unsettled { id, result, .. } = unsettled;
        if self.contact.answered() {
            self.waiting.wake();
        }
        let settled = match answer {
            Ok(delivery) => self.executor.settle(*id, result, delivery),
            Err(error) => {
                let (task_id, error) = (result.task_id, error.to_string());
                self.executor.observer.event(&Event::ReportRefused { task_id, error });
                Ok(())
            }
        };
        self.running.leave(result.task_id);
        failpoint::reach("marked");
        settled
    }
}
