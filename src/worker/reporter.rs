//! The reporter: sends stored results and settles them. Several senders send new results; reports that fail are sent
//! again by one thread, oldest first, when the TaskManager answers again.

use std::cell::Cell;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::in_flight::Repeated;
use super::outage::is_too_long;
use super::report_queue::{FirstReport, Needs, PendingReport, ReportQueue};
use super::schedule::Closed;
use super::store_health::LOOK_EVERY;
use super::{Completer, Context, Event, StoreHealth};
use crate::failpoint;
use crate::store::StoreError;
use crate::task::TaskId;
use crate::taskmanager::{Backoff, Delivery, Error, Retries};

/// Maximum wait between two retries: results arrive within a second after the TaskManager is back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long to retry marking a confirmed result while another process holds the results file. A result that is not
/// marked is looked up at the next start.
pub(super) const MARK_TIMEOUT: Duration = Duration::from_secs(60);

/// Retries of a postponed report. Looking the task up and sending the report both need an answer: if the server fails
/// some of its calls, a few such failures must not be blamed on the report.
const RESEND_TRIES: Retries = Retries { tries: 3, retry_after_budget: Duration::ZERO, ..Retries::STANDARD };

/// The outcome of a first report.
struct FirstSent {
    /// Whether the TaskManager has the result, or may have it.
    is_taken: bool,
    /// Whether the task may be back in the queue.
    may_be_back: bool,
}

impl FirstSent {
    const POSTPONED: Self = Self { is_taken: true, may_be_back: false };
}

pub(super) struct Reporter<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) store_health: &'w StoreHealth<'w>,
    reports: &'w ReportQueue,
}

/// Releases a first report when dropped, even after a panic, so that nobody waits for it forever.
struct Delivered<'w> {
    reporter: &'w Reporter<'w>,
    task_id: TaskId,
    may_be_back: bool,
}

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        self.reporter.reports.sent(self.task_id);
        self.reporter.context.schedule.delivered(self.may_be_back);
    }
}

impl<'w> Reporter<'w> {
    pub(super) fn new(context: &'w Context<'w>, store_health: &'w StoreHealth<'w>, reports: &'w ReportQueue) -> Self {
        Self { context, store_health, reports }
    }

    /// Updates the number of unreported results.
    pub(super) fn note_unreported(&self) {
        self.context.schedule.note_unreported(|| self.reports.postponed());
        self.reports.announce(|count, refused, oldest| {
            self.context.emit(&Event::Unreported { count, refused, oldest });
        });
    }

