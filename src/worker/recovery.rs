//! Before the first claim: what earlier processes of this results file left is taken up again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Event, Executor, Worker, WorkerType, default_timeout};
use crate::clock::after;
use crate::handler;
use crate::store::{Process, StoreError};
use crate::task::Claim;

/// Tasks to take up again, by the index of their type.
pub(super) struct Left {
    claims: Vec<Mutex<VecDeque<Claim>>>,
}

impl Left {
    /// Adds the claim of a task to those that are taken up.
    pub(super) fn add(&self, index: usize, claim: Claim) {
        self.of_type(index).push_back(claim);
    }

    fn of_type(&self, index: usize) -> MutexGuard<'_, VecDeque<Claim>> {
        self.claims[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker<'_> {
    /// Whether a type has tasks that were left.
    pub(super) fn is_any_left(&self, index: usize) -> bool {
        !self.left.of_type(index).is_empty()
    }

    /// The next task of a type that was left, oldest first. One whose claim has run out meanwhile is left to the server.
    pub(super) fn take_left(&self, index: usize) -> Option<Claim> {
        loop {
            let mut claim = self.left.of_type(index).pop_front()?;
            prolong(&self.executor, &self.types[index], &mut claim);
            if claim.deadline > self.executor.clock.now() {
                return Some(claim);
            }
            // Where this fails, the next write that matters says so.
            let _ = self.executor.store.forget_claim(&claim, self.executor.client.url());
        }
    }
}

/// What was left, or had to wait, before it runs has its whole time all the same, as far as its claim allows.
pub(super) fn prolong(executor: &Executor<'_>, worker_type: &WorkerType, claim: &mut Claim) {
    let end = after(claim.claimed_at, default_timeout(executor.config.claim_timeout.value));
    claim.deadline = after(executor.clock.now(), worker_type.timeout).min(end).max(claim.deadline);
}

/// Answers for what handlers start from now on, where they are programs, and ends what those of dead processes left
/// running. A process whose handlers are its own code is left as it is: its children are none of our business.
pub(super) fn end_leftovers(executor: &Executor<'_>, process: &Process, runs_programs: bool) {
    if runs_programs && let Err(error) = handler::supervise(process.mark()) {
        let warning = format!("what handlers start outside of their process groups is not ended with them: {error}");
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
    let add = |index: usize, claim: Claim| {
        executor.observer.event(&Event::TakenUp(&claim));
        left.add(index, claim);
    };
    let api_url = executor.client.url();
    let names: Vec<&str> = types.iter().map(|it| it.name.as_str()).collect();
    for mut claim in executor.store.take_over(process, api_url, &names)? {
        let Some(index) = names.iter().position(|name| *name == claim.task.task_type) else { continue };
        prolong(executor, &types[index], &mut claim);
        if still_holds(executor, &claim) {
            add(index, claim);
        } else {
            executor.store.forget_claim(&claim, api_url)?;
        }
    }
    Ok(left)
}

/// Whether a claim can still be worked. Where the TaskManager does not answer, it is worked: whether the result counts
/// is settled when it is reported.
fn still_holds(executor: &Executor<'_>, claim: &Claim) -> bool {
    if claim.deadline <= executor.clock.now() {
        return false;
    }
    match executor.client.task(claim.task.id) {
        Ok(task) => {
            task.is_some_and(|task| task.is_claimed_by(&claim.worker_id) && task.attempts == claim.task.attempt)
        }
        Err(error) => !error.is_refusal(),
    }
}
