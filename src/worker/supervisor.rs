//! The main thread: starts the other threads, prunes old results and feeds the watchdog while they work, and waits for
//! their end.

use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::renewals::Renewals;
use super::report_queue::ReportQueue;
use super::reporter::Reporter;
use super::schedule::Closed;
use super::slots::Slots;
use super::snooze::still_snoozed;
use super::{Context, Event, HandlerSource, Summary, WorkerError};
use crate::clock::{Moment, surely_past};
use crate::failpoint;
use crate::shutdown::{CancelReason, Watch};
use crate::store::Pruning;
use crate::taskmanager::Retries;

/// Pause between two steps of pruning, so that the slots can write most of the time.
const BETWEEN_STEPS: Duration = Duration::from_millis(20);
/// How often to check whether there is anything to prune.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Supervisor<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) slots: &'w Slots<'w>,
    pub(super) reporter: &'w Reporter<'w>,
    pub(super) reports: &'w ReportQueue,
    pub(super) renewals: &'w Renewals<'w>,
    pub(super) handlers: &'w dyn HandlerSource,
}

impl<'w> Supervisor<'w> {
    /// Runs the worker to its end.
    pub(super) fn run(&self) -> Result<Summary, WorkerError> {
        let (context, concurrency) = (self.context, self.context.config().concurrency.value);
        let task_types = context.types.iter().map(|it| (it.name.as_str(), it.id())).collect();
        context.emit(&Event::Ready { task_types, concurrency });
        self.reporter.note_unreported();
        // Reports that fail now are sent again by the reporter.
        let _ = self.reporter.send_postponed(Retries::NONE, || self.heartbeat());
        thread::scope(|scope| {
            let ended = Arc::new(Watch::new(false));
            self.start_threads(scope, concurrency, &ended);
            self.wait_for_slots(context.config().grace_period.value);
            self.slots.end_idle_handlers();
            self.wait_first_reports();
            self.wait_reported();
            self.reports.end();
            self.context.claim_time.end();
            ended.raise(true);
        });
        self.conclude()
    }

    /// Starts the slots and their helpers. No slot claims before all have started.
    fn start_threads<'scope>(&self, scope: &'scope Scope<'scope, '_>, slots: usize, ended: &Arc<Watch<bool>>)
    where
        'w: 'scope,
    {
        let all_started = Arc::new(RwLock::new(()));
        let starting = all_started.write();
        let spawn = |name: String, run: Box<dyn FnOnce() + Send + 'scope>| {
            failpoint::check("thread")?;
            thread::Builder::new().name(name).spawn_scoped(scope, run)
        };
        let (parts, reporter, renewals, ended) = (self.slots, self.reporter, self.renewals, Arc::clone(ended));
        let mut refused = spawn("reporter".into(), Box::new(|| reporter.run())).err();
        let watch = move || reporter.store_health.watch_files(&ended);
        refused = refused.or_else(|| spawn("files".into(), Box::new(watch)).err());
        refused = refused.or_else(|| spawn("renewals".into(), Box::new(|| renewals.run())).err());
        for number in 0..slots {
            let all_started = Arc::clone(&all_started);
            let run = move || {
                drop(all_started.read());
                parts.run(number, scope);
            };
            let refused = refused.take().or_else(|| spawn(format!("slot-{number}"), Box::new(run)).err());
            if let Some(error) = refused {
                self.context.schedule.slot_ended();
                self.context.fail(WorkerError::Thread { slots, error });
            }
        }
        drop(starting);
    }

    fn wait_for_slots(&self, grace_period: Duration) {
        let context = self.context;
        let closed = self.maintain();
        let in_flight = context.in_flight.running();
        context.emit(&Event::Closing { asked: closed == Closed::Asked, in_flight });
        context.withdraw_claims();
        if !self.wait_slots_ended(Some(grace_period)) {
            context.in_flight.cancel_all(CancelReason::Shutdown);
            context.in_flight.end();
            self.wait_slots_ended(None);
        }
    }

    /// Prunes old results and handlers' rows in small steps until the schedule is closed; returns why it was.
    fn maintain(&self) -> Closed {
        let context = self.context;
        // If this fails, the next required write reports a failure.
        let _ = context.store().forget_ended(&context.process, context.clock().now());
        let (start, mut pruning) = (context.clock().moment(), None);
        loop {
            let heartbeat = self.slots.watchdog.interval();
            let next = self.prune(&mut pruning, start).min(self.prune_of_handlers()).min(heartbeat);
            self.heartbeat();
            if let Some(closed) = context.schedule.wait_closed(next) {
                return closed;
            }
        }
    }

    /// Prunes some old results; returns how long to wait before the next step.
    fn prune(&self, under_way: &mut Option<Pruning>, start: Moment) -> Duration {
        let keep = self.context.config().keep_results.value;
        let before = surely_past(start, self.context.clock().now()).checked_sub(keep);
        let (false, Ok(before)) = (keep.is_zero(), before) else { return Duration::MAX };
        let mut pruning = under_way.take().unwrap_or_else(|| Pruning::new(before));
        if self.context.store().prune(&mut pruning) != Ok(true) {
            return PRUNE_EVERY;
        }
        *under_way = Some(pruning);
        BETWEEN_STEPS
    }

    fn prune_of_handlers(&self) -> Duration {
        if self.handlers.prune() { BETWEEN_STEPS } else { PRUNE_EVERY }
    }

    /// Sends a heartbeat, or reports that the loop hangs.
    fn heartbeat(&self) {
        let watchdog = &self.slots.watchdog;
        let claim_timeout = self.context.config().claim_timeout.value;
        let event = if let Some(slot) = watchdog.hung_slot(Instant::now()) {
            Event::Hung(format!("slot {slot} is overdue with its task"))
        } else if self.context.schedule.is_hung(watchdog.slack()) {
            Event::Hung("no slot is polling, although one should".into())
        } else if self.reports.is_hung(claim_timeout.saturating_add(watchdog.slack())) {
            Event::Hung("a report is overdue".into())
        } else {
            Event::Heartbeat { timeout: watchdog.timeout() }
        };
        self.context.emit(&event);
    }

    /// Waits until all slots have ended, or `grace_period` is over; true if they have ended.
    fn wait_slots_ended(&self, grace_period: Option<Duration>) -> bool {
        loop {
            self.heartbeat();
            let heartbeat = self.slots.watchdog.interval();
            if let Some(ended) = self.context.schedule.wait_slots_ended(grace_period, heartbeat) {
                return ended;
            }
        }
    }

    /// Waits until the first report of each stored result was sent or postponed.
    fn wait_first_reports(&self) {
        while !self.context.schedule.wait_first_reports(self.slots.watchdog.interval()) {
            self.heartbeat();
        }
    }

    /// If somebody waits for the worker's exit, waits for reports that the TaskManager asked to send later.
    fn wait_reported(&self) {
        let is_waited_for = self.context.is_exit_awaited();
        while is_waited_for && !self.context.schedule.wait_reported(self.slots.watchdog.interval()) {
            self.heartbeat();
        }
    }

    fn conclude(&self) -> Result<Summary, WorkerError> {
        let context = self.context;
        let counters = *context.counters.lock();
        let stopped = context.store().stop_process(&context.process, counters, context.clock().now());
        let (unreported, refused) = (self.reports.unreported(), self.reports.refused());
        let summary = Summary { counters, unreported, refused, snoozed: still_snoozed(context) };
        context.emit(&Event::Ended(&summary));
        if let Some(failure) = context.failure.lock().take() {
            return Err(failure);
        }
        stopped.map_err(WorkerError::Store)?;
        Ok(summary)
    }
}
