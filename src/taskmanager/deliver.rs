//! Reporting a result such that it counts once, although completing a task is not idempotent: whenever the fate of an
//! earlier report is in doubt, the task is looked up before anything is sent again.

use serde_json::{Value, json};

use super::retry::{Tries, out_of_step};
use super::wire::{self, Fitted, Limit, TaskView};
use super::{Client, Error, Retries};
use crate::json::{self, MAX_RESULT_DEPTH};
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
    /// The length of the data that the handler made, in bytes of JSON.
    data_bytes: usize,
    error: Option<String>,
}

impl From<&TaskResult> for Report {
    fn from(result: &TaskResult) -> Self {
        let error = result.outcome.failure.as_ref().map(|failure| wire::error_within_limit(&failure.error).to_owned());
        Self {
            id: result.task_id,
            attempt: result.attempt,
            worker_id: result.worker_id.clone(),
            envelope: with_ideas_by_id(result.envelope()),
            data_bytes: wire::json_bytes(&result.outcome.data),
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

    /// The names of what was left out of the result when it was sent, since it is too long: by what the TaskManager shows
    /// of it, else what is left out first.
    #[must_use]
    pub fn omitted(&self, shown: Option<&Value>) -> Vec<String> {
        let mut tried = self.limits().iter().map(|limit| wire::fit(&self.envelope, self.data_bytes, *limit));
        let Some(first) = tried.next() else { return Vec::new() };
        let is_shown = |it: &Fitted| {
            let same = |key: &&str| shown.is_some_and(|shown| shown.get(key) == it.result.get(key));
            ["data_omitted", "metadata_omitted", "data_bytes", "error", "message"].iter().all(same)
        };
        if is_shown(&first) { first.omitted } else { tried.find(is_shown).unwrap_or(first).omitted }
    }

    /// What to try in turn. Of a result that is nested deeper than servers take, as earlier versions stored them, the data
    /// is left out.
    fn limits(&self) -> &'static [Limit] {
        let is_deep = json::check_parts(&self.envelope, MAX_RESULT_DEPTH).is_err();
        if is_deep { &wire::LIMITS[wire::LIMITS.len() - 1..] } else { &wire::LIMITS }
    }

    /// Sends as much of the result as the server takes.
    fn send(&self, client: &Client) -> Result<(), Error> {
        let mut answer = Ok(());
        let mut sent: Option<Fitted> = None;
        for &limit in self.limits() {
            let fitted = wire::fit(&self.envelope, self.data_bytes, limit);
            if sent.as_ref() == Some(&fitted) && !limit.bare {
                continue;
            }
            answer = client.complete_once(self.id, &self.body(&fitted.result));
            sent = Some(fitted);
            if !answer.as_ref().is_err_and(Error::says_too_long) {
                break;
            }
        }
        let omitted = sent.filter(|_| answer.is_ok()).map(|it| it.omitted).unwrap_or_default();
        if !omitted.is_empty() {
            log::warn!(
                task_id = self.id.0, omitted = in_words(&omitted);
                "result too large for the TaskManager: sent without some of its parts"
            );
        }
        answer
    }
}

/// The same envelope, whose ideas are told by their rows alone: their texts are in the database of ideas. Those of a
/// failure were not kept, and the rows of one that could not be stored are not known: they stay as they are.
fn with_ideas_by_id(mut envelope: Value) -> Value {
    if envelope["success"] == json!(true) {
        let ideas = envelope.pointer_mut("/data/ideas").and_then(Value::as_array_mut);
        for idea in ideas.into_iter().flatten() {
            if let Some(id) = idea.get("id").and_then(Value::as_i64) {
                *idea = json!({"id": id});
            }
        }
    }
    envelope
}

/// The first few names of what was left out of a result, for a line.
#[must_use]
pub(crate) fn in_words(omitted: &[String]) -> String {
    const MOST: usize = 10;
    const LONGEST: usize = 100;
    let name = |name: &String| name.chars().take(LONGEST).collect();
    let words: Vec<String> = omitted.iter().take(MOST).map(name).collect();
    match omitted.len().saturating_sub(MOST) {
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
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
        let mut tries = self.retries().start();
        match report.send(self) {
            Ok(()) => return Ok(Delivery::Confirmed),
            Err(error) if error.says_not_claimed() => {}
            // Whether something is wrong with all answers, or with that to this report, a look at the task tells.
            Err(error @ (Error::NotATaskManager { .. } | Error::BadAnswer { .. })) => {
                return match self.settle_within(report, tries) {
                    Err(Error::NotATaskManager { .. }) => Err(error),
                    other => other,
                };
            }
            Err(error) if error.is_retryable() => self.wait(error, &mut tries)?,
            Err(error) => return Err(error),
        }
        self.settle_within(report, tries)
    }

    /// Reports a result that may have arrived already.
    pub fn deliver_again(&self, report: &Report) -> Result<Delivery, Error> {
        self.settle_within(report, self.retries().start())
    }

    fn settle_within(&self, report: &Report, mut tries: Tries) -> Result<Delivery, Error> {
        let once = self.with_retries(Retries::NONE);
        let mut failures = 0;
        loop {
            match once.settle(report, failures) {
                Err(error) if error.is_retryable() || error.says_not_claimed() => self.wait(error, &mut tries)?,
                other => return other,
            }
            failures += 1;
        }
    }

    /// Looks the task up, and sends the report where it has not arrived.
    fn settle(&self, report: &Report, failures: u32) -> Result<Delivery, Error> {
        match fate(self.task(report.id)?.as_ref(), report) {
            Fate::Arrived => Ok(Delivery::Confirmed),
            Fate::ClaimLost => Ok(Delivery::ClaimLost),
            Fate::NotArrived => {
                (0..out_of_step(failures)).for_each(|_| drop(self.task(report.id)));
                let narrowed = |error: Error| error.narrowed_to(&format!("POST /tasks/{}/complete", report.id));
                report.send(self).map(|()| Delivery::Confirmed).map_err(narrowed)
            }
        }
    }
}

/// Whether a task shows the result of another run. A report names no attempt: one of an expired claim, if it comes late, is
/// taken for the next attempt of the same worker. When a run has ended tells it from others.
fn shows_another_run(task: &TaskView, report: &Report) -> bool {
    let shown = task.result.as_ref();
    ["/metadata/processed_at", "/metadata/failed_at"].iter().any(|time| {
        let shown = shown.and_then(|shown| shown.pointer(time)).and_then(Value::as_str);
        shown.zip(report.envelope.pointer(time).and_then(Value::as_str)).is_some_and(|(shown, ours)| shown != ours)
    })
}

/// Whether a report arrived, by what the task looks like now.
fn fate(task: Option<&TaskView>, report: &Report) -> Fate {
    let Some(task) = task else { return Fate::ClaimLost };
    let same_attempt = task.attempts == report.attempt;
    let held = same_attempt && task.claimed_by.as_deref() == Some(&report.worker_id);
    let shows_error = report.error.is_some() && task.error_message == report.error;
    match (task.status.as_str(), &report.error) {
        ("claimed", _) if held => Fate::NotArrived,
        ("completed", None) | ("failed", Some(_)) if held && !shows_another_run(task, report) => Fate::Arrived,
        // Back in the queue: by this very failure, or because the claim expired.
        ("pending", _) if same_attempt && shows_error => Fate::Arrived,
        // Put back by this very failure, and claimed for the next attempt since. Where the claim expired instead, and the
        // attempt before had failed in the same words, the next attempt runs all the same.
        ("claimed", _) if task.attempts == report.attempt + 1 && shows_error => Fate::Arrived,
        _ => Fate::ClaimLost,
    }
}
