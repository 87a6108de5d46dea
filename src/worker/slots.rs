//! The slots: each runs one task after the other, and stores its result.

use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::breaker::{Change, Verdict};
use super::in_flight::{Entered, Repeated};
use super::poller::{ClaimedTask, Poller};
use super::recovery::{Recovery, prolong};
use super::report_queue::{FirstReport, PendingReport};
use super::reporter::{MARK_PATIENCE, Reporter};
use super::schedule::{Closed, PollSchedule};
use super::snooze::snooze;
use super::watchdog::Watchdog;
use super::{Context, Event, StoreHealth, WorkerType};
use crate::clock::Moment;
use crate::failpoint;
use crate::resources::for_each_parallel;
use crate::store::{ResultId, StoreError};
use crate::task::{Claim, ErrorType, Failure, TaskResult};

/// How long a claim that cannot be noted for want of room is kept. Longer than the slots need to end what they ask for.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);

/// The slots of a worker.
pub(super) struct Slots<'w> {
    context: &'w Context<'w>,
    store_health: &'w StoreHealth<'w>,
    recovery: &'w Recovery<'w>,
    poller: &'w Poller<'w>,
    reporter: &'w Reporter<'w>,
    pub(super) watchdog: Watchdog,
    /// Held by the slot that looks for lost claims before the end.
    settling: Mutex<()>,
}

/// Tells the others that the slot has ended, also when it panicked: nobody must wait for it in vain.
struct EndOfSlot<'a>(&'a PollSchedule);

impl Drop for EndOfSlot<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close(Closed::Failed);
        }
        self.0.slot_ended();
    }
}

impl<'w> Slots<'w> {
    pub(super) fn new(
        poller: &'w Poller<'w>,
        recovery: &'w Recovery<'w>,
        reporter: &'w Reporter<'w>,
        watchdog: Watchdog,
    ) -> Self {
        let (context, store_health) = (reporter.context, reporter.store_health);
        Self { context, store_health, recovery, poller, reporter, watchdog, settling: Mutex::default() }
    }

