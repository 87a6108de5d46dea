//! Delivers results: stores a result, reports it, and marks whether it was confirmed. `work`, `claim --run`, `complete`
//! and `fail` all use this.

use std::sync::Arc;

use super::{Event, Observer};
use crate::clock::Clock;
use crate::store::{ResultId, ResultStatus, Store, StoreError};
use crate::task::{Claim, ErrorType, Failure, Outcome, TaskResult};
use crate::taskmanager::{Client, Delivery, Error, ResultReport, Retries};

/// Stores, reports and settles results.
pub(crate) struct Completer<'a> {
    /// The results file.
    pub store: &'a Store,
    /// The TaskManager to report to.
    pub client: Client,
    /// Receives events about results.
    pub observer: &'a dyn Observer,
    /// The clock for stored times.
    pub clock: Arc<dyn Clock>,
}

/// Why a result was not delivered.
#[derive(Debug)]
#[allow(clippy::enum_variant_names, reason = "each says which step was not done")]
pub(crate) enum Undelivered {
    /// The result could not be stored.
    NotStored {
        /// Why.
        error: StoreError,
        /// Whether the TaskManager confirmed it all the same.
        reported: bool,
    },
    /// The result is stored, but its report failed or was refused.
    NotReported(Error),
    /// The result was reported, but could not be marked as such.
    NotSettled(StoreError),
}

impl Completer<'_> {
    /// Returns a completer whose calls are retried as `retries` says.
    pub(super) fn with_retries(&self, retries: Retries) -> Self {
        Self { client: self.client.with_retries(retries), clock: Arc::clone(&self.clock), ..*self }
    }

    /// Stores a result with its ideas as unreported.
    pub(crate) fn store(&self, result: &mut TaskResult) -> Result<ResultId, StoreError> {
        let id = self.store.finish(result)?;
        self.stored(result);
        Ok(id)
    }

    /// Emits that a result is stored.
    pub(super) fn stored(&self, result: &mut TaskResult) {
        self.observer.event(&Event::Finished(result));
        // It is in the file, and the result may wait in memory for hours.
        result.outcome.stderr_tail = String::new();
    }

    /// Reports a result. If it is `in_doubt` whether an earlier report arrived, looks the task up before sending
    /// anything.
    pub(crate) fn report(&self, result: &TaskResult, in_doubt: bool) -> Result<Delivery, Error> {
        let report = ResultReport::from(result);
        if in_doubt { self.client.resend_report(&report) } else { self.client.send_report(&report) }
    }

    /// Reports results, each of another task, to a server that takes batches; returns the answer to each.
    pub(super) fn report_all<'r>(&self, results: impl Iterator<Item = &'r TaskResult>) -> Vec<Result<Delivery, Error>> {
        self.client.send_reports(&results.map(ResultReport::from).collect::<Vec<_>>())
    }

    /// Marks a stored result as confirmed or lost.
    pub(crate) fn mark(&self, id: ResultId, result: &TaskResult, delivery: Delivery) -> Result<(), StoreError> {
        self.mark_all(&[(id, result, delivery)])
    }

    /// Marks stored results as confirmed or lost, in one transaction.
    pub(super) fn mark_all(&self, delivered: &[(ResultId, &TaskResult, Delivery)]) -> Result<(), StoreError> {
        let is_lost = |delivery| delivery == Delivery::ClaimLost;
        let marked = delivered.iter().map(|(id, result, delivery)| (*id, *result, is_lost(*delivery)));
        self.store.settle_all(marked, self.clock.now())?;
        for (_, result, delivery) in delivered {
            self.observer.event(&Event::Reported {
                task_id: result.task_id,
                task_type: &result.task_type,
                status: ResultStatus::of(&result.outcome),
                delivery: *delivery,
            });
        }
        Ok(())
    }

    /// Reports and settles a result once, whether or not it could be stored.
    pub(crate) fn deliver(
        &self,
        stored: Result<ResultId, StoreError>,
        result: &mut TaskResult,
        in_doubt: bool,
    ) -> Result<Delivery, Undelivered> {
        let id = match stored {
            Ok(id) => id,
            Err(error) => {
                let reported = self.report_unstored(result, &error, false);
                return Err(Undelivered::NotStored { error, reported });
            }
        };
        match self.report(result, in_doubt) {
            Ok(delivery) => {
                self.mark(id, result, delivery).map_err(Undelivered::NotSettled)?;
                Ok(delivery)
            }
            Err(error) => {
                if error.refuses_report() {
                    self.store.refused(id, &error.to_string()).map_err(Undelivered::NotSettled)?;
                }
                Err(Undelivered::NotReported(error))
            }
        }
    }

    /// Handles a result that could not be stored; true if the TaskManager has it. If the disk is full, the TaskManager
    /// is the only one left to keep it. If the ideas could not be stored, the TaskManager must not hear that the task
    /// is done: the task is returned if this worker `goes_on`, otherwise it stays claimed and the next worker runs
    /// it.
    pub(crate) fn report_unstored(&self, result: &mut TaskResult, error: &StoreError, goes_on: bool) -> bool {
        let (task_id, text, is_of_ideas) = (result.task_id, error.to_string(), error.is_of_ideas());
        if is_of_ideas && !goes_on {
            // If this fails, the exit of this process counts as one more crash of the task.
            let _ = self.store.set_running(&result.api_url, task_id, result.attempt, false);
            self.observer.event(&Event::IdeasNotKept { task_id, error: text });
            return false;
        }
        if is_of_ideas {
            result.outcome = Outcome::failure(ErrorType::Worker, format!("its ideas could not be stored: {text}"));
        }
        let reported = self.is_confirmed(result);
        self.observer.event(&if is_of_ideas {
            Event::Returned { task_id, error: text, is_confirmed: reported }
        } else {
            Event::NotStored { task_id, error: text, reported }
        });
        reported
    }

    /// Returns a task whose claim could not be noted to the queue, as a retryable failure. True if the TaskManager
    /// confirmed that; otherwise the task stays claimed until the claim expires.
    pub(crate) fn return_task(&self, claim: Claim, error: &StoreError) -> bool {
        self.is_confirmed(&self.not_run(claim, error))
    }

    /// Builds the result of a claim that could not be noted.
    pub(super) fn not_run(&self, claim: Claim, error: &StoreError) -> TaskResult {
        let failure = Failure::new(ErrorType::Worker, format!("not run: {error}"));
        let now = self.clock.now();
        TaskResult::new(claim, Outcome::not_run(failure), self.client.url(), now, now)
    }

    /// Reports a result once that is not in the results file; true if it is confirmed.
    pub(super) fn is_confirmed(&self, result: &TaskResult) -> bool {
        matches!(self.report(result, false), Ok(Delivery::Confirmed))
    }
}
