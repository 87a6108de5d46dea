//! Calls on behalf of one task: paid for, tried again where that may help, and ended with the task.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Api, ApiError, Query};
use super::error::TaskError;
use super::ledger::{Ledger, Spent};
use super::refusal::{Refusal, RefusalKind};
use crate::handler::Interruption;
use crate::handler::Run;
use crate::shutdown::StopReason;
use crate::task::ErrorType;

/// How often a call is tried.
const TRIES: u32 = 3;
/// The longest wait before the second try; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What one task does at the API.
pub(super) struct ApiSession<'a> {
    api: &'a Api,
    pub(super) ledger: Option<&'a dyn Ledger>,
    pub(super) run: &'a Run<'a>,
    until: Option<Instant>,
    spent: Cell<u64>,
}

impl<'a> ApiSession<'a> {
    pub(super) fn new(api: &'a Api, ledger: Option<&'a dyn Ledger>, run: &'a Run<'a>) -> Self {
        Self { api, ledger, run, until: Instant::now().checked_add(run.timeout), spent: Cell::new(0) }
    }

    /// How long the task still has.
    pub(super) fn left(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    /// An error where the task has to end.
    pub(super) fn go_on(&self) -> Result<(), TaskError> {
        match self.run.stop.get() {
            Some(reason) => Err(TaskError::Interrupted(Interruption::Stopped(reason))),
            None if self.left().is_zero() => Err(TaskError::Interrupted(Interruption::Timeout(self.run.timeout))),
            None => Ok(()),
        }
    }

    /// What `resource` lists by `query`, a call that costs `units`. Each try is paid for; what the API cannot have counted
    /// is given back.
    pub(super) fn list(&self, resource: &str, query: &Query, units: u64) -> Result<Value, TaskError> {
        let mut tries = 1;
        loop {
            self.go_on()?;
            self.pay(units)?;
            let refusal = match self.api.list(resource, query, self.left(), self.run.stop) {
                Ok(answer) => return Ok(answer),
                // The stop says why.
                Err(ApiError::Stopped) => continue,
                Err(ApiError::Refused(refusal)) => refusal,
            };
            if refusal.kind.is_free() {
                self.give_back(units)?;
            }
            let RefusalKind::Again { after, .. } = refusal.kind else { return Err(self.task_error(refusal)) };
            self.go_on()?;
            if tries == TRIES {
                let error = format!("{} ({TRIES} tries)", refusal.reason);
                return Err(TaskError::Failed(ErrorType::Connection, error));
            }
            self.wait(after.unwrap_or_else(|| backoff(tries)), &refusal.reason)?;
            tries += 1;
        }
    }

    /// What is left of the day, for the result.
    pub(super) fn quota(&self) -> Value {
        let spent = self.spent.get();
        // The task is done: a ledger that cannot be read now is no reason to lose it.
        match self.ledger.and_then(|ledger| ledger.budget().ok()) {
            Some(day) => json!({
                "spent": spent, "used": day.used, "left": day.left(), "limit": day.limit, "resets_at": day.resets_at,
            }),
            None => json!({"spent": spent}),
        }
    }

    fn pay(&self, units: u64) -> Result<(), TaskError> {
        if let Some(ledger) = self.ledger
            && ledger.spend(units).map_err(unusable)? == Spent::Exhausted
        {
            let day = ledger.budget().map_err(unusable)?;
            return Err(TaskError::Quota(format!(
                "today's YouTube quota is used up: {units} of its units are needed, {} are left; the next day starts at {}",
                day.left(),
                day.resets_at
            )));
        }
        self.spent.set(self.spent.get() + units);
        Ok(())
    }

    fn give_back(&self, units: u64) -> Result<(), TaskError> {
        self.spent.set(self.spent.get() - units);
        self.ledger.map_or(Ok(()), |ledger| ledger.give_back(units)).map_err(unusable)
    }

    fn wait(&self, wait: Duration, reason: &str) -> Result<(), TaskError> {
        if wait >= self.left() {
            let error =
                format!("{reason}; the next try would be {wait:.0?} from now, which is later than the task's end");
            return Err(TaskError::Failed(ErrorType::Connection, error));
        }
        self.run.stop.wait_for(Some(StopReason::Shutdown), wait);
        Ok(())
    }

    fn task_error(&self, refusal: Refusal) -> TaskError {
        let Refusal { kind, reason } = refusal;
        match kind {
            RefusalKind::Quota => match self.ledger.map_or(Ok(()), Ledger::exhaust) {
                Ok(()) => TaskError::Quota(format!("today's YouTube quota is used up: {reason}")),
                Err(error) => unusable(error),
            },
            RefusalKind::Key => TaskError::Key(format!("YouTube refused the API key: {reason}")),
            RefusalKind::Missing => TaskError::Missing(reason),
            RefusalKind::Params => TaskError::Failed(ErrorType::Validation, reason),
            RefusalKind::Other | RefusalKind::Again { .. } => TaskError::Failed(ErrorType::Handler, reason),
        }
    }
}

/// The ledger cannot be used: it may be locked, or the disk full.
pub(super) fn unusable(error: String) -> TaskError {
    TaskError::Failed(ErrorType::Temporary, error)
}

/// The wait after so many tries, with full jitter: tasks that failed together do not come back together.
fn backoff(tries: u32) -> Duration {
    (FIRST_WAIT * 2_u32.saturating_pow(tries - 1)).mul_f64(fastrand::f64())
}
