//! Before the first claim: what earlier processes of this results file left is taken up again.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;

use super::{Event, Executor, Worker, WorkerType, default_timeout};
use crate::clock::{Moment, after};
use crate::handler;
use crate::store::{Process, StoreError};
use crate::task::Claim;

/// Tasks to take up again, by the index of their type, and when their claims end.
pub(super) struct Left {
    claims: Vec<Mutex<VecDeque<(Claim, Moment)>>>,
}

impl Left {
    /// Adds the claim of a task to those that are taken up, until `end`.
    pub(super) fn add(&self, index: usize, claim: Claim, end: Moment) {
        self.of_type(index).push_back((claim, end));
    }

    /// How many there are of a type.
    fn count(&self, index: usize) -> usize {
        self.of_type(index).len()
    }

    fn of_type(&self, index: usize) -> MutexGuard<'_, VecDeque<(Claim, Moment)>> {
        self.claims[index].lock()
    }
}

impl Worker<'_> {
    /// Whether a type has tasks that were left.
    pub(super) fn is_any_left(&self, index: usize) -> bool {
        !self.left.of_type(index).is_empty()
    }

    /// The next task of a type that was left, oldest first. What is run again has its whole time again, as far as its
    /// claim allows. One whose claim has run out meanwhile is left to the server, if that says so as well.
    pub(super) fn take_left(&self, index: usize) -> Option<Claim> {
        self.take_left_from(index, 0)
    }

    /// How many tasks of each type were left.
    pub(super) fn left_counts(&self) -> Vec<usize> {
        (0..self.types.len()).map(|index| self.left.count(index)).collect()
    }

    /// The same as [`Worker::take_left`], without the first so many.
    pub(super) fn take_left_from(&self, index: usize, first: usize) -> Option<Claim> {
        loop {
            let (mut claim, end) = self.left.of_type(index).remove(first)?;
            claim.deadline = self.executor.clock.moment().later(self.types[index].timeout).min(end);
            if !claim.deadline.left().is_zero() {
                return Some(claim);
            }
            self.lost.give_up((claim.task.id, claim.task.attempt));
            // Where this fails, the next write that matters says so.
            let _ = self.executor.store.forget_claim(&claim, self.executor.client.url());
        }
    }
}

/// What had to wait before it runs has its whole time all the same, as far as its claim allows.
pub(super) fn prolong(executor: &Executor<'_>, worker_type: &WorkerType, claim: &mut Claim) {
    let whole = default_timeout(executor.config.claim_timeout.value);
    // Its deadline was one `timeout` after the claim.
    let end = claim.deadline.later(whole.saturating_sub(worker_type.timeout));
    claim.deadline = executor.clock.moment().later(worker_type.timeout).min(end);
}

/// When a claim ends that may be another process's: by the time of day, for want of another, but no later than if it was
/// made now, whatever the clock was set to since.
pub(super) fn end_of(claim: &Claim, worker_type: &WorkerType, executor: &Executor<'_>) -> Moment {
    let (now, whole) = (executor.clock.moment(), default_timeout(executor.config.claim_timeout.value));
    let end = after(claim.claimed_at, whole).max(claim.deadline.time);
    Moment::at(end, now).min(now.later(whole.max(worker_type.timeout)))
}

/// Answers for what handlers start from now on, where they are programs, and ends what those of dead processes left
/// running. A process whose handlers are its own code is left as it is: its children are none of our business.
pub(super) fn end_leftovers(executor: &Executor<'_>, process: &Process, runs_programs: bool) {
    if runs_programs && let Err(error) = handler::supervise(process.mark()) {
        let warning = format!("processes that leave their handler's process group cannot be killed with it: {error}");
        executor.observer.event(&Event::Warning(warning));
    }
    // A mark that cannot be looked up may be a live process's.
    let is_dead = |mark: &str| executor.store.is_mark_alive(mark) == Ok(Some(false));
    for leftover in handler::end_leftovers(is_dead) {
        executor.observer.event(&Event::LeftoverEnded(leftover));
    }
}

/// Finds what is to be taken up again: tasks that a dead process was running.
pub(super) fn find(executor: &Executor<'_>, process: &Process, types: &[WorkerType]) -> Result<Left, StoreError> {
    let left = Left { claims: types.iter().map(|_| Mutex::default()).collect() };
    let api_url = executor.client.url();
    let names: Vec<&str> = types.iter().map(|it| it.name.as_str()).collect();
    for claim in executor.store.take_over(process, api_url, &names)? {
        let Some(index) = names.iter().position(|name| *name == claim.task.task_type) else { continue };
        let end = end_of(&claim, &types[index], executor);
        if !end.left().is_zero() && still_holds(executor, &claim) {
            executor.observer.event(&Event::TakenUp(&claim));
            left.add(index, claim, end);
        } else {
            executor.store.forget_claim(&claim, api_url)?;
        }
    }
    Ok(left)
}

/// Whether a claim can still be worked. Where the TaskManager does not answer, it is worked: whether the result counts
/// is settled when it is reported.
fn still_holds(executor: &Executor<'_>, claim: &Claim) -> bool {
    match executor.client.task(claim.task.id) {
        Ok(task) => {
            task.is_some_and(|task| task.is_claimed_by(&claim.worker_id) && task.attempts == claim.task.attempt)
        }
        Err(error) => !error.is_refusal(),
    }
}
