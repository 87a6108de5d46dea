//! The slots: each runs one task at a time and stores its result.

use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::breaker::{CircuitChange, Verdict};
use super::in_flight::{AttemptId, Entered, Repeated};
use super::poller::Poller;
use super::recovery::{Recovery, extend_deadline};
use super::report_queue::FirstReport;
use super::reporter::{MARK_TIMEOUT, Reporter};
use super::schedule::{ClaimedTask, NextStep, PollSchedule, RanTask};
use super::watchdog::Watchdog;
use super::{Context, Event, StoreHealth, WorkerType};
use crate::clock::Moment;
use crate::failpoint;
use crate::parallel::for_each_parallel;
use crate::store::{ResultId, StoreError};
use crate::task::{Claim, ErrorType, Failure, TaskResult};

/// How long to keep a claim that cannot be noted because the disk is full. Longer than the slots need to finish their
/// polls.
const RETURN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Slots<'w> {
    pub(super) context: &'w Context<'w>,
    store_health: &'w StoreHealth<'w>,
    recovery: &'w Recovery<'w>,
    poller: &'w Poller<'w>,
    pub(super) reporter: &'w Reporter<'w>,
    pub(super) watchdog: Watchdog,
    /// Held by the slot that searches for lost claims before the worker exits.
    searching_lost_claims: Mutex<()>,
}

