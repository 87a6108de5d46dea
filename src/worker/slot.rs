//! One slot of the worker: claim, run, store, report, claim.

use std::thread;
use std::time::{Duration, Instant};

use super::breaker::{Change, Verdict};
use super::in_flight::Entered;
use super::queue::{Closed, Queue, Sweep, Turn};
use super::recovery::prolong;
use super::sweep::Found;
use super::told::News;
use super::trouble::LOOK_EVERY;
use super::unsettled::Unsettled;
use super::{Event, Executor, Worker, WorkerType};
use crate::failpoint;
use crate::store::StoreError;
use crate::task::{Claim, ErrorType, Failure, TaskResult};

/// The results file is told of polls no more often than this.
const NOTE_POLLS_EVERY: Duration = Duration::from_secs(10);

/// Works tasks until nothing more is to be claimed.
pub(super) fn run(worker: &Worker<'_>, number: usize) {
    let _ended = EndOfSlot(&worker.queue);
    while let Some(turn) = worker.queue.turn() {
        worker.pulse.back_in(number, turn.wait);
        // Before a task is claimed: where nothing can be written, none is.
        if !worker.can_store() {
            worker.queue.end_turn(&turn, Sweep::Failed { index: turn.first, pause: Some(LOOK_EVERY) });
            worker.pulse.rests(number);
            continue;
        }
        match worker.sweep(&turn) {
            Found::Task { index, claim, left } => {
                worker.pulse.back_in(number, claim.deadline.left());
                worker.end_turn(&turn, Sweep::Task(index));
                worker.work_one(index, claim, left, turn.start());
            }
            Found::Nothing { paused } => worker.end_turn(&turn, Sweep::Empty { paused }),
            Found::Partial => worker.end_turn(&turn, Sweep::Partial),
            Found::NoAnswer { index, pause } => worker.end_turn(&turn, Sweep::Failed { index, pause }),
        }
        worker.pulse.rests(number);
    }
    worker.work_lost_claims(number);
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

impl Worker<'_> {
    fn end_turn(&self, turn: &Turn, sweep: Sweep) {
        self.queue.end_turn(turn, sweep);
        self.executor.observer.event(&Event::Polled);
    }

    /// What a worker that has done all it was to do has claimed without hearing of it is worked as well: else it would be
    /// left claimed. The first slot to end sees to that.
    fn work_lost_claims(&self, number: usize) {
        let _alone = self.settling.lock();
        // What an earlier process left beyond the limit stays for the next.
        let left = self.left_counts();
        if !self.queue.is_done() || !self.settle_all_lost_claims() {
            return;
        }
        for (index, first) in left.into_iter().enumerate() {
            while let Some(claim) = self.take_left_from(index, first) {
                self.queue.take_place(index);
                self.pulse.back_in(number, claim.deadline.left());
                self.work_one(index, claim, true, Instant::now());
            }
        }
        self.pulse.rests(number);
    }

    /// Works a task, and gives its place back.
    fn work_one(&self, index: usize, claim: Claim, left: bool, asked_at: Instant) {
        let worker_type = &self.types[index];
        let attempt = (claim.task.id, claim.task.attempt);
        let Worked { verdict, is_in_vain } = self.store_and_report(worker_type, claim, left).unwrap_or_else(|error| {
            self.store_failed(error);
            Worked::NOT
        });
        self.lost.release(attempt);
        self.queue.note_claim(attempt.0, is_in_vain, asked_at);
        let task_type = worker_type.name.as_str();
        match self.queue.finished(index, verdict) {
            Some(Change::Opened(pause)) => self.executor.observer.event(&Event::Paused { task_type, pause }),
            Some(Change::Closed) => self.executor.observer.event(&Event::Resumed(task_type)),
            None => {}
        }
    }

    fn store_and_report(&self, worker_type: &WorkerType, claim: Claim, left: bool) -> Result<Worked, StoreError> {
        let executor = &self.executor;
        failpoint::reach("claimed");
        let (mut claim, deaths) = self.note_or_give_back(claim)?;
        if self.enter(&claim) != Entered::New {
            return Ok(Worked::NOT);
        }
        if !left {
            prolong(executor, worker_type, &mut claim);
        }
        executor.observer.event(&Event::Claimed(&claim));
        failpoint::reach("noted");
        let (task_id, deadline) = (claim.task.id, claim.deadline);
        let mut result = self.run_stoppable(worker_type, claim, deaths);
        self.in_flight.renew(&mut result);
        self.count(&result);
        failpoint::reach("ran");
        match self.store_patiently(&mut result, deadline) {
            Ok(id) => {
                // Before the task can be back in the queue.
                let is_snoozed = self.snooze(worker_type, &result.outcome);
                let (verdict, has_run) = (verdict(&result, is_snoozed), has_run(&result));
                let taken = self.report(Unsettled::new(id, result, left)).inspect_err(|error| {
                    let error = error.to_string();
                    executor.observer.event(&Event::NotStored { task_id, error, reported: true });
                })?;
                Ok(Worked { verdict, is_in_vain: !(taken && has_run) })
            }
            Err(error) => {
                self.not_stored(&mut result, &error);
                Err(error)
            }
        }
    }

    /// Notes that a task is in flight, and says what becomes of its claim. If a report of the task is under way, its fate
    /// comes first.
    pub(super) fn enter(&self, claim: &Claim) -> Entered {
        let entered = match self.in_flight.enter(claim) {
            Entered::MustWait => self.wait_for_earlier_report(claim),
            other => other,
        };
        match entered {
            Entered::Continues => {
                let again = self.told.again(claim.task.id, News::ClaimRenewed);
                self.executor.observer.event(&Event::ClaimRenewed { claim, again });
            }
            Entered::GivenUp | Entered::Ending => self.give_up_waiting(claim, entered == Entered::Ending),
            Entered::New | Entered::MustWait => {}
        }
        entered
    }

    /// Waits for the fate of the report that stands between a claim and its run. If this process dies meanwhile, that
    /// says nothing of the task; where noting that fails, it counts as a crash over the task all the same.
    fn wait_for_earlier_report(&self, claim: &Claim) -> Entered {
        let Executor { store, client, .. } = &self.executor;
        let note = |is_running| store.set_running(client.url(), claim.task.id, claim.task.attempt, is_running);
        let _ = note(false);
        // A slot that waits for longer would be taken for hanging.
        let entered = self.in_flight.wait(claim, claim.deadline.left().min(self.pulse.slack() / 2));
        if entered == Entered::New {
            let _ = note(true);
        }
        entered
    }

    /// The fate of an earlier report has not become known in time. If this process ends, the next worker takes the claim
    /// up; else a look at the TaskManager finds it again, unless it has expired.
    fn give_up_waiting(&self, claim: &Claim, is_ending: bool) {
        if !is_ending {
            // Where this fails, the next write that matters says so.
            let _ = self.executor.store.forget_claim(claim, self.executor.client.url());
            self.lost.give_up((claim.task.id, claim.task.attempt));
        }
        let reason = "the report of its previous attempt is still being sent";
        self.executor.observer.event(&Event::NotRun { claim, reason });
    }

    fn run_stoppable(&self, worker_type: &WorkerType, claim: Claim, deaths: u32) -> TaskResult {
        let stop = self.stops.add();
        let result = self.executor.run(claim, deaths, worker_type, &stop);
        self.stops.remove(&stop);
        result
    }

    fn count(&self, result: &TaskResult) {
        if result.outcome.is_not_run() {
            return;
        }
        let mut counters = self.counters.lock();
        *if result.outcome.failure.is_none() { &mut counters.completed } else { &mut counters.failed } += 1;
    }

    /// Tells the results file now and then that the worker polls, for whoever looks at its health. Where that fails, and
    /// does not pass by itself, nothing is to be claimed.
    pub(super) fn note_poll(&self) {
        let is_recent = |last: &Instant| last.elapsed() < NOTE_POLLS_EVERY;
        if self.last_noted_poll.lock().as_ref().is_some_and(is_recent) {
            return;
        }
        let noted = self.tell_of_poll();
        match &noted {
            Err(error) if self.survives(error) || !error.may_pass() => self.store_failed(error.clone()),
            _ => {
                let error = noted.err().map(|error| error.to_string());
                self.executor.observer.event(&Event::PollNoted(error));
            }
        }
    }

    /// Tells the results file that the worker polls.
    pub(super) fn tell_of_poll(&self) -> Result<(), StoreError> {
        *self.last_noted_poll.lock() = Some(Instant::now());
        let counters = *self.counters.lock();
        self.executor.store.note_poll(&self.process, counters, self.executor.clock.now())
    }
}

