//! Claims no task twice and reports each result exactly once, although neither call is idempotent. After an unknown
//! outcome, the task that may have been claimed is searched for, and the task that may have been reported is looked up,
//! before the call is sent again. Servers with the feature `batch` know a repeated report by its attempt.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::batch::REPORT_BYTES;
use super::retry::{RetryState, extra_lookups};
use super::wire::{self, Fitted, Limit, TaskView};
use super::{Client, Error, Retries, TaskFilter};
use crate::json::{self, MAX_RESULT_DEPTH};
use crate::task::{TaskId, TaskResult};

/// Claims.
impl Client {
    /// Calls `claim` with a client without retries, and retries it here. If an answer was lost, `find_claimed` returns what
    /// that call claimed, if anything; while it fails, nothing else is claimed.
    pub fn claim_once<T>(
        &self,
        claim: impl Fn(&Self) -> Result<T, Error>,
        find_claimed: impl Fn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let (once, in_doubt, failures) = (self.with_retries(Retries::NONE), Cell::new(false), Cell::new(0));
        // Such an answer may come from a load balancer, and the next one from the TaskManager.
        let is_transient = |error: &Error| error.is_retryable() || matches!(error, Error::NotATaskManager { .. });
        self.retrying_if(is_transient, || {
            if in_doubt.get() {
                if let Some(found) = find_claimed()? {
                    return Ok(found);
                }
                in_doubt.set(false);
            }
            for _ in 0..extra_lookups(failures.replace(failures.get() + 1)) {
                if let Ok(Some(found)) = find_claimed() {
                    return Ok(found);
                }
            }
            let answer = claim(&once);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                match find_claimed() {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(_) => in_doubt.set(true),
                }
            }
            answer
        })
    }

    /// Returns the tasks that are claimed by any worker, oldest first, without their params.
    pub fn claimed_tasks(&self) -> Result<Vec<TaskView>, Error> {
        let claimed = TaskFilter { status: Some("claimed".into()), limit: u32::MAX, ..TaskFilter::default() };
        let mut tasks = self.tasks(&claimed)?;
        tasks.reverse();
        Ok(tasks)
    }
}

/// The outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The TaskManager has the result.
    Confirmed,
    /// The claim was lost: the task is pending again, claimed by another worker, deleted, or has another result.
    ClaimLost,
}

/// The report of one attempt's result.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultReport {
    id: TaskId,
    attempt: u32,
    worker_id: String,
    envelope: Value,
    /// The size of the handler's data as JSON, in bytes.
    data_bytes: usize,
    error: Option<String>,
}

impl From<&TaskResult> for ResultReport {
    fn from(result: &TaskResult) -> Self {
        let error = result.outcome.failure.as_ref().map(|failure| wire::error_within_limit(&failure.error).to_owned());
        Self {
            id: result.task_id,
            attempt: result.attempt,
            worker_id: result.worker_id.clone(),
            envelope: replace_ideas_by_ids(result.envelope()),
            data_bytes: wire::json_bytes(&result.outcome.data),
            error,
        }
    }
}

impl ResultReport {
    /// Returns the fields of the report, without those that name the task and its worker.
    fn fields(&self, result: Value) -> Value {
        let mut fields =
            Map::from_iter([("success".to_owned(), self.error.is_none().into()), ("result".to_owned(), result)]);
        if let Some(error) = &self.error {
            fields.insert("error".to_owned(), error.as_str().into());
        }
        fields.into()
    }

    /// Returns the entry of the report in a batch.
    fn entry(&self, result: Value) -> Value {
        let mut entry = self.fields(result);
        (entry["id"], entry["attempt"]) = (json!(self.id), json!(self.attempt));
        entry
    }

    /// Returns as much of the result as most servers accept.
    fn fitted(&self) -> Fitted {
        wire::fit(&self.envelope, self.data_bytes, self.limits()[0])
    }

    fn warn_of_omitted(&self, omitted: &[String]) {
        if !omitted.is_empty() {
            log::warn!(
                task_id = self.id.0, omitted = join_names(omitted);
                "result too large for the TaskManager: sent without some of its parts"
            );
        }
    }

    /// Returns the names of the parts that were omitted from the result to make it fit. `shown` is the result that the
    /// TaskManager has; without a match, returns what would be omitted first.
    #[must_use]
    pub fn omitted(&self, shown: Option<&Value>) -> Vec<String> {
        let mut tried = self.limits().iter().map(|limit| wire::fit(&self.envelope, self.data_bytes, *limit));
        let Some(first) = tried.next() else { return Vec::new() };
        let matches_shown = |it: &Fitted| {
            let same = |key: &&str| shown.is_some_and(|shown| shown.get(key) == it.result.get(key));
            ["data_omitted", "metadata_omitted", "data_bytes", "error", "message"].iter().all(same)
        };
        if matches_shown(&first) { first.omitted } else { tried.find(matches_shown).unwrap_or(first).omitted }
    }

