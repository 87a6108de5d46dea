//! The calls of one task: charged to the quota, retried, and cancelled with the task. Also the errors of tasks.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Api, ApiError, Query};
use super::failure::{ApiFailure, FailureKind};
use super::ledger::{Ledger, Spent};
use crate::clock::after;
use crate::handler::Run;
use crate::task::{ErrorType, Failure, Outcome};

/// Maximum number of tries.
const TRIES: u32 = 3;
/// Maximum pause before the second try; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The calls of one task.
pub(super) struct ApiSession<'a> {
    api: &'a Api,
    pub(super) ledger: Option<&'a Ledger>,
    pub(super) run: &'a Run<'a>,
    spent: Cell<u64>,
}

impl<'a> ApiSession<'a> {
    pub(super) fn new(api: &'a Api, ledger: Option<&'a Ledger>, run: &'a Run<'a>) -> Self {
        Self { api, ledger, run, spent: Cell::new(0) }
    }

    /// Fails if the task has to stop.
    pub(super) fn check_stopped(&self) -> Result<(), TaskError> {
        self.run.interruption().map_or(Ok(()), |outcome| Err(TaskError::Interrupted(Box::new(outcome))))
    }

    /// Lists `resource`, a call that costs `units`, with retries. Each try is charged; units that the API cannot have
    /// counted are refunded.
    pub(super) fn list(&self, resource: &str, query: &Query, units: u64) -> Result<Value, TaskError> {
        let mut tries = 1;
        loop {
            self.check_stopped()?;
            self.charge(units)?;
            let refusal = match self.api.list(resource, query, self.run.time_left(), self.run.stop) {
                Ok(answer) => return Ok(answer),
                // The next iteration returns the reason.
                Err(ApiError::Stopped) => continue,
                Err(ApiError::Refused(refusal)) => refusal,
            };
            if refusal.kind.is_uncharged() {
                self.refund(units)?;
            }
            let FailureKind::Retryable { after, .. } = refusal.kind else { return Err(self.task_error(refusal)) };
            self.check_stopped()?;
            if tries == TRIES {
                let error = format!("{} ({TRIES} tries)", refusal.reason);
                return Err(TaskError::Failed(ErrorType::Connection, error));
            }
            self.wait(after.unwrap_or_else(|| backoff(tries)), &refusal.reason)?;
            tries += 1;
        }
    }

    /// Returns the quota for the result.
    pub(super) fn quota(&self) -> Value {
        let spent = self.spent.get();
        // The task is done, so an error of the ledger must not fail it.
        match self.ledger.and_then(|ledger| ledger.budget().ok()) {
            Some(day) => json!({
                "spent": spent, "used": day.used, "left": day.left(), "limit": day.limit, "resets_at": day.resets_at,
            }),
            None => json!({"spent": spent}),
        }
    }

    fn charge(&self, units: u64) -> Result<(), TaskError> {
        if let Some(ledger) = self.ledger
            && ledger.spend(units).map_err(unusable)? == Spent::Exhausted
        {
            let day = ledger.budget().map_err(unusable)?;
            return Err(TaskError::Quota(format!(
                "today's YouTube quota is used up: the call costs {units} units, {} are left; the quota resets at {}",
                day.left(),
                day.resets_at
            )));
        }
        self.spent.set(self.spent.get() + units);
        Ok(())
    }

    fn refund(&self, units: u64) -> Result<(), TaskError> {
        self.spent.set(self.spent.get() - units);
        self.ledger.map_or(Ok(()), |ledger| ledger.refund(units)).map_err(unusable)
    }

    fn wait(&self, wait: Duration, reason: &str) -> Result<(), TaskError> {
        if wait >= self.run.time_left() {
            let error = format!("{reason}; the next try, {wait:.0?} from now, would be after the task's deadline");
            return Err(TaskError::Failed(ErrorType::Connection, error));
        }
        // The next iteration returns the reason if the task was stopped.
        let _ = self.run.sleep(wait);
        Ok(())
    }

    fn task_error(&self, refusal: ApiFailure) -> TaskError {
        let ApiFailure { kind, reason } = refusal;
        match kind {
            FailureKind::Quota => match self.ledger.map_or(Ok(()), Ledger::exhaust) {
                Ok(()) => TaskError::Quota(format!("today's YouTube quota is used up: {reason}")),
                Err(error) => unusable(error),
            },
            FailureKind::Key => TaskError::Key(format!("YouTube refused the API key: {reason}")),
            FailureKind::Missing => TaskError::Missing(reason),
            FailureKind::Params => TaskError::Failed(ErrorType::Validation, reason),
            FailureKind::Other | FailureKind::Retryable { .. } => TaskError::Failed(ErrorType::Handler, reason),
        }
    }
}

/// Returns the failure for an unusable ledger: its file may be locked, or the disk full.
pub(super) fn unusable(error: String) -> TaskError {
    TaskError::Failed(ErrorType::Temporary, error)
}

/// Returns the pause after `tries`, with full jitter, so that tasks that failed together do not retry together.
fn backoff(tries: u32) -> Duration {
    (FIRST_WAIT * 2_u32.saturating_pow(tries - 1)).mul_f64(fastrand::f64())
}

/// How long a type is snoozed after the key was refused.
const KEY_SNOOZE: Duration = Duration::from_mins(10);

/// Why a task failed. The texts are one line.
#[derive(Debug)]
pub(super) enum TaskError {
    /// It was stopped or timed out, with this outcome.
    Interrupted(Box<Outcome>),
    /// The day's quota is used up.
    Quota(String),
    /// There is no key, or the API refused it.
    Key(String),
    /// The video or channel does not exist.
    Missing(String),
    /// Anything else.
    Failed(ErrorType, String),
}

impl From<TaskError> for Outcome {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Interrupted(outcome) => *outcome,
            TaskError::Quota(error) => {
                Failure { error, error_type: ErrorType::Other("quota".into()), retryable: true }.into()
            }
            TaskError::Key(error) => Self {
                not_before: Some(after(Timestamp::now(), KEY_SNOOZE)),
                ..Self::failure(ErrorType::Configuration, error)
            },
            TaskError::Missing(error) => Self::failure(ErrorType::Other("not_found".into()), error),
            TaskError::Failed(error_type, error) => Self::failure(error_type, error),
        }
    }
}
