//! Results that did not get through: kept in the results file, sent when the TaskManager answers again, oldest first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Event;
use super::contact::Contact;
use super::execute::Executor;
use super::queue::Queue;
use crate::store::{ResultId, StoreError};
use crate::task::TaskResult;
use crate::taskmanager::{Backoff, Delivery, Error, Report};

struct State {
    waiting: VecDeque<(ResultId, TaskResult)>,
    /// Results in the hands of the reporter or of a slot: not confirmed yet.
    unreported: usize,
    woken: bool,
    ended: bool,
}

/// The results that wait to be reported again.
pub(super) struct Reporter {
    state: Mutex<State>,
    changed: Condvar,
}

impl Reporter {
    /// Starts with results that an earlier process left.
    pub(super) fn new(left: Vec<(ResultId, TaskResult)>) -> Self {
        let state = State { unreported: left.len(), waiting: left.into(), woken: false, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many results the TaskManager has not confirmed.
    pub(super) fn unreported(&self) -> usize {
        self.lock().unreported
    }

    /// Takes over a result that did not get through.
    pub(super) fn take_over(&self, id: ResultId, result: TaskResult) {
        let mut state = self.lock();
        state.waiting.push_back((id, result));
        state.unreported += 1;
        self.changed.notify_all();
    }

    /// The TaskManager answers again: try at once.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Nothing more will come; what waits is tried once more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Sends what waits, until the end.
    pub(super) fn run(&self, executor: &Executor<'_>, contact: &Contact<'_>, queue: &Queue) {
        let mut backoff = Backoff::new(Duration::from_millis(500), 2.0, Duration::from_secs(30));
        let mut due = Instant::now();
        while let Some((id, result)) = self.next(due) {
            match executor.client.deliver_again(&Report::from(&result)) {
                Err(error) if !error.is_refusal() => {
                    contact.failed(&error);
                    if !self.put_back(id, result) {
                        return;
                    }
                    due = Instant::now() + error.retry_after().unwrap_or_else(|| backoff.jittered());
                }
                answer => {
                    contact.answered();
                    backoff.reset();
                    due = Instant::now();
                    if let Err(error) = conclude(executor, id, &result, answer) {
                        let (task_id, error) = (result.task_id, error.to_string());
                        executor.observer.event(&Event::NotStored { task_id, error, reported: true });
                    }
                    let left = self.done();
                    queue.set_unreported(left);
                }
            }
        }
    }

    /// Waits for the next result, not before `due` unless woken; `None` at the end.
    fn next(&self, due: Instant) -> Option<(ResultId, TaskResult)> {
        let mut state = self.lock();
        loop {
            let early = due.saturating_duration_since(Instant::now());
            if state.ended && state.waiting.is_empty() {
                return None;
            }
            if !state.waiting.is_empty() && (early.is_zero() || state.woken || state.ended) {
                state.woken = false;
                return state.waiting.pop_front();
            }
            state = if state.waiting.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Keeps a result for later; false where there is no later.
    fn put_back(&self, id: ResultId, result: TaskResult) -> bool {
        let mut state = self.lock();
        state.waiting.push_front((id, result));
        !state.ended
    }

    fn done(&self) -> usize {
        let mut state = self.lock();
        state.unreported -= 1;
        state.unreported
    }
}

fn conclude(
    executor: &Executor<'_>,
    id: ResultId,
    result: &TaskResult,
    answer: Result<Delivery, Error>,
) -> Result<(), StoreError> {
    match answer {
        Ok(delivery) => executor.settle(id, result, delivery),
        Err(error) => {
            executor.observer.event(&Event::ReportRefused { task_id: result.task_id, error: error.to_string() });
            Ok(())
        }
    }
}