    /// Returns the limits to try in order. A result that is nested too deeply for servers, as earlier versions stored, is
    /// sent without its data.
    fn limits(&self) -> &'static [Limit] {
        let is_deep = json::check_parts(&self.envelope, MAX_RESULT_DEPTH).is_err();
        if is_deep { &wire::LIMITS[wire::LIMITS.len() - 1..] } else { &wire::LIMITS }
    }

    /// Sends as much of the result as the server accepts.
    fn send(&self, client: &Client) -> Result<(), Error> {
        let names_attempt = client.known_features().batch;
        let body = |result: Value| {
            let mut body = self.fields(result);
            body["worker_id"] = json!(self.worker_id);
            if names_attempt {
                body["attempt"] = json!(self.attempt);
            }
            body
        };
        let mut answer = Ok(());
        let mut sent: Option<Fitted> = None;
        for &limit in self.limits() {
            let fitted = wire::fit(&self.envelope, self.data_bytes, limit);
            if sent.as_ref() == Some(&fitted) && !limit.bare {
                continue;
            }
            answer = client.complete_once(self.id, &body(fitted.result.clone()));
            sent = Some(fitted);
            if !answer.as_ref().is_err_and(Error::says_too_long) {
                break;
            }
        }
        if let Some(sent) = sent.filter(|_| answer.is_ok()) {
            self.warn_of_omitted(&sent.omitted);
        }
        answer
    }
}

