//! What becomes of claims and results while the results file cannot be written: they wait, or go to the TaskManager, so that
//! no task waits for the end of a claim that nobody works.

use std::time::Duration;

use super::in_flight::Entered;
use super::report::MARK_PATIENCE;
use super::{Event, Executor, Worker};
use crate::clock::Moment;
use crate::shutdown::StopReason;
use crate::store::{ResultId, StoreError};
use crate::task::{Claim, TaskId, TaskResult};

/// The pause before a write is tried again that another process holds up, or want of memory, say.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a claim that cannot be noted for want of room is kept. Longer than the slots need to end what they ask for.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);

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
            let mut result = self.completer.not_run(claim, &error);
            if entered == Entered::New {
                // From now on the task may be back in the queue, and claimed again.
                self.in_flight.report(&mut result);
            }
            let returned = self.completer.is_confirmed(&result);
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
        let until = self.executor.clock.moment().later(deadline.left().max(MARK_PATIENCE));
        let error = match self.patiently(result.task_id, until, || false, || self.completer.store(result)) {
            Err(error) if error.is_of_ideas() && self.survives(&error) => error,
            other => return other,
        };
        self.store_failed(error);
        let survives = |error: &StoreError| error.is_of_ideas() && self.survives(error);
        let stored = self.until_written(deadline, || false, || self.completer.store(result), survives);
        if stored.is_ok() {
            self.end_trouble();
        }
        stored
    }

    /// Sees to a result that could not be stored.
    pub(super) fn not_stored(&self, result: &mut TaskResult, error: &StoreError) {
        self.store_failed(error.clone());
        let survives = self.survives(error);
        if survives || !error.is_of_ideas() {
            self.in_flight.report(result);
        }
        self.completer.report_unstored(result, error, survives);
        if survives {
            self.forget_unstored((result.task_id, result.attempt));
        }
        self.in_flight.leave(result.task_id);
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