/// Marks the slot as ended when dropped, even after a panic, so that nobody waits for it forever.
struct SlotGuard<'a>(&'a PollSchedule);

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.abort();
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
        Self { context, store_health, recovery, poller, reporter, watchdog, searching_lost_claims: Mutex::default() }
    }

    /// Runs tasks in one slot until the schedule is closed.
    pub(super) fn run<'scope>(&'scope self, number: usize, scope: &'scope Scope<'scope, '_>) {
        let _ended = SlotGuard(&self.context.schedule);
        while let Some(next) = self.context.schedule.acquire() {
            let claimed = match next {
                NextStep::Poll(permit) => {
                    self.watchdog.expect_within(number, permit.wait);
                    self.poller.poll(&permit)
                }
                NextStep::Run(claimed) => Some(claimed),
                NextStep::StoreAll(ran) => {
                    self.watchdog.expect_within(number, MARK_TIMEOUT);
                    self.store_all(ran, scope);
                    None
                }
                NextStep::Store(ran) => {
                    self.watchdog.expect_within(number, ran.deadline.left().max(MARK_TIMEOUT));
                    self.store_alone(*ran, scope);
                    None
                }
            };
            if let Some(claimed) = claimed {
                self.watchdog.expect_within(number, claimed.claim.deadline.left());
                if let Some(ran) = self.work(claimed) {
                    self.finish(ran, scope);
                }
            }
            self.watchdog.clear(number);
        }
        self.work_lost_claims(number, scope);
    }

    /// Runs tasks that were claimed without this worker hearing of it, so that they do not stay claimed. Done by the
    /// first slot that ends.
    fn work_lost_claims<'scope>(&'scope self, number: usize, scope: &'scope Scope<'scope, '_>) {
        let _alone = self.searching_lost_claims.lock();
        // Tasks of earlier processes beyond `max_tasks` are left to the next worker.
        let left = self.recovery.counts();
        if !self.context.schedule.ends_by_itself() || !self.recovery.find_all() {
            return;
        }
        for (index, skip) in left.into_iter().enumerate() {
            while let Some(claim) = self.recovery.take_after(index, skip) {
                self.context.schedule.enter(index);
                self.watchdog.expect_within(number, claim.deadline.left());
                let polled_at = Instant::now();
                if let Some(ran) = self.work(self.context.claimed_task(index, claim, true, polled_at)) {
                    self.store_alone(ran, scope);
                }
            }
        }
        self.watchdog.clear(number);
    }

    /// Runs a task; `None` if it must not run.
    fn work(&self, claimed: ClaimedTask) -> Option<RanTask> {
        let (index, polled_at) = (claimed.index, claimed.polled_at);
        let (attempt, stop) = ((claimed.claim.task.id, claimed.claim.task.attempt), Arc::clone(&claimed.stop));
        let ran = self.run_noted(claimed);
        if let Ok(Some(ran)) = ran {
            self.context.in_flight.end_run(&stop);
            return Some(ran);
        }
        self.context.in_flight.drop_token(&stop);
        self.not_finished(index, attempt, polled_at, ran.err());
        None
    }

    /// Notes that there is no stored result of a claimed task, and frees its room in the schedule.
    pub(super) fn not_finished(&self, index: usize, attempt: AttemptId, polled_at: Instant, error: Option<StoreError>) {
        if let Some(error) = error {
            self.store_health.failed(error);
        }
        self.context.in_flight.end_attempt(attempt);
        self.context.schedule.note_claim(attempt.0, true, polled_at);
        self.emit_change(index, self.context.schedule.finish_run(index, Verdict::Unknown, false));
    }

    pub(super) fn emit_change(&self, index: usize, change: Option<CircuitChange>) {
        let task_type = self.context.types[index].name.as_str();
        match change {
            Some(CircuitChange::Opened(pause)) => self.context.emit(&Event::CircuitOpened { task_type, pause }),
            Some(CircuitChange::Closed) => self.context.emit(&Event::CircuitClosed(task_type)),
            None => {}
        }
    }

    /// Runs a task once its claim is noted; `None` if it must not run.
    fn run_noted(&self, claimed: ClaimedTask) -> Result<Option<RanTask>, StoreError> {
        let context = self.context;
        let ClaimedTask { index, claim, stop, is_recovered, polled_at, noted } = claimed;
        let worker_type = &context.types[index];
        let (mut claim, crashes) = match noted {
            Some(crashes) => (claim, crashes),
            None => self.note_or_return(claim)?,
        };
        if self.enter(&claim) != Entered::New {
            return Ok(None);
        }
        if !is_recovered {
            extend_deadline(context, worker_type, &mut claim);
        }
        context.emit(&Event::Claimed(&claim));
        failpoint::reach("noted");
        let (attempt, deadline) = (claim.task.attempt, claim.deadline);
        let mut result = context.executor.run(claim, crashes, worker_type, &stop);
        context.in_flight.renew(&mut result);
        self.count(&result);
        failpoint::reach("ran");
        let first = FirstReport { attempt, polled_at, is_quick_failure: is_quick_failure(&result) };
        Ok(Some(RanTask { index, result, deadline, is_recovered, first }))
    }

    /// Enters a claim in [`InFlight`], and returns what to do with it. If a report of the task is being sent, waits for
    /// its outcome.
    fn enter(&self, claim: &Claim) -> Entered {
        let in_flight = &self.context.in_flight;
        let entered = match in_flight.enter(claim) {
            Entered::MustWait => self.wait_for_earlier_report(claim),
            other => other,
        };
        match entered {
            Entered::Continues => {
                let is_repeated = !in_flight.mark_emitted(claim.task.id, Repeated::ClaimRenewed);
                self.context.emit(&Event::ClaimRenewed { claim, is_repeated });
            }
            Entered::GivenUp | Entered::Ending => self.give_up_waiting(claim, entered == Entered::Ending),
            Entered::New | Entered::MustWait => {}
        }
        entered
    }

    /// Waits for the outcome of an earlier report of the same task. If this process dies meanwhile, the task is not to
    /// blame; but if noting that fails, it counts as a crash all the same.
    fn wait_for_earlier_report(&self, claim: &Claim) -> Entered {
        let (store, api_url) = (self.context.store(), self.context.client().url());
        let note = |is_running| store.set_running(api_url, claim.task.id, claim.task.attempt, is_running);
        let _ = note(false);
        // A slot that waits longer would be considered hung.
        let limit = claim.deadline.left().min(self.watchdog.slack() / 2);
        let entered = self.context.in_flight.wait(claim, limit);
        if entered == Entered::New {
            let _ = note(true);
        }
        entered
    }

    /// Handles a claim whose earlier report was not settled in time. If this process exits, the next worker recovers
    /// the claim; otherwise a search at the TaskManager finds it again, unless it has expired.
    fn give_up_waiting(&self, claim: &Claim, is_ending: bool) {
        if !is_ending {
            // It seems to have expired.
            self.context.give_up_claim(claim);
        }
        let reason = "the report of its previous attempt is still being sent";
        self.context.emit(&Event::NotRun { claim, reason });
    }

    fn count(&self, result: &TaskResult) {
        if result.outcome.is_not_run() {
            return;
        }
        let mut counters = self.context.counters.lock();
        *if result.outcome.failure.is_none() { &mut counters.completed } else { &mut counters.failed } += 1;
    }

    /// Ends idle persistent processes, all at the same time.
    pub(super) fn end_idle_handlers(&self) {
        let stop = self.context.in_flight.cancel_token(None);
        for_each_parallel(self.context.types.iter().collect(), |worker_type: &WorkerType| worker_type.end_idle(&stop));
    }
}

