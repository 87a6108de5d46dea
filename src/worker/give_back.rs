//! What becomes of claims and results while the results file cannot be written: they wait, or go to the TaskManager, so that
//! no task waits for the end of a claim that nobody works.

use std::time::Duration;

use super::in_flight::Entered;
use super::{Event, Executor, Worker, WorkerError};
use crate::clock::Moment;
use crate::shutdown::StopReason;
use crate::store::StoreError;
use crate::task::{Claim, ErrorType, Failure, Outcome, TaskId, TaskResult};
use crate::taskmanager::Delivery;

/// The pause before a write is tried again that another process holds up, or want of memory, say.
const PAUSE: Duration = Duration::from_millis(250);

impl Executor<'_> {
    /// Gives back a claim that could not be noted, as a retryable failure. True where the TaskManager has it back; else
    /// the task stays claimed until the claim is over.
    pub fn give_back(&self, claim: Claim, error: &StoreError) -> bool {
        matches!(self.report(&self.not_run(claim, error)), Ok(Delivery::Confirmed))
    }

    /// The result of a claim that could not be noted.
    fn not_run(&self, claim: Claim, error: &StoreError) -> TaskResult {
        let now = self.clock.now();
        let failure = Failure::new(ErrorType::Worker, format!("not run: {error}"));
        TaskResult {
            task_id: claim.task.id,
            task_type: claim.task.task_type,
            attempt: claim.task.attempt,
            worker_id: claim.worker_id,
            api_url: self.client.url().to_owned(),
            params: claim.task.params,
            outcome: Outcome::not_run(failure),
            claimed_at: claim.claimed_at,
            started_at: now,
            finished_at: now,
        }
    }
}

impl Worker<'_> {
    /// Notes a claim before it is worked. Where that cannot be done, the worker ends, and the claim goes back.
    pub(super) fn note_or_give_back(&self, claim: Claim) -> Result<(Claim, u32), StoreError> {
        let executor = &self.executor;
        let note = || executor.store.note_claim(&claim, executor.client.url(), Some(&self.process));
        let error = match self.patiently(claim.task.id, claim.deadline, || self.queue.is_closed(), note) {
            Ok(deaths) => return Ok((claim, deaths)),
            Err(error) => error,
        };
        // Before the task can be back in the queue: it is not to be claimed here again.
        self.fail(WorkerError::Store(error.clone()));
        let task_id = claim.task.id;
        let entered = self.enter(&claim);
        // Else what runs here already, or its result, goes under it.
        if entered != Entered::Continues {
            let mut result = executor.not_run(claim, &error);
            if entered == Entered::New {
                // From now on the task may be back in the queue, and claimed again.
                self.in_flight.report(&mut result);
            }
            let returned = matches!(executor.report(&result), Ok(Delivery::Confirmed));
            if entered == Entered::New {
                self.in_flight.leave(task_id);
            }
            executor.observer.event(&Event::GivenBack { task_id, error: error.to_string(), returned });
        }
        Err(error)
    }

    /// A result could not be stored. The disk may be full: then the TaskManager is the only one left to keep it. Where it is
    /// the ideas that could not be kept, it must not hear that the task is done: the next worker takes the task up again.
    pub(super) fn not_stored(&self, result: &mut TaskResult, error: &StoreError) {
        let executor = &self.executor;
        let (task_id, text) = (result.task_id, error.to_string());
        self.fail(WorkerError::Store(error.clone()));
        if error.is_of_ideas() {
            // Where this fails, the end of this process counts as one more death over the task.
            let _ = executor.store.set_running(&result.api_url, result.task_id, result.attempt, false);
            executor.observer.event(&Event::IdeasNotKept { task_id, error: text });
        } else {
            self.in_flight.report(result);
            let reported = matches!(executor.report(result), Ok(Delivery::Confirmed));
            executor.observer.event(&Event::NotStored { task_id, error: text, reported });
        }
        self.in_flight.leave(task_id);
    }

    /// Writes to the results file. Where that fails for a reason that passes by itself, as when another process holds the
    /// file, it is tried again until `deadline`, unless `gives_up` says not to or the task is stopped.
    pub(super) fn patiently<T>(
        &self,
        task_id: TaskId,
        deadline: Moment,
        gives_up: impl Fn() -> bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let stop = self.stops.add();
        let written = loop {
            match write() {
                Err(error) if error.may_pass() => {
                    let error_text = error.to_string();
                    self.executor.observer.event(&Event::StoreWaits { task_id, error: error_text });
                    let stopped = stop.wait_for(Some(StopReason::Shutdown), PAUSE);
                    if stopped || gives_up() || deadline.left().is_zero() {
                        break Err(error);
                    }
                }
                other => break other,
            }
        };
        self.stops.remove(&stop);
        written
    }
}