/// What came of a claim.
struct Worked {
    verdict: Verdict,
    /// The task would be handed out again for all that was done.
    is_in_vain: bool,
}

impl Worked {
    /// Nothing.
    const NOT: Self = Self { verdict: Verdict::Unknown, is_in_vain: true };
}

/// Whether a handler was run, and is none that always refuses: else another attempt would be as quick.
fn has_run(result: &TaskResult) -> bool {
    let unrun =
        [ErrorType::Validation, ErrorType::Other("max_attempts".into()), ErrorType::Other("worker_died".into())];
    let is_unrun = |failure: &Failure| unrun.contains(&failure.error_type);
    !result.outcome.is_not_run() && !result.outcome.failure.as_ref().is_some_and(is_unrun)
}

/// What an attempt says about the service behind its type. Where the type `is_snoozed`, its handler knows when to go on.
fn verdict(result: &TaskResult, is_snoozed: bool) -> Verdict {
    match &result.outcome.failure {
        Some(_) if is_snoozed || result.outcome.is_not_run() => Verdict::Unknown,
        Some(failure) if [ErrorType::Shutdown, ErrorType::Other("claim_lost".into())].contains(&failure.error_type) => {
            Verdict::Unknown
        }
        Some(failure) if failure.retryable => Verdict::Fails,
        _ => Verdict::Works,
    }
}