/// Claims and results while the results file cannot be written: they wait, or go to the TaskManager, so that no task
/// stays claimed without being worked.
impl Slots<'_> {
    /// Records a claim before its task runs. If that fails, claiming stops and the task is returned.
    fn note_or_return(&self, claim: Claim) -> Result<(Claim, u32), StoreError> {
        failpoint::reach("claimed");
        let error = match self.note(&claim) {
            Ok(crashes) => return Ok((claim, crashes)),
            Err(error) => error,
        };
        // Must come before the task can return to the queue: it must not be claimed here again.
        self.store_health.failed(error.clone());
        let (context, task_id) = (self.context, claim.task.id);
        let completer = &context.executor.completer;
        let entered = self.enter(&claim);
        // Otherwise the running attempt, or its result, continues under this claim.
        if entered != Entered::Continues {
            let mut result = completer.not_run(claim, &error);
            if entered == Entered::New {
                // From now on the task may return to the queue and be claimed again.
                context.in_flight.begin_report(&mut result);
            }
            let is_confirmed = completer.is_confirmed(&result);
            if entered == Entered::New {
                context.in_flight.settle(task_id);
            }
            context.emit(&Event::Returned { task_id, error: error.to_string(), is_confirmed });
        }
        Err(error)
    }

    /// Records a claim, retrying while that can still help; returns the task's crash count. If the disk is full, it
    /// retries only briefly: another worker may have room. But the task is not returned before all slots know that
    /// claiming has stopped: otherwise they would claim the task one after the other until its attempts are used up.
    fn note(&self, claim: &Claim) -> Result<u32, StoreError> {
        let (context, health) = (self.context, self.store_health);
        let note = || context.store().note_claim(claim, context.client().url(), Some(&context.process));
        let error = match note() {
            Err(error) if error.may_pass() || health.survives(&error) => error,
            other => return other,
        };
        context.emit(&Event::ClaimNoteRetrying { claim, error: error.to_string() });
        let gives_up = || context.schedule.is_closed();
        let noted = if error.may_pass() {
            health.until_written(claim.deadline, gives_up, note, StoreError::may_pass)
        } else {
            health.failed(error);
            let until = context.clock().moment().later(RETURN_AFTER.min(claim.deadline.left()));
            health.until_written(until, gives_up, note, |error| health.survives(error))
        };
        if noted.is_ok() {
            context.emit(&Event::WriteSucceeded { task_id: claim.task.id });
            health.recovered();
        }
        noted
    }

    /// Stores a result, retrying while that can still help. If the ideas cannot be written, it waits until `deadline`:
    /// nobody else has the result.
    pub(super) fn store(&self, result: &mut TaskResult, deadline: Moment) -> Result<ResultId, StoreError> {
        let (context, health) = (self.context, self.store_health);
        let completer = &context.executor.completer;
        let until = context.clock().moment().later(deadline.left().max(MARK_TIMEOUT));
        let error = match health.write_with_retries(result.task_id, until, || completer.store(result)) {
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

    /// Handles a result that could not be stored: reports it if that is safe.
    pub(super) fn not_stored(&self, result: &mut TaskResult, error: &StoreError) {
        let (context, health) = (self.context, self.store_health);
        health.failed(error.clone());
        let survives = health.survives(error);
        if survives || !error.is_of_ideas() {
            context.in_flight.begin_report(result);
        }
        context.executor.completer.report_unstored(result, error, survives);
        if survives {
            health.forget_unstored((result.task_id, result.attempt));
        }
        context.in_flight.settle(result.task_id);
    }
}

/// Whether the task was not run, or failed in a way in which another attempt would fail as quickly.
fn is_quick_failure(result: &TaskResult) -> bool {
    let quick = [ErrorType::Validation.as_str(), ErrorType::MAX_ATTEMPTS, ErrorType::WORKER_DIED];
    let is_quick = |failure: &Failure| quick.contains(&failure.error_type.as_str());
    result.outcome.is_not_run() || result.outcome.failure.as_ref().is_some_and(is_quick)
}

/// Returns what an attempt says about the service behind its type. If the type `is_snoozed`, the handler knows when to
/// continue.
pub(super) fn verdict(result: &TaskResult, is_snoozed: bool) -> Verdict {
    let stopped = [ErrorType::Shutdown.as_str(), ErrorType::CLAIM_LOST];
    match &result.outcome.failure {
        Some(_) if is_snoozed || result.outcome.is_not_run() => Verdict::Unknown,
        Some(failure) if stopped.contains(&failure.error_type.as_str()) => Verdict::Unknown,
        Some(failure) if failure.retryable => Verdict::Fails,
        _ => Verdict::Works,
    }
}
