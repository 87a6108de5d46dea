//! Reporting a result such that it counts once, although completing a task is not idempotent: whenever the fate of an
//! earlier report is in doubt, the task is looked up before anything is sent again.

use serde_json::{Value, json};

use super::wire::{self, TaskView};
use super::{Backoff, Client, Error, Retries};
use crate::task::{TaskId, TaskResult};

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The TaskManager has the result.
    Confirmed,
    /// The claim was lost: the task is another worker's, waits again, is gone, or ended otherwise.
    ClaimLost,
}

/// The report of one attempt's result, as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    id: TaskId,
    attempt: u32,
    worker_id: String,
    envelope: Value,
    error: Option<String>,
}

impl From<&TaskResult> for Report {
    fn from(result: &TaskResult) -> Self {
        let error = result.outcome.failure.as_ref().map(|failure| wire::error_within_limit(&failure.error).to_owned());
        Self {
            id: result.task_id,
            attempt: result.attempt,
            worker_id: result.worker_id.clone(),
            envelope: result.envelope(),
            error,
        }
    }
}

impl Report {
    fn body(&self, result: &Value) -> Value {
        let mut body = json!({"worker_id": self.worker_id, "success": self.error.is_none(), "result": result});
        if let Some(error) = &self.error {
            body["error"] = json!(error);
        }
        body
    }

    fn send(&self, client: &Client) -> Result<(), Error> {
        let whole = wire::fit(&self.envelope);
        match client.complete_once(self.id, &self.body(&whole)) {
            // The server counts the bytes as it stores them, which can be more than were sent.
            Err(error) if error.says_too_long() => {
                client.complete_once(self.id, &self.body(&wire::summary(&self.envelope)))
            }
            other => other,
        }
    }
}

/// What a look at the task says about an earlier report.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Arrived,
    NotArrived,
    ClaimLost,
}

impl Client {
    /// Reports a result for the first time.
    pub fn deliver(&self, report: &Report) -> Result<Delivery, Error> {
        let Retries { tries, .. } = self.retries();
        match report.send(self) {
            Ok(()) => Ok(Delivery::Confirmed),
            Err(error) if error.says_not_claimed() => self.deliver_again(report),
            Err(error) if error.is_retryable() && tries > 1 => {
                let mut backoff = self.retries().backoff();
                self.wait(&error, &mut backoff)?;
                self.settle_within(report, tries - 1, backoff)
            }
            Err(error) => Err(error),
        }
    }

    /// Reports a result that may have arrived already.
    pub fn deliver_again(&self, report: &Report) -> Result<Delivery, Error> {
        self.settle_within(report, self.retries().tries, self.retries().backoff())
    }

    fn settle_within(&self, report: &Report, tries: u32, mut backoff: Backoff) -> Result<Delivery, Error> {
        let once = self.with_retries(Retries::NONE);
        for _ in 1..tries {
            match once.settle(report) {
                Err(error) if error.is_retryable() || error.says_not_claimed() => self.wait(&error, &mut backoff)?,
                other => return other,
            }
        }
        once.settle(report)
    }

    /// Looks the task up, and sends the report where it has not arrived.
    fn settle(&self, report: &Report) -> Result<Delivery, Error> {
        match fate(self.task(report.id)?.as_ref(), report) {
            Fate::Arrived => Ok(Delivery::Confirmed),
            Fate::ClaimLost => Ok(Delivery::ClaimLost),
            Fate::NotArrived => report.send(self).map(|()| Delivery::Confirmed),
        }
    }
}

/// Whether a report arrived, by what the task looks like now.
fn fate(task: Option<&TaskView>, report: &Report) -> Fate {
    let Some(task) = task else { return Fate::ClaimLost };
    let same_attempt = task.attempts == report.attempt;
    let held = same_attempt && task.claimed_by.as_deref() == Some(&report.worker_id);
    match (task.status.as_str(), &report.error) {
        ("claimed", _) if held => Fate::NotArrived,
        ("completed", None) | ("failed", Some(_)) if held => Fate::Arrived,
        // Back in the queue: by this very failure, or because the claim ran out.
        ("pending", Some(error)) if same_attempt && task.error_message.as_ref() == Some(error) => Fate::Arrived,
        _ => Fate::ClaimLost,
    }
}
