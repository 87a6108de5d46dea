//! The reporter: sends stored results and settles them. Several senders send new results, or one sends them in batches if
//! the server takes those. Reports that fail are sent again by one thread, oldest first, when the TaskManager answers
//! again.

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
use crate::store::{ResultId, StoreError};
use crate::task::{TaskId, TaskResult};
use crate::taskmanager::{Backoff, Delivery, Error, MOST_REPORTS, Retries};

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

/// Notes the end of a sender when dropped after a panic, so that another takes its place.
struct SenderGuard<'w>(&'w ReportQueue);

impl Drop for SenderGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fresh_sent(true);
        }
    }
}

/// Releases a first report when dropped, even after a panic, so that nobody waits for it forever.
struct FirstReportGuard<'w> {
    reporter: &'w Reporter<'w>,
    task_id: TaskId,
    may_be_back: bool,
}

impl Drop for FirstReportGuard<'_> {
    fn drop(&mut self) {
        self.reporter.reports.sent(self.task_id);
        self.reporter.context.schedule.first_report_done(self.may_be_back);
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

    /// Takes over newly stored results. The slot does not wait for their reports.
    pub(super) fn submit<'scope>(&'scope self, reports: Vec<PendingReport>, scope: &'scope Scope<'scope, '_>) {
        if self.reports.add_fresh(reports, self.most()) == Needs::Nothing {
            return;
        }
        let spawn = || {
            failpoint::check("sender")?;
            thread::Builder::new().name("sender".into()).spawn_scoped(scope, || self.run_sender())
        };
        if spawn().is_err() {
            self.send_first(self.reports.sender_refused(), |reports| {
                reports.into_iter().map(|report| self.postpone(report)).collect()
            });
        }
    }

    /// Returns how many results one call may report.
    fn most(&self) -> usize {
        if self.context.client().known_features().batch { MOST_REPORTS } else { 1 }
    }

    fn run_sender(&self) {
        let _end = SenderGuard(self.reports);
        while let Some(reports) = self.reports.next_fresh(|| self.most()) {
            self.send_first(reports, |reports| self.report(reports));
            self.reports.fresh_sent(false);
        }
    }

    /// Sends results for the first time with `send`, and updates everything that waits for them, even after a panic.
    fn send_first(&self, mut reports: Vec<PendingReport>, send: impl FnOnce(Vec<PendingReport>) -> Vec<FirstSent>) {
        let firsts: Vec<Option<FirstReport>> = reports.iter_mut().map(|report| report.first.take()).collect();
        let task_ids = reports.iter().map(|report| report.result.task_id);
        let delivered: Vec<FirstReportGuard<'_>> =
            task_ids.map(|task_id| FirstReportGuard { reporter: self, task_id, may_be_back: true }).collect();
        for ((first, mut delivered), sent) in firsts.into_iter().zip(delivered).zip(send(reports)) {
            let FirstSent { is_taken, may_be_back } = sent;
            delivered.may_be_back = may_be_back;
            if let Some(FirstReport { attempt, polled_at, is_quick_failure }) = first {
                self.context.schedule.note_claim(delivered.task_id, !is_taken || is_quick_failure, polled_at);
                self.context.in_flight.end_attempt((delivered.task_id, attempt));
            }
        }
    }

    /// Reports newly stored results; postpones those whose report fails. Returns the outcome of each.
    fn report(&self, mut reports: Vec<PendingReport>) -> Vec<FirstSent> {
        // At exit, do not wait for a report that would fail: its result is safe in the results file.
        let is_ending = self.context.schedule.is_closed() && self.context.outage.is_failing();
        if self.reports.is_paused() || is_ending {
            return reports.into_iter().map(|report| self.postpone(report)).collect();
        }
        let answers = self.send_all(&self.context.executor.completer, &mut reports);
        let (mut sent, mut answered, mut failure) = (Vec::new(), Vec::new(), None);
        for (report, answer) in reports.into_iter().zip(answers) {
            match answer {
                Err(error) if !error.refuses_report() => {
                    self.call_failed(&error, &mut failure);
                    self.reports.pause(error.retry_after().unwrap_or_default());
                    let (task_id, error) = (report.result.task_id, error.to_string());
                    self.context.emit(&Event::ReportPostponed { task_id, error });
                    sent.push(self.postpone(report));
                }
                answer => {
                    let is_done = report.result.outcome.failure.is_none() && answer == Ok(Delivery::Confirmed);
                    answered.push((sent.len(), (report, answer)));
                    sent.push(FirstSent { is_taken: false, may_be_back: !is_done });
                }
            }
        }
        let (indexes, answered): (Vec<usize>, Vec<_>) = answered.into_iter().unzip();
        for (index, is_taken) in indexes.into_iter().zip(self.process_answers(answered)) {
            sent[index].is_taken = is_taken;
        }
        sent
    }

    /// Notes a failed call, once for all reports that it was for.
    fn call_failed(&self, error: &Error, noted: &mut Option<Error>) {
        if noted.as_ref() != Some(error) {
            self.context.outage.failed(error);
            *noted = Some(error.clone());
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
        let (mut due, mut failing_since) = (Instant::now(), None);
        while self.reports.wait(due) {
            let is_last = self.reports.has_ended();
            let tried = Cell::new(0);
            let answer = self.send_postponed(RESEND_TRIES, || tried.set(tried.get() + 1));
            due = Instant::now();
            if tried.get() > 1 || answer.is_ok() {
                failing_since = None;
            }
            if let Err(error) = answer {
                self.reports_failed(&error, *failing_since.get_or_insert(due));
                due += backoff.jittered();
            } else {
                backoff.reset();
                self.context.schedule.note_reports_failing(false);
            }
            if is_last {
                return;
            }
        }
    }

    /// Handles reports that have all failed since `since`: a worker whose exit somebody waits for gives up after a
    /// while.
    fn reports_failed(&self, error: &Error, since: Instant) {
        self.reports.pause(error.retry_after().unwrap_or_default());
        let is_too_long = is_too_long(since.elapsed(), error, self.context.outage_limit)
            || self.context.outage.is_given_up(error, self.context.outage_limit);
        if is_too_long {
            self.context.schedule.close(Closed::GaveUp);
            self.context.in_flight.end();
        }
        self.context.schedule.note_reports_failing(is_too_long);
    }

    /// Sends postponed reports, then refused ones that are due, until none is left or the TaskManager does not answer.
    /// Calls `each` before each call.
    pub(super) fn send_postponed(&self, retries: Retries, each: impl Fn()) -> Result<(), Error> {
        let completer = self.context.executor.completer.with_retries(retries);
        loop {
            self.context.client().update_features();
            let mut reports = self.reports.next_postponed(self.most());
            if reports.is_empty() {
                return Ok(());
            }
            each();
            let answers = self.send_all(&completer, &mut reports);
            let (mut answered, mut failed, mut failure) = (Vec::new(), Vec::new(), None);
            for (mut report, answer) in reports.into_iter().zip(answers) {
                match answer {
                    Err(error) if !error.refuses_report() => {
                        self.call_failed(&error, &mut failure);
                        if report.record_failure(&error, self.context.outage.answers()) {
                            answered.push((report, Err(error)));
                        } else {
                            failed.push(report);
                        }
                    }
                    answer => answered.push((report, answer)),
                }
            }
            if !answered.is_empty() {
                let task_ids: Vec<TaskId> = answered.iter().map(|(report, _)| report.result.task_id).collect();
                self.process_answers(answered);
                for task_id in task_ids {
                    self.reports.sent(task_id);
                }
                self.note_unreported();
                // As if they had been sent one by one: the next failure is not the first thing that happens.
                each();
            }
            if let Some(error) = failure.filter(|_| !failed.is_empty()) {
                self.reports.put_back(failed);
                return Err(error);
            }
            if self.store_health.is_failing() {
                // A result that could not be marked waits with all others.
                return Ok(());
            }
        }
    }

    /// Reports results, in one call if there are several; returns the answer to each.
    fn send_all(&self, completer: &Completer<'_>, reports: &mut [PendingReport]) -> Vec<Result<Delivery, Error>> {
        failpoint::reach("reporting");
        if reports.len() == 1 || !completer.client.features().batch {
            return reports.iter_mut().map(|report| self.send(completer, report)).collect();
        }
        for report in reports.iter_mut() {
            self.begin_report(report);
            report.in_doubt = true;
        }
        let answers = completer.report_all(reports.iter().map(|report| &report.result));
        let settled = |(report, answer): (&mut PendingReport, _)| {
            let is_lost = answer == Ok(Delivery::ClaimLost);
            if is_lost && self.renew(report) { self.send(completer, report) } else { answer }
        };
        reports.iter_mut().zip(answers).map(settled).collect()
    }

    /// Reports a result, under a later claim of its task if there is one by now.
    fn send(&self, completer: &Completer<'_>, report: &mut PendingReport) -> Result<Delivery, Error> {
        loop {
            report.in_doubt |= self.begin_report(report);
            let answer = completer.report(&report.result, report.in_doubt);
            report.in_doubt = true;
            if answer != Ok(Delivery::ClaimLost) || !self.renew(report) {
                return answer;
            }
        }
    }

    /// Marks a task as being reported, unless the report was refused before: what is in flight of the task now is another
    /// attempt. True if the result has moved to a later claim.
    fn begin_report(&self, report: &mut PendingReport) -> bool {
        !report.was_refused() && self.context.in_flight.begin_report(&mut report.result)
    }

    /// Moves a result whose claim was lost to a later claim of its task, unless the report was refused before; true if it
    /// has moved.
    fn renew(&self, report: &mut PendingReport) -> bool {
        !report.was_refused() && self.context.in_flight.renew(&mut report.result)
    }

    /// Settles results according to their answers. Returns for each whether the TaskManager has taken it.
    fn process_answers(&self, answered: Vec<(PendingReport, Result<Delivery, Error>)>) -> Vec<bool> {
        failpoint::reach("reported");
        if !answered.is_empty() && self.context.outage.answered() {
            self.reports.wake();
        }
        let marked = self.mark(&answered);
        answered.into_iter().map(|(report, answer)| self.process_answer(report, answer, marked.clone())).collect()
    }

    /// Marks the results that the TaskManager has confirmed or lost, in one transaction: if another process holds the
    /// results file, they wait for it together.
    fn mark(&self, answered: &[(PendingReport, Result<Delivery, Error>)]) -> Result<(), StoreError> {
        let delivered: Vec<(ResultId, &TaskResult, Delivery)> = answered
            .iter()
            .filter_map(|(report, answer)| Some((report.id, &report.result, *answer.as_ref().ok()?)))
            .collect();
        let Some((_, first, _)) = delivered.first() else { return Ok(()) };
        let limit = failpoint::timeout("short_timeouts", MARK_TIMEOUT, Duration::from_secs(1));
        let until = self.context.clock().moment().later(limit);
        let mark = || self.context.executor.completer.mark_all(&delivered);
        self.store_health.write_with_retries(first.task_id, until, mark)
    }

    /// Settles a result according to the answer, and to whether it could be marked; keeps it if it was refused, or may
    /// still be marked. True if the TaskManager has taken it.
    fn process_answer(
        &self,
        report: PendingReport,
        answer: Result<Delivery, Error>,
        marked: Result<(), StoreError>,
    ) -> bool {
        let (task_id, was_refused) = (report.result.task_id, report.was_refused());
        let is_taken = answer == Ok(Delivery::Confirmed);
        if is_taken {
            self.context.in_flight.forget_repeated(task_id);
        }
        match (answer, marked) {
            (Err(error), _) => self.keep_refused(report, error),
            (Ok(_), Ok(())) => {}
            (Ok(_), Err(error)) if self.store_health.survives(&error) => {
                self.mark_later(report, error);
                return is_taken;
            }
            (Ok(_), Err(error)) => {
                self.context.emit(&Event::NotStored { task_id, error: error.to_string(), reported: true });
                self.store_health.failed(error);
            }
        }
        if !was_refused {
            self.context.in_flight.settle(task_id);
        }
        failpoint::reach("marked");
        is_taken
    }

    /// Keeps a report that the TaskManager has refused, and notes why.
    fn keep_refused(&self, report: PendingReport, error: Error) {
        let (task_id, reason) = (report.result.task_id, error.to_string());
        // If this fails, the next required write reports a failure.
        let _ = self.context.store().refused(report.id, &reason);
        let is_repeated = !self.context.in_flight.mark_emitted(task_id, Repeated::ReportRefused);
        self.context.emit(&Event::ReportRefused { task_id, error: reason, is_repeated });
        self.reports.keep_refused(report, error);
        self.note_unreported();
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
