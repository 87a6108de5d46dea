//! One slot of the worker: claim, run, store, report, claim.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use super::queue::{Closed, Queue, Sweep};
use super::{Event, Worker, WorkerError, WorkerType};
use crate::clock::Timestamp;
use crate::store::{ResultId, StoreError};
use crate::task::{Claim, Task, TaskResult};
use crate::taskmanager::{Delivery, Error};

/// The results file is told of polls no more often than this.
const NOTE_POLLS_EVERY: Duration = Duration::from_secs(10);

/// Works tasks until nothing more is to be claimed.
pub(super) fn run(worker: &Worker<'_>) {
    let _ended = EndOfSlot(&worker.queue);
    while let Some(turn) = worker.queue.turn() {
        let found = worker.sweep(turn.first);
        worker.note_poll();
        match found {
            Found::Task(index, task, claimed_at) => {
                worker.queue.end_turn(&turn, Sweep::Task(index));
                worker.work_one(&worker.types[index], task, claimed_at);
                worker.queue.finished(index);
            }
            Found::Nothing => worker.queue.end_turn(&turn, Sweep::Empty),
            Found::NoAnswer(pause) => worker.queue.end_turn(&turn, Sweep::Failed(pause)),
        }
    }
}

/// Tells the others that the slot has ended, also when it panicked: nobody must wait for it in vain.
struct EndOfSlot<'a>(&'a Queue);

impl Drop for EndOfSlot<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close(Closed::Failed);
        }
        self.0.slot_ended();
    }
}

/// What asking for a task of each type led to.
enum Found {
    /// A task of the type with this index, and when it was asked for.
    Task(usize, Task, Timestamp),
    Nothing,
    /// No answer; the server asked to be left alone for so long.
    NoAnswer(Option<Duration>),
}

impl Worker<'_> {
    /// Asks for a task of each type in turn, until there is one. The type's place is taken when there is.
    fn sweep(&self, first: usize) -> Found {
        for index in (first..self.types.len()).chain(0..first) {
            if !self.queue.reserve(index) {
                continue;
            }
            let claimed_at = self.executor.clock.now();
            match self.claim(&self.types[index]) {
                Ok(Some(task)) => return Found::Task(index, task, claimed_at),
                Ok(None) => self.queue.release(index),
                Err(error) => {
                    self.queue.release(index);
                    return Found::NoAnswer(self.no_answer(error));
                }
            }
        }
        Found::Nothing
    }

    fn claim(&self, worker_type: &WorkerType) -> Result<Option<Task>, Error> {
        let worker_id = &self.executor.config.worker_id.value;
        let answer = self.claimer.claim(worker_id, worker_type.id(), self.order);
        let answer = match answer {
            Err(error) if error.says_unknown_type() => {
                if worker_type.has_gone(&self.claimer)? {
                    self.executor.observer.event(&Event::TypeGone(&worker_type.name));
                }
                Ok(None)
            }
            other => other,
        };
        if answer.is_ok() && self.contact.answered() {
            self.reporter.wake();
        }
        answer
    }

    /// Sees to a claim that was not answered as it should be; returns how long the server asked to be left alone.
    fn no_answer(&self, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        if error == Error::Interrupted {
            return None;
        }
        if self.impatient || matches!(error, Error::KeyRefused { .. }) {
            self.fail(WorkerError::TaskManager(error));
        } else {
            self.contact.failed(&error);
        }
        pause
    }

    fn work_one(&self, worker_type: &WorkerType, task: Task, claimed_at: Timestamp) {
        let claim = self.executor.claim(task, worker_type, claimed_at);
        // Where the results file fails, the task stays claimed: the TaskManager hands it out again when the claim ends.
        if let Err(error) = self.store_and_report(worker_type, &claim) {
            self.fail(WorkerError::Store(error));
        }
    }

    fn store_and_report(&self, worker_type: &WorkerType, claim: &Claim) -> Result<(), StoreError> {
        let executor = &self.executor;
        executor.store.note_claim(claim, executor.client.url(), Some(self.process))?;
        executor.observer.event(&Event::Claimed(claim));
        let stop = self.queue.new_stop();
        let result = executor.run(claim, worker_type, &stop);
        self.queue.drop_stop(&stop);
        let result = result?;
        self.count(&result);
        match executor.store(&result) {
            Ok(id) => self.report(id, result),
            Err(error) => {
                self.report_unstored(&result, &error);
                Err(error)
            }
        }
    }

    fn report(&self, id: ResultId, result: TaskResult) -> Result<(), StoreError> {
        let task_id = result.task_id;
        match self.executor.report(&result) {
            Ok(delivery) => {
                if self.contact.answered() {
                    self.reporter.wake();
                }
                self.executor.settle(id, &result, delivery)
            }
            Err(error) if error.is_refusal() => {
                self.executor.observer.event(&Event::ReportRefused { task_id, error: error.to_string() });
                Ok(())
            }
            Err(error) => {
                self.contact.failed(&error);
                self.executor.observer.event(&Event::ReportPostponed { task_id, error: error.to_string() });
                self.reporter.take_over(id, result);
                self.queue.set_unreported(self.reporter.unreported());
                Ok(())
            }
        }
    }

    /// The disk may be full: then the TaskManager is the only one left to keep the result.
    fn report_unstored(&self, result: &TaskResult, error: &StoreError) {
        let reported = matches!(self.executor.report(result), Ok(Delivery::Confirmed));
        let (task_id, error) = (result.task_id, error.to_string());
        self.executor.observer.event(&Event::NotStored { task_id, error, reported });
    }

    fn count(&self, result: &TaskResult) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *if result.outcome.failure.is_none() { &mut counters.completed } else { &mut counters.failed } += 1;
    }

    /// Tells the results file that the worker polls, for whoever looks at its health.
    fn note_poll(&self) {
        let mut last = self.last_noted_poll.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < NOTE_POLLS_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let counters = *self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Where this fails, the next write that matters says so.
        let _ = self.executor.store.note_poll(self.process, counters, self.executor.clock.now());
    }
}