    /// Runs tasks in one slot until nothing more is to be claimed.
    pub(super) fn run<'scope>(&'scope self, number: usize, scope: &'scope Scope<'scope, '_>) {
        let _ended = EndOfSlot(&self.context.schedule);
        while let Some(permit) = self.context.schedule.acquire() {
            self.watchdog.back_in(number, permit.wait);
            if let Some(claimed) = self.poller.poll(&permit) {
                self.watchdog.back_in(number, claimed.claim.deadline.left());
                self.work(claimed, scope);
            }
            self.watchdog.rests(number);
        }
        self.work_lost_claims(number, scope);
    }

    /// What a worker that has done all it was to do has claimed without hearing of it is worked as well: else it would be
    /// left claimed. The first slot to end sees to that.
    fn work_lost_claims<'scope>(&'scope self, number: usize, scope: &'scope Scope<'scope, '_>) {
        let _alone = self.settling.lock();
        // What an earlier process left beyond the limit stays for the next.
        let left = self.recovery.counts();
        if !self.context.schedule.is_done() || !self.recovery.settle_all() {
            return;
        }
        for (index, first) in left.into_iter().enumerate() {
            while let Some(claim) = self.recovery.take_from(index, first) {
                self.context.schedule.enter(index);
                self.watchdog.back_in(number, claim.deadline.left());
                self.work(ClaimedTask { index, claim, is_recovered: true, polled_at: Instant::now() }, scope);
            }
        }
        self.watchdog.rests(number);
    }

    /// Runs a task, gives its room back, and hands its result to the reporter.
    fn work<'scope>(&'scope self, claimed: ClaimedTask, scope: &'scope Scope<'scope, '_>) {
        let (index, polled_at) = (claimed.index, claimed.polled_at);
        let attempt = (claimed.claim.task.id, claimed.claim.task.attempt);
        match self.run_and_store(claimed) {
            Ok(Some((report, verdict))) => {
                self.finish_run(index, verdict, true);
                self.reporter.submit(report, scope);
            }
            not_stored => {
                if let Err(error) = not_stored {
                    self.store_health.failed(error);
                }
                self.context.in_flight.release(attempt);
                self.context.schedule.note_claim(attempt.0, true, polled_at);
                self.finish_run(index, Verdict::Unknown, false);
            }
        }
    }

    fn finish_run(&self, index: usize, verdict: Verdict, is_stored: bool) {
        let task_type = self.context.types[index].name.as_str();
        match self.context.schedule.finish_run(index, verdict, is_stored) {
            Some(Change::Opened(pause)) => self.context.tell(&Event::Paused { task_type, pause }),
            Some(Change::Closed) => self.context.tell(&Event::Resumed(task_type)),
            None => {}
        }
    }

    /// The stored result, and what it says about the service behind its type; `None` if the claim is not to be run.
    fn run_and_store(&self, claimed: ClaimedTask) -> Result<Option<(PendingReport, Verdict)>, StoreError> {
        let context = self.context;
        let ClaimedTask { index, claim, is_recovered, polled_at } = claimed;
        let worker_type = &context.types[index];
        failpoint::reach("claimed");
        let (mut claim, crashes) = self.note_or_give_back(claim)?;
        if self.enter(&claim) != Entered::New {
            return Ok(None);
        }
        if !is_recovered {
            prolong(context, worker_type, &mut claim);
        }
        context.tell(&Event::Claimed(&claim));
        failpoint::reach("noted");
        let (attempt, deadline) = (claim.task.attempt, claim.deadline);
        let mut result = self.run_stoppable(worker_type, claim, crashes);
        context.in_flight.renew(&mut result);
        self.count(&result);
        failpoint::reach("ran");
        let id = self.store(&mut result, deadline).inspect_err(|error| self.not_stored(&mut result, error))?;
        context.in_flight.stored(result.task_id);
        // Before the task can be back in the queue.
        let is_snoozed = snooze(context, worker_type, &result.outcome);
        let verdict = verdict(&result, is_snoozed);
        let first = FirstReport { attempt, polled_at, has_run: has_run(&result) };
        failpoint::reach("stored");
        Ok(Some((PendingReport::new(id, result, is_recovered, first), verdict)))
    }

    /// Notes that a task is in flight, and says what becomes of its claim. If a report of the task is under way, its fate
    /// comes first.
    fn enter(&self, claim: &Claim) -> Entered {
        let in_flight = &self.context.in_flight;
        let entered = match in_flight.enter(claim) {
            Entered::MustWait => self.wait_for_earlier_report(claim),
            other => other,
        };
        match entered {
            Entered::Continues => {
                let again = in_flight.is_repeated(claim.task.id, Repeated::ClaimRenewed);
                self.context.tell(&Event::ClaimRenewed { claim, again });
            }
            Entered::GivenUp | Entered::Ending => self.give_up_waiting(claim, entered == Entered::Ending),
            Entered::New | Entered::MustWait => {}
        }
        entered
    }

    /// Waits for the fate of the report that stands between a claim and its run. If this process dies meanwhile, that
    /// says nothing of the task; if noting that fails, it counts as a crash over the task all the same.
    fn wait_for_earlier_report(&self, claim: &Claim) -> Entered {
        let (store, api_url) = (self.context.store(), self.context.client().url());
        let note = |is_running| store.set_running(api_url, claim.task.id, claim.task.attempt, is_running);
        let _ = note(false);
        // A slot that waits for longer would be taken for hanging.
        let patience = claim.deadline.left().min(self.watchdog.slack() / 2);
        let entered = self.context.in_flight.wait(claim, patience);
        if entered == Entered::New {
            let _ = note(true);
        }
        entered
    }

    /// The fate of an earlier report has not become known in time. If this process ends, the next worker takes the claim
    /// up; else a look at the TaskManager finds it again, unless it has expired.
    fn give_up_waiting(&self, claim: &Claim, is_ending: bool) {
        if !is_ending {
            // If this fails, the next write that matters says so.
            let _ = self.context.store().forget_claim(claim, self.context.client().url());
            self.context.in_flight.give_up((claim.task.id, claim.task.attempt));
        }
        let reason = "the report of its previous attempt is still being sent";
        self.context.tell(&Event::NotRun { claim, reason });
    }

    fn run_stoppable(&self, worker_type: &WorkerType, claim: Claim, crashes: u32) -> TaskResult {
        let stop = self.context.in_flight.cancel_token();
        let result = self.context.executor.run(claim, crashes, worker_type, &stop);
        self.context.in_flight.drop_token(&stop);
        result
    }

    fn count(&self, result: &TaskResult) {
        if result.outcome.is_not_run() {
            return;
        }
        let mut counters = self.context.counters.lock();
        *if result.outcome.failure.is_none() { &mut counters.completed } else { &mut counters.failed } += 1;
    }

    /// Ends what handlers keep for tasks to come, all at once: none of them is to wait for another.
    pub(super) fn end_idle_handlers(&self) {
        let stop = self.context.in_flight.cancel_token();
        for_each_parallel(self.context.types.iter().collect(), |worker_type: &WorkerType| worker_type.end_idle(&stop));
    }
}

