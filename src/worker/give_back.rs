//! What becomes of claims and results while the results file cannot be written: they wait, or go to the TaskManager, so that
//! no task waits for the end of a claim that nobody works.

use std::time::Duration;

use super::in_flight::Entered;
use super::report::MARK_PATIENCE;
use super::{Event, Executor, Worker};
use crate::clock::Moment;
use crate::shutdown::StopReason;
use crate::store::{ResultId, StoreError};
use crate::task::{Claim, ErrorType, Failure, Outcome, TaskId, TaskResult};
use crate::taskmanager::Delivery;

/// The pause before a write is tried again that another process holds up, or want of memory, say.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a claim that cannot be noted for want of room is kept. Longer than the slots need to end what they ask for.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);

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
    /// Notes a claim before it is worked. Where that cannot be done, nothing more is claimed, and the claim goes back.
    pub(super) fn note_or_give_back(&self, claim: Claim) -> Result<(Claim, u32), StoreError> {
        let error = match self.note_patiently(&claim) {
            Ok(deaths) => return Ok((claim, deaths)),
            Err(error) => error,
        };
        // Before the task can be back in the queue: it is not to be claimed here again.
        self.store_failed(error.clone());
        let task_id = claim.task.id;
        let entered = self.enter(&claim);
        // Else what runs here already, or its result, goes under it.
        if entered != Entered::Continues {
            let mut result = self.executor.not_run(claim, &error);
            if entered == Entered::New {
                // From now on the task may be back in the queue, and claimed again.
                self.in_flight.report(&mut result);
            }
            let returned = matches!(self.executor.report(&result), Ok(Delivery::Confirmed));
            if entered == Entered::New {
                self.in_flight.leave(task_id);
            }
            self.executor.observer.event(&Event::GivenBack { task_id, error: error.to_string(), returned });
        }
        Err(error)
    }

    /// Notes a claim, as long as that may come to pass in time. Where the disk is full, say, that is not long: another
    /// worker may have room for the task. But it does not go back before all slots know that they are to claim nothing: they
    /// would claim it, one after the other, until it has no more attempts.
    fn note_patiently(&self, claim: &Claim) -> Result<u32, StoreError> {
        let Executor { store, client, observer, clock, .. } = &self.executor;
        let (id, note) = (claim.task.id, || store.note_claim(claim, client.url(), Some(&self.process)));
        let error = match note() {
            Err(error) if error.may_pass() || self.survives(&error) => error,
            other => return other,
        };
        observer.event(&Event::ClaimWaits { claim, error: error.to_string() });
        let gives_up = || self.queue.is_closed();
        let noted = if error.may_pass() {
            self.until_written(claim.deadline, gives_up, note, StoreError::may_pass)
        } else {
            self.store_failed(error);
            let until = clock.moment().later(GIVE_BACK_AFTER.min(claim.deadline.left()));
            self.until_written(until, gives_up, note, |error| self.survives(error))
        };
        if noted.is_ok() {
            observer.event(&Event::StoreWaited { task_id: id });
            self.end_trouble();
        }
        noted
    }

    /// Stores a result, as long as that may come to pass in time. One whose ideas find no room waits until its `deadline`:
    /// nobody else has it.
    pub(super) fn store_patiently(&self, result: &mut TaskResult, deadline: Moment) -> Result<ResultId, StoreError> {
        let executor = &self.executor;
        let until = executor.clock.moment().later(deadline.left().max(MARK_PATIENCE));
        let error = match self.patiently(result.task_id, until, || false, || executor.store(result)) {
            Err(error) if error.is_of_ideas() && self.survives(&error) => error,
            other => return other,
        };
        self.store_failed(error);
        let survives = |error: &StoreError| error.is_of_ideas() && self.survives(error);
        let stored = self.until_written(deadline, || false, || executor.store(result), survives);
        if stored.is_ok() {
            self.end_trouble();
        }
        stored
    }

    /// A result could not be stored. The disk may be full: then the TaskManager is the only one left to keep it. Where it is
    /// the ideas that could not be kept, it must not hear that the task is done: the task goes back, or, where this worker
    /// ends, the next one takes it up again.
    pub(super) fn not_stored(&self, result: &mut TaskResult, error: &StoreError) {
        let executor = &self.executor;
        let (task_id, text) = (result.task_id, error.to_string());
        self.store_failed(error.clone());
        let (survives, is_of_ideas) = (self.survives(error), error.is_of_ideas());
        if is_of_ideas && !survives {
            // Where this fails, the end of this process counts as one more death over the task.
            let _ = executor.store.set_running(&result.api_url, result.task_id, result.attempt, false);
            executor.observer.event(&Event::IdeasNotKept { task_id, error: text });
            return self.in_flight.leave(task_id);
        }
        if is_of_ideas {
            result.outcome = Outcome::failure(ErrorType::Worker, format!("its ideas could not be kept: {text}"));
        }
        self.in_flight.report(result);
        let reported = matches!(executor.report(result), Ok(Delivery::Confirmed));
        executor.observer.event(&if is_of_ideas {
            Event::GivenBack { task_id, error: text, returned: reported }
        } else {
            Event::NotStored { task_id, error: text, reported }
        });
        if survives {
            self.forget_unstored((task_id, result.attempt));
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
        let error = match write() {
            Err(error) if error.may_pass() => error,
            other => return other,
        };
        self.executor.observer.event(&Event::StoreWaits { task_id, error: error.to_string() });
        let written = self.until_written(deadline, gives_up, write, StoreError::may_pass);
        if written.is_ok() {
            self.executor.observer.event(&Event::StoreWaited { task_id });
            self.end_trouble();
        }
        written
    }

    /// Tries a write that has failed again until `deadline`, unless `gives_up` says not to, the task is stopped, or it fails
    /// for a reason of another kind.
    fn until_written<T>(
        &self,
        deadline: Moment,
        gives_up: impl Fn() -> bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
        may_pass: impl Fn(&StoreError) -> bool,
    ) -> Result<T, StoreError> {
        let stop = self.stops.add();
        let written = loop {
            let stopped = stop.wait_for(Some(StopReason::Shutdown), PAUSE);
            match write() {
                Err(error) if may_pass(&error) && !stopped && !gives_up() && !deadline.left().is_zero() => {}
                other => break other,
            }
        };
        self.stops.remove(&stop);
        written
    }
}
