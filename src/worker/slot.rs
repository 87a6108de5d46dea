//! One slot of the worker: claim, run, store, report, claim.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use super::breaker::{Change, Verdict};
use super::queue::{Closed, Place, Queue, Sweep, Turn};
use super::report::Unsettled;
use super::{Event, Worker, WorkerError, WorkerType};
use crate::clock::between;
use crate::failpoint;
use crate::store::StoreError;
use crate::task::{Claim, ErrorType, TaskResult};
use crate::taskmanager::{Claimed, Delivery, Error};

/// The results file is told of polls no more often than this.
const NOTE_POLLS_EVERY: Duration = Duration::from_secs(10);

/// Works tasks until nothing more is to be claimed.
pub(super) fn run(worker: &Worker<'_>, number: usize) {
    let _ended = EndOfSlot(&worker.queue);
    while let Some(turn) = worker.queue.turn() {
        worker.pulse.back_in(number, turn.wait);
        let found = worker.sweep(&turn);
        worker.note_poll();
        match found {
            Found::Task { index, claim, left } => {
                worker.pulse.back_in(number, between(worker.executor.clock.now(), claim.deadline));
                worker.end_turn(&turn, Sweep::Task(index));
                worker.work_one(index, claim, left);
            }
            Found::Nothing { paused } => worker.end_turn(&turn, Sweep::Empty { paused }),
            Found::NoAnswer { index, pause } => worker.end_turn(&turn, Sweep::Failed { index, pause }),
        }
        worker.pulse.rests(number);
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
    /// A task of the type with this index; whether an earlier process left it.
    Task { index: usize, claim: Claim, left: bool },
    /// Nothing; whether a type was left out that may be claimed soon.
    Nothing { paused: bool },
    /// No answer about the type with this index; the server asked to be left alone for so long.
    NoAnswer { index: usize, pause: Option<Duration> },
}

impl Worker<'_> {
    fn end_turn(&self, turn: &Turn, sweep: Sweep) {
        self.queue.end_turn(turn, sweep);
        self.executor.observer.event(&Event::Polled);
    }

    /// Asks for a task of each type in turn, until there is one. The type's place is taken when there is. Tasks that
    /// an earlier process left come first.
    fn sweep(&self, turn: &Turn) -> Found {
        let held = self.held();
        self.tell_quota();
        let mut paused = held.is_soon();
        let count = self.types.len();
        let indices = (turn.first..turn.first + count).map(|index| index % count);
        let last = indices.clone().rfind(|index| !held.is(*index));
        let longest = held.first_due().map_or(turn.wait, |due| due.min(turn.wait));
        for index in indices {
            if held.is(index) && !self.is_any_left(index) {
                continue;
            }
            match self.queue.reserve(index) {
                Place::Taken => {}
                Place::Full => continue,
                Place::Paused => {
                    paused = true;
                    continue;
                }
            }
            if let Some(claim) = self.take_left(index) {
                return Found::Task { index, claim, left: true };
            }
            if held.is(index) {
                self.queue.release(index);
                continue;
            }
            let wait = if last == Some(index) { longest } else { Duration::ZERO };
            match self.claim(&self.types[index], wait) {
                Ok(Claimed { task: Some(task), claimed_at, .. }) => {
                    let claim = self.executor.claim(task, &self.types[index], claimed_at);
                    return Found::Task { index, claim, left: false };
                }
                Ok(_) => self.queue.release(index),
                Err(error) => {
                    self.queue.release(index);
                    return Found::NoAnswer { index, pause: self.no_answer(error) };
                }
            }
        }
        Found::Nothing { paused }
    }

    fn claim(&self, worker_type: &WorkerType, wait: Duration) -> Result<Claimed, Error> {
        let claimed = self.claim_by_name(worker_type, wait)?;
        if self.contact.answered() {
            self.waiting.wake();
        }
        if !wait.is_zero() {
            self.queue.note_server_waits(claimed.waits);
        }
        Ok(claimed)
    }

    /// While a type is gone, its old number is not used: it may be another type's by now. Where it was so unnoticed,
    /// the task goes back to the queue when its claim runs out; no handler is given another type's task.
    fn claim_by_name(&self, worker_type: &WorkerType, wait: Duration) -> Result<Claimed, Error> {
        if worker_type.is_gone() && !self.look_up(worker_type)? {
            return Ok(Claimed::default());
        }
        let worker_id = &self.executor.config.worker_id.value;
        match self.claimer.claim_or_wait(worker_id, worker_type.id(), self.order, wait) {
            Err(error) if error.says_unknown_type() => self.look_up(worker_type).map(|_| Claimed::default()),
            Ok(Claimed { task: Some(task), .. }) if !task.task_type.eq_ignore_ascii_case(&worker_type.name) => {
                self.executor.observer.event(&Event::WrongType { task: &task, wanted: &worker_type.name });
                self.look_up(worker_type).map(|_| Claimed::default())
            }
            other => other,
        }
    }

    /// Whether the TaskManager knows a type, by whatever number. Tells where that is new.
    fn look_up(&self, worker_type: &WorkerType) -> Result<bool, Error> {
        let was_gone = worker_type.is_gone();
        let is_found = worker_type.look_up(&self.claimer)?;
        let task_type = worker_type.name.as_str();
        match (was_gone, is_found) {
            (false, false) => self.executor.observer.event(&Event::TypeGone(task_type)),
            (true, true) => {
                self.executor.observer.event(&Event::TypeFound { task_type, id: worker_type.id() });
            }
            _ => {}
        }
        Ok(is_found)
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

    /// Works a task, and gives its place back.
    fn work_one(&self, index: usize, claim: Claim, left: bool) {
        let worker_type = &self.types[index];
        let verdict = match self.store_and_report(worker_type, claim, left) {
            Ok(verdict) => verdict,
            // The task stays claimed: the TaskManager hands it out again when the claim ends.
            Err(error) => {
                self.fail(WorkerError::Store(error));
                Verdict::Unknown
            }
        };
        let task_type = worker_type.name.as_str();
        match self.queue.finished(index, verdict) {
            Some(Change::Opened(pause)) => self.executor.observer.event(&Event::Paused { task_type, pause }),
            Some(Change::Closed) => self.executor.observer.event(&Event::Resumed(task_type)),
            None => {}
        }
    }

    fn store_and_report(&self, worker_type: &WorkerType, claim: Claim, left: bool) -> Result<Verdict, StoreError> {
        let executor = &self.executor;
        failpoint::reach("claimed");
        let deaths = executor.store.note_claim(&claim, executor.client.url(), Some(&self.process))?;
        if !self.running.enter(&claim) {
            executor.observer.event(&Event::ClaimRenewed(&claim));
            return Ok(Verdict::Unknown);
        }
        executor.observer.event(&Event::Claimed(&claim));
        failpoint::reach("noted");
        let mut result = self.run_stoppable(worker_type, claim, deaths)?;
        self.running.renew(&mut result);
        self.count(&result);
        self.tell_quota();
        failpoint::reach("ran");
        match executor.store(&mut result) {
            Ok(id) => {
                // Before the task can be back in the queue.
                let held = self.hold(worker_type, &result.outcome);
                let verdict = verdict(&result, held);
                self.report(Unsettled { id, result, in_doubt: left }).map(|()| verdict)
            }
            Err(error) => {
                self.not_stored(&result, &error);
                Err(error)
            }
        }
    }

    /// Tells what was seen of the day's YouTube units.
    fn tell_quota(&self) {
        if let Some(budget) = self.ledger.take_seen() {
            self.executor.observer.event(&Event::Quota(budget));
        }
        if let Some(budget) = self.ledger.take_warning() {
            self.executor.observer.event(&Event::QuotaLow(budget));
        }
    }

    fn run_stoppable(&self, worker_type: &WorkerType, claim: Claim, deaths: u32) -> Result<TaskResult, StoreError> {
        let stop = self.stops.add();
        let result = self.executor.run(claim, deaths, worker_type, &stop);
        self.stops.remove(&stop);
        result
    }

    /// The disk may be full: then the TaskManager is the only one left to keep the result. Where it is the ideas that
    /// could not be kept, it must not hear that the task is done: the task is worked again.
    fn not_stored(&self, result: &TaskResult, error: &StoreError) {
        let executor = &self.executor;
        let (task_id, text) = (result.task_id, error.to_string());
        if error.is_of_ideas() {
            // Where this fails, the end of this process counts as one more death over the task.
            let _ = executor.store.interrupt_claim(result);
            executor.observer.event(&Event::IdeasNotKept { task_id, error: text });
        } else {
            let reported = matches!(executor.report(result), Ok(Delivery::Confirmed));
            executor.observer.event(&Event::NotStored { task_id, error: text, reported });
        }
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
        let _ = self.executor.store.note_poll(&self.process, counters, self.executor.clock.now());
    }
}

/// What an attempt says about the service behind its type. Where the type is `held`, its handler knows when to go on.
fn verdict(result: &TaskResult, held: bool) -> Verdict {
    match &result.outcome.failure {
        Some(_) if held => Verdict::Unknown,
        Some(failure) if [ErrorType::Shutdown, ErrorType::Other("claim_lost".into())].contains(&failure.error_type) => {
            Verdict::Unknown
        }
        Some(failure) if failure.retryable => Verdict::Fails,
        _ => Verdict::Works,
    }
}