/// What becomes of claims and results while the results file cannot be written: they wait, or go to the TaskManager, so
/// that no task waits for the end of a claim that nobody works.
impl Slots<'_> {
    /// Notes a claim before it is worked. If that cannot be done, nothing more is claimed, and the claim goes back.
    fn note_or_give_back(&self, claim: Claim) -> Result<(Claim, u32), StoreError> {
        let error = match self.note(&claim) {
            Ok(crashes) => return Ok((claim, crashes)),
            Err(error) => error,
        };
        // Before the task can be back in the queue: it is not to be claimed here again.
        self.store_health.failed(error.clone());
        let (context, task_id) = (self.context, claim.task.id);
        let completer = &context.executor.completer;
        let entered = self.enter(&claim);
        // Else what runs here already, or its result, goes under it.
        if entered != Entered::Continues {
            let mut result = completer.not_run(claim, &error);
            if entered == Entered::New {
                // From now on the task may be back in the queue, and claimed again.
                context.in_flight.report(&mut result);
            }
            let returned = completer.is_confirmed(&result);
            if entered == Entered::New {
                context.in_flight.leave(task_id);
            }
            context.tell(&Event::GivenBack { task_id, error: error.to_string(), returned });
        }
        Err(error)
    }

    /// Notes a claim, as long as that may come to pass in time; returns how often a worker has crashed over its task. If
    /// the disk is full, say, that is not long: another worker may have room for the task. But it does not go back before
    /// all slots know that they are to claim nothing: they would claim it, one after the other, until it has no more
    /// attempts.
    fn note(&self, claim: &Claim) -> Result<u32, StoreError> {
        let (context, health) = (self.context, self.store_health);
        let note = || context.store().note_claim(claim, context.client().url(), Some(&context.process));
        let error = match note() {
            Err(error) if error.may_pass() || health.survives(&error) => error,
            other => return other,
        };
        context.tell(&Event::ClaimWaits { claim, error: error.to_string() });
        let gives_up = || context.schedule.is_closed();
        let noted = if error.may_pass() {
            health.until_written(claim.deadline, gives_up, note, StoreError::may_pass)
        } else {
            health.failed(error);
            let until = context.clock().moment().later(GIVE_BACK_AFTER.min(claim.deadline.left()));
            health.until_written(until, gives_up, note, |error| health.survives(error))
        };
        if noted.is_ok() {
            context.tell(&Event::StoreWaited { task_id: claim.task.id });
            health.recovered();
        }
        noted
    }

    /// Stores a result, as long as that may come to pass in time. One whose ideas find no room waits until its `deadline`:
    /// nobody else has it.
    fn store(&self, result: &mut TaskResult, deadline: Moment) -> Result<ResultId, StoreError> {
        let (context, health) = (self.context, self.store_health);
        let completer = &context.executor.completer;
        let until = context.clock().moment().later(deadline.left().max(MARK_PATIENCE));
        let error = match health.patiently(result.task_id, until, || completer.store(result)) {
            Err(error) if error.is_of_ideas() && health.survives(&error) => error,
            other => return other,
        };
        health.failed(error);
        let survives = |error: &StoreError| error.is_of_ideas() && health.survives(error);
        let stored = health.until_written(deadline, || false, || completer.store(result), survives);
        if stored.is_ok() {
            health.recovered();
        }
        stored
    }

    /// Sees to a result that could not be stored.
    fn not_stored(&self, result: &mut TaskResult, error: &StoreError) {
        let (context, health) = (self.context, self.store_health);
        health.failed(error.clone());
        let survives = health.survives(error);
        if survives || !error.is_of_ideas() {
            context.in_flight.report(result);
        }
        context.executor.completer.report_unstored(result, error, survives);
        if survives {
            health.forget_unstored((result.task_id, result.attempt));
        }
        context.in_flight.leave(result.task_id);
    }
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
