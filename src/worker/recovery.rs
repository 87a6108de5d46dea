//! Before the first claim: what earlier processes of this results file left is taken up again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Event, Executor, Worker, WorkerType, default_timeout};
use crate::clock::after;
use crate::config::Origin;
use crate::handler;
use crate::store::{Process, StoreError};
use crate::task::{Claim, Task};
use crate::taskmanager::{Error, TaskFilter, TaskView};

/// Tasks to take up again, by the index of their type.
pub(super) struct Left {
    claims: Vec<Mutex<VecDeque<Claim>>>,
}

impl Left {
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

/// What is run again has its whole time again, as far as its claim allows.
fn prolong(executor: &Executor<'_>, worker_type: &WorkerType, claim: &mut Claim) {
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

/// Finds what is to be taken up again: tasks that a dead process was running, and tasks that the TaskManager shows as
/// claimed by this worker although no answer to that claim ever arrived.
pub(super) fn find(executor: &Executor<'_>, process: &Process, types: &[WorkerType]) -> Result<Left, StoreError> {
    let left = Left { claims: types.iter().map(|_| Mutex::default()).collect() };
    let add = |index: usize, claim: Claim| {
        executor.observer.event(&Event::TakenUp(&claim));
        left.of_type(index).push_back(claim);
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
    // A worker id that is new for each process cannot have claimed anything before.
    if executor.config.worker_id.origin != Origin::Default {
        unheard_claims(executor, types)?.into_iter().for_each(|(index, claim)| add(index, claim));
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
            task.is_some_and(|task| is_claimed_by(&task, &claim.worker_id) && task.attempts == claim.task.attempt)
        }
        Err(error) => !error.is_refusal(),
    }
}

fn is_claimed_by(task: &TaskView, worker_id: &str) -> bool {
    task.status == "claimed" && task.claimed_by.as_deref() == Some(worker_id)
}

/// Claims of this worker that the TaskManager knows and the results file does not. Where the TaskManager does not
/// answer, they are left to it: it hands them out again.
fn unheard_claims(executor: &Executor<'_>, types: &[WorkerType]) -> Result<Vec<(usize, Claim)>, StoreError> {
    let mut found = Vec::new();
    for task in claimed_tasks(executor).unwrap_or_default() {
        let Some(index) = types.iter().position(|it| it.name == task.task_type) else { continue };
        let known = executor.store.claim(executor.client.url(), task.id)?.is_some()
            || executor.store.has_result(executor.client.url(), task.id, task.attempts)?;
        if let (false, Ok(Some(whole))) = (known, executor.client.task(task.id)) {
            found.push((index, claim_again(executor, &types[index], whole)));
        }
    }
    Ok(found)
}

fn claimed_tasks(executor: &Executor<'_>) -> Result<Vec<TaskView>, Error> {
    /// More tasks than any worker can have in flight.
    const MOST: u32 = 1000;
    let filter = TaskFilter { status: Some("claimed".into()), limit: MOST, ..TaskFilter::default() };
    let mut tasks = executor.client.tasks(&filter)?;
    tasks.retain(|task| is_claimed_by(task, &executor.config.worker_id));
    Ok(tasks)
}

/// When the task was claimed is not known in this machine's time, so it is worked as if it was now. Should the claim
/// run out before, the report finds out.
fn claim_again(executor: &Executor<'_>, worker_type: &WorkerType, task: TaskView) -> Claim {
    let now = executor.clock.now();
    let task = Task {
        id: task.id,
        task_type: task.task_type,
        params: task.params.unwrap_or_default(),
        attempt: task.attempts,
        priority: task.priority,
    };
    executor.claim(task, worker_type, now)
}