    /// Takes over a newly stored result. The slot does not wait for its report.
    pub(super) fn submit<'scope>(&'scope self, report: PendingReport, scope: &'scope Scope<'scope, '_>) {
        if self.reports.add_fresh(report) == Needs::Nothing {
            return;
        }
        let spawn = || {
            failpoint::check("sender")?;
            thread::Builder::new().name("sender".into()).spawn_scoped(scope, || self.run_sender())
        };
        if spawn().is_err() {
            for report in self.reports.sender_refused() {
                self.send_first(report, |report| self.postpone(report));
            }
        }
    }

    fn run_sender(&self) {
        while let Some(report) = self.reports.next_fresh() {
            self.send_first(report, |report| self.report(report));
        }
    }

    /// Sends a result for the first time with `send`, and updates everything that waits for it, even after a panic.
    fn send_first(&self, mut report: PendingReport, send: impl FnOnce(PendingReport) -> FirstSent) {
        let first = report.first.take();
        let task_id = report.result.task_id;
        let mut delivered = Delivered { reporter: self, task_id, may_be_back: true };
        let FirstSent { is_taken, may_be_back } = send(report);
        delivered.may_be_back = may_be_back;
        if let Some(FirstReport { attempt, polled_at, has_run }) = first {
            self.context.schedule.note_claim(task_id, !(is_taken && has_run), polled_at);
            self.context.in_flight.release((task_id, attempt));
        }
    }

    /// Reports a newly stored result; postpones it if the report fails.
    fn report(&self, mut report: PendingReport) -> FirstSent {
        // The end of the worker waits for no report that will not get through: it is safe in the results file.
        let is_ending = self.context.schedule.is_closed() && self.context.outage.is_failing();
        if self.reports.is_paused() || is_ending {
            return self.postpone(report);
        }
        match self.deliver(&self.context.executor.completer, &mut report) {
            Err(error) if !error.refuses_report() => {
                self.context.outage.failed(&error);
                self.reports.pause(error.retry_after().unwrap_or_default());
                let (task_id, error) = (report.result.task_id, error.to_string());
                self.context.emit(&Event::ReportPostponed { task_id, error });
                self.postpone(report)
            }
            answer => {
                let is_done = report.result.outcome.failure.is_none() && answer == Ok(Delivery::Confirmed);
                let is_taken = self.settle_or_fail(report, answer);
                FirstSent { is_taken, may_be_back: !is_done }
            }
        }
    }

    fn postpone(&self, report: PendingReport) -> FirstSent {
        self.reports.postpone(report);
        self.note_unreported();
        FirstSent::POSTPONED
    }

    /// Sends postponed reports until the worker exits.
    pub(super) fn run(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), 2.0, LONGEST_WAIT);
        let (mut due, mut stuck_since) = (Instant::now(), None);
        while self.reports.wait(due) {
            let is_last = self.reports.has_ended();
            let tried = Cell::new(0);
            let answer = self.send_postponed(RESEND_TRIES, || tried.set(tried.get() + 1));
            due = Instant::now();
            if tried.get() > 1 || answer.is_ok() {
                stuck_since = None;
            }
            if let Err(error) = answer {
                self.stuck(&error, *stuck_since.get_or_insert(due));
                due += backoff.jittered();
            } else {
                backoff.reset();
                self.context.schedule.note_stuck(false);
            }
            if is_last {
                return;
            }
        }
    }

    /// Handles reports that have all failed since `since`: a worker whose exit somebody waits for gives up after a
    /// while.
    fn stuck(&self, error: &Error, since: Instant) {
        self.reports.pause(error.retry_after().unwrap_or_default());
        let is_too_long = is_too_long(since.elapsed(), error, self.context.exit_on_outage)
            || self.context.outage.is_given_up(error, self.context.exit_on_outage);
        if is_too_long {
            self.context.schedule.close(Closed::Done);
            self.context.in_flight.end();
        }
        self.context.schedule.note_stuck(is_too_long);
    }

    /// Sends postponed reports, then refused ones that are due, until none is left or the TaskManager does not answer.
    /// Calls `each` before each.
    pub(super) fn send_postponed(&self, retries: Retries, each: impl Fn()) -> Result<(), Error> {
        let completer = self.context.executor.completer.with_retries(retries);
        while let Some(mut report) = self.reports.next_postponed() {
            each();
            let answer = self.deliver(&completer, &mut report);
            if let Err(error) = &answer
                && !error.refuses_report()
            {
                self.context.outage.failed(error);
                if !report.fails_alone(error, self.context.outage.answers()) {
                    self.reports.put_back(report);
                    return answer.map(drop);
                }
            }
            let task_id = report.result.task_id;
            self.settle_or_fail(report, answer);
            self.reports.sent(task_id);
            self.note_unreported();
            if self.store_health.is_failing() {
                // A result that could not be marked waits with all others.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reports a result, under a later claim of its task if there is one by now.
    fn deliver(&self, completer: &Completer<'_>, report: &mut PendingReport) -> Result<Delivery, Error> {
        if report.was_refused() {
            return completer.report(&report.result, true);
        }
        loop {
            report.in_doubt |= self.context.in_flight.report(&mut report.result);
            let answer = completer.report(&report.result, report.in_doubt);
            report.in_doubt = true;
            if answer != Ok(Delivery::ClaimLost) || !self.context.in_flight.renew(&mut report.result) {
                return answer;
            }
        }
    }

    /// Settles a result, or handles the error if the results file cannot be written; true if the TaskManager has taken
    /// it.
    fn settle_or_fail(&self, report: PendingReport, answer: Result<Delivery, Error>) -> bool {
        let task_id = report.result.task_id;
        self.settle(report, answer).unwrap_or_else(|error| {
            let text = error.to_string();
            self.context.emit(&Event::NotStored { task_id, error: text, reported: true });
            self.store_health.failed(error);
            false
        })
    }

    /// Settles a result according to the answer; keeps it if it was refused. True if the TaskManager has taken it.
    fn settle(&self, report: PendingReport, answer: Result<Delivery, Error>) -> Result<bool, StoreError> {
        failpoint::reach("reported");
        let was_refused = report.was_refused();
        let PendingReport { id, result, .. } = &report;
        let task_id = result.task_id;
        if self.context.outage.answered() {
            self.reports.wake();
        }
        let settled = match answer {
            Ok(delivery) => {
                let until = self.context.clock().moment().later(MARK_TIMEOUT);
                let mark = || self.context.executor.completer.settle(*id, result, delivery);
                if delivery == Delivery::Confirmed {
                    self.context.in_flight.forget_repeated(task_id);
                }
                match self.store_health.write_with_retries(task_id, until, mark) {
                    Err(error) if self.store_health.survives(&error) => {
                        self.mark_later(report, error);
                        return Ok(delivery == Delivery::Confirmed);
                    }
                    marked => marked.map(|()| delivery == Delivery::Confirmed),
                }
            }
            Err(error) => {
                let words = error.to_string();
                // If this fails, the next important write reports it.
                let _ = self.context.store().refused(*id, &words);
                let again = self.context.in_flight.is_repeated(task_id, Repeated::ReportRefused);
                self.context.emit(&Event::ReportRefused { task_id, error: words, again });
                self.reports.keep_refused(report, error);
                self.note_unreported();
                Ok(false)
            }
        };
        if !was_refused {
            self.context.in_flight.leave(task_id);
        }
        failpoint::reach("marked");
        settled
    }

    /// Keeps a confirmed or lost result that could not be marked. It is looked up again when the results file can be
    /// written.
    fn mark_later(&self, report: PendingReport, error: StoreError) {
        self.store_health.failed(error);
        self.reports.pause(LOOK_EVERY);
        self.reports.postpone(report);
        self.note_unreported();
    }
}