/// Replaces the ideas in a successful result by their row ids; the texts are in the database of ideas. Ideas without an
/// id were not stored and are left as they are.
fn replace_ideas_by_ids(mut envelope: Value) -> Value {
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

/// Joins the first few names of omitted parts, for a message.
#[must_use]
pub(crate) fn join_names(omitted: &[String]) -> String {
    const MOST: usize = 10;
    const LONGEST: usize = 100;
    let name = |name: &String| name.chars().take(LONGEST).collect();
    let words: Vec<String> = omitted.iter().take(MOST).map(name).collect();
    match omitted.len().saturating_sub(MOST) {
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
    }
}

/// What the current state of a task tells about an earlier report.
#[derive(Debug, PartialEq, Eq)]
enum ReportState {
    Arrived,
    NotArrived,
    ClaimLost,
}

/// Reports.
impl Client {
    /// Reports a result for the first time.
    pub fn send_report(&self, report: &ResultReport) -> Result<Delivery, Error> {
        if self.known_features().batch {
            return self.send_idempotent(report);
        }
        let mut retry_state = self.retries().start();
        match report.send(self) {
            Ok(()) => return Ok(Delivery::Confirmed),
            Err(error) if error.says_not_claimed() => {}
            // Looking up the task tells whether all answers are wrong, or only the one to this report.
            Err(error @ (Error::NotATaskManager { .. } | Error::InvalidAnswer { .. })) => {
                return match self.resend_within(report, retry_state) {
                    Err(Error::NotATaskManager { .. }) => Err(error),
                    other => other,
                };
            }
            Err(error) if error.is_retryable() => self.wait(error, &mut retry_state)?,
            Err(error) => return Err(error),
        }
        self.resend_within(report, retry_state)
    }

    /// Reports a result that may have arrived already.
    pub fn resend_report(&self, report: &ResultReport) -> Result<Delivery, Error> {
        if self.known_features().batch {
            return self.send_idempotent(report);
        }
        self.resend_within(report, self.retries().start())
    }

    /// Reports a result to a server that answers a repeated report as it did the first: nothing has to be looked up.
    fn send_idempotent(&self, report: &ResultReport) -> Result<Delivery, Error> {
        match self.retrying(|| report.send(self)) {
            Ok(()) => Ok(Delivery::Confirmed),
            Err(error) if error.says_not_claimed() => Ok(Delivery::ClaimLost),
            // Looking up the task tells whether all answers are wrong, or only the one to this report.
            Err(error @ (Error::NotATaskManager { .. } | Error::InvalidAnswer { .. })) => {
                match self.resend_within(report, self.retries().start()) {
                    Err(Error::NotATaskManager { .. }) => Err(error),
                    other => other,
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Reports results, at most 100 and each of another task, to a server with the feature `batch`: those of one worker ID
    /// in one call. Returns the outcome of each. If a call fails, so do all later reports, with the same error.
    pub fn send_reports(&self, reports: &[ResultReport]) -> Vec<Result<Delivery, Error>> {
        let (mut answers, mut rest) = (Vec::with_capacity(reports.len()), reports);
        while !rest.is_empty() {
            let (mut fitted, mut bytes) = (Vec::new(), 0);
            for report in rest.iter().take_while(|report| report.worker_id == rest[0].worker_id) {
                let next = report.fitted();
                bytes += wire::json_bytes(&next.result) + report.error.as_ref().map_or(0, String::len);
                if bytes > REPORT_BYTES && !fitted.is_empty() {
                    break;
                }
                fitted.push(next);
            }
            let (batch, later) = rest.split_at(fitted.len());
            match self.send_at_once(batch, fitted) {
                Ok(delivered) => answers.extend(delivered),
                Err(error) => {
                    answers.resize(reports.len(), Err(error));
                    break;
                }
            }
            rest = later;
        }
        answers
    }

    /// Sends these reports in one call. If the server cannot take them together, sends each half of them: so one that it does
    /// not like costs few calls. A report that was sent before is answered as it was then.
    fn send_at_once(
        &self,
        reports: &[ResultReport],
        fitted: Vec<Fitted>,
    ) -> Result<Vec<Result<Delivery, Error>>, Error> {
        if let [report] = reports {
            return Ok(vec![self.send_report(report)]);
        }
        let (results, omitted): (Vec<_>, Vec<_>) = fitted.into_iter().map(|it| (it.result, it.omitted)).unzip();
        let entries = reports.iter().zip(results).map(|(report, result)| (report.id, report.entry(result))).collect();
        let answers = match self.complete_batch(&reports[0].worker_id, entries) {
            Ok(answers) => answers,
            Err(Error::Refused { .. } | Error::InvalidAnswer { .. }) => {
                let (first, second) = reports.split_at(reports.len() / 2);
                let send =
                    |half: &[ResultReport]| self.send_at_once(half, half.iter().map(ResultReport::fitted).collect());
                let mut answers = send(first)?;
                answers.extend(send(second)?);
                return Ok(answers);
            }
            Err(error) => return Err(error),
        };
        let delivered = |((report, omitted), answer): ((&ResultReport, &Vec<_>), Result<(), Error>)| match answer {
            Ok(()) => {
                report.warn_of_omitted(omitted);
                Ok(Delivery::Confirmed)
            }
            Err(error) if error.says_not_claimed() => Ok(Delivery::ClaimLost),
            Err(error) if error.says_too_long() => self.send_report(report),
            Err(error) => Err(error),
        };
        Ok(reports.iter().zip(&omitted).zip(answers).map(delivered).collect())
    }

    fn resend_within(&self, report: &ResultReport, mut retry_state: RetryState) -> Result<Delivery, Error> {
        let once = self.with_retries(Retries::NONE);
        let mut failures = 0;
        loop {
            match once.look_up_and_send(report, failures) {
                Err(error) if error.is_retryable() || error.says_not_claimed() => self.wait(error, &mut retry_state)?,
                other => return other,
            }
            failures += 1;
        }
    }

    /// Looks up the task, and sends the report if it has not arrived.
    fn look_up_and_send(&self, report: &ResultReport, failures: u32) -> Result<Delivery, Error> {
        match report_state(self.task(report.id)?.as_ref(), report) {
            ReportState::Arrived => Ok(Delivery::Confirmed),
            ReportState::ClaimLost => Ok(Delivery::ClaimLost),
            ReportState::NotArrived => {
                (0..extra_lookups(failures)).for_each(|_| drop(self.task(report.id)));
                let narrowed =
                    |error: Error| error.into_invalid_answer_to(&format!("POST /tasks/{}/complete", report.id));
                report.send(self).map(|()| Delivery::Confirmed).map_err(narrowed)
            }
        }
    }
}

/// Whether a task has the result of another attempt. Reports do not name the attempt, so a late report for an expired
/// claim is accepted for the next attempt of the same worker. The times in the metadata distinguish them.
fn has_other_result(task: &TaskView, report: &ResultReport) -> bool {
    let shown = task.result.as_ref();
    ["/metadata/processed_at", "/metadata/failed_at"].iter().any(|time| {
        let shown = shown.and_then(|shown| shown.pointer(time)).and_then(Value::as_str);
        shown.zip(report.envelope.pointer(time).and_then(Value::as_str)).is_some_and(|(shown, ours)| shown != ours)
    })
}

/// Tells from the current state of the task whether a report arrived.
fn report_state(task: Option<&TaskView>, report: &ResultReport) -> ReportState {
    let Some(task) = task else { return ReportState::ClaimLost };
    let same_attempt = task.attempts == report.attempt;
    let held = same_attempt && task.claimed_by.as_deref() == Some(&report.worker_id);
    let shows_error = report.error.is_some() && task.error_message == report.error;
    match (task.status.as_str(), &report.error) {
        ("claimed", _) if held => ReportState::NotArrived,
        ("completed", None) | ("failed", Some(_)) if held && !has_other_result(task, report) => ReportState::Arrived,
        // Pending again: because of this failure, or because the claim expired.
        ("pending", _) if same_attempt && shows_error => ReportState::Arrived,
        // Put back by this failure, and claimed again since. If the claim expired instead, and the previous attempt had the
        // same error, the next attempt runs all the same.
        ("claimed", _) if task.attempts == report.attempt + 1 && shows_error => ReportState::Arrived,
        _ => ReportState::ClaimLost,
    }
}
