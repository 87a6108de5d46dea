//! The events of a task's history.
//!
//! They are in causal order (created, claimed, ended), not sorted by time: the TaskManager's times are from another clock,
//! in whole seconds.

use super::{TaskHistory, short};
use crate::clock::Timestamp;
use crate::headline::{in_one_line, split, without_colours};
use crate::store::{ResultStatus, StoredResult};
use crate::task::{Claim, Failure};
use crate::taskmanager::wire::error_within_limit;
use crate::taskmanager::{TaskView, join_names};

/// Prefix of events of a different task.
const OF_ANOTHER: &str = "of another task with this ID: ";

/// A line of the history.
pub(super) struct HistoryEvent {
    /// The time; empty if unknown or the same as before.
    pub(super) time: String,
    pub(super) text: String,
}

impl HistoryEvent {
    fn at(time: Timestamp, text: String) -> Self {
        Self { time: format!("{time:.3}"), text }
    }

    fn of(text: impl Into<String>) -> Self {
        Self { time: String::new(), text: text.into() }
    }
}

impl TaskHistory {
    /// Returns the events in order.
    pub(super) fn events(&self) -> Vec<HistoryEvent> {
        let task = self.server.as_ref().ok().and_then(Option::as_ref);
        let (others, own): (Vec<_>, Vec<_>) =
            self.attempts.iter().partition(|it| self.is_another(&it.result.task_type, &it.result.params));
        let mut events = Vec::new();
        for stored in others {
            self.add_attempt(stored, &mut events);
        }
        for event in &mut events {
            event.text.insert_str(0, OF_ANOTHER);
        }
        if let Some(task) = task {
            let clock = clock_note(task.created_at.as_deref());
            let text = format!("created in the TaskManager{clock}, priority {}", task.priority);
            events.push(HistoryEvent { time: task.created_at.clone().unwrap_or_default(), text });
        }
        for stored in own {
            self.add_attempt(stored, &mut events);
        }
        self.add_claim(&mut events);
        match (task, &self.server) {
            (Some(task), _) => self.add_server_state(task, &mut events),
            (None, Ok(_)) => events.push(HistoryEvent::of("no longer in the TaskManager")),
            (None, Err(_)) => {}
        }
        events.extend(self.waits.iter().map(|why| HistoryEvent::of(format!("waiting: {why}"))));
        events
    }

    fn add_claim(&self, events: &mut Vec<HistoryEvent>) {
        if let Some(Claim { task, worker_id, claimed_at, deadline }) = &self.claim {
            let whose = if self.is_another(&task.task_type, &task.params) { OF_ANOTHER } else { "" };
            let attempt = task.attempt;
            let text =
                format!("{whose}claimed by {worker_id}, attempt {attempt}: in flight, deadline {:.0}", deadline.time);
            events.push(HistoryEvent::at(self.claimed(*claimed_at, self.now, self.attempts.last()), text));
        }
        if self.deaths > 0 {
            events
                .push(HistoryEvent::of(format!("a worker here died while running this task, {}", times(self.deaths))));
        }
    }

    /// Adds the events of a local attempt: its claim, its end with the stderr tail, its report.
    fn add_attempt(&self, stored: &StoredResult, events: &mut Vec<HistoryEvent>) {
        let StoredResult { result, status, reported_at, report_error, .. } = stored;
        let claimed = format!("claimed by {}, attempt {}", result.worker_id, result.attempt);
        let previous = self.attempts.iter().take_while(|it| it.id != stored.id).last();
        events.push(HistoryEvent::at(self.claimed(result.claimed_at, result.started_at, previous), claimed));
        match &result.outcome.failure {
            None => {
                let text = format!("completed after {} ms: {}", result.duration_ms(), short(&result.outcome.data));
                events.push(HistoryEvent::at(result.finished_at, text));
            }
            Some(failure) => self.add_failure(stored, failure, events),
        }
        if !result.outcome.stderr_tail.is_empty() {
            events.push(HistoryEvent::of("stderr tail:"));
            add_lines(without_colours(&result.outcome.stderr_tail).lines().collect(), events);
        }
        events.push(match (reported_at, status, report_error) {
            (None, _, None) => HistoryEvent::of("not reported yet; a worker with this results file will report it"),
            (None, _, Some(why)) => {
                HistoryEvent::of(format!("not reported yet: {why}; a worker with this results file will send it again"))
            }
            (Some(_), ResultStatus::Lost, _) => {
                HistoryEvent::at(self.settled(stored), "claim lost: result kept here only".to_owned())
            }
            (Some(_), ..) => HistoryEvent::at(self.settled(stored), "reported".to_owned()),
        });
        let omitted = self.omitted(stored);
        if !omitted.is_empty() {
            events.push(HistoryEvent::of(format!(
                "too large for the TaskManager: sent without {}; stored here in full",
                join_names(&omitted)
            )));
        }
    }

    fn add_failure(&self, stored: &StoredResult, failure: &Failure, events: &mut Vec<HistoryEvent>) {
        let result = &stored.result;
        let error = without_colours(&failure.error);
        let (headline, rest) = split(&error);
        let text = format!("{}: {headline}", failure_summary(stored, failure));
        events.push(HistoryEvent::at(result.finished_at, text));
        // Repeated errors are shown in full only the first time.
        let mut before = self.attempts.iter().take_while(|it| it.id != stored.id);
        let is_same =
            |it: &StoredResult| it.result.outcome.failure.as_ref().map(|it| &it.error) == Some(&failure.error);
        if !(result.outcome.is_not_run() && before.any(is_same)) {
            add_lines(rest, events);
        }
    }

    /// Estimates when a claim was answered. It was recorded when it was `asked` for, which may be long before for a long poll,
    /// and was answered after the `previous` attempt was settled and before `work` began.
    fn claimed(&self, asked: Timestamp, work: Timestamp, previous: Option<&StoredResult>) -> Timestamp {
        let task = self.server.as_ref().ok().and_then(Option::as_ref);
        let created = task.and_then(|task| in_utc(task.created_at.as_deref()?));
        let settled = previous.map(|previous| self.settled(previous));
        created.max(settled).map_or(asked, |earliest| asked.max(earliest.min(work)))
    }

    /// Estimates when the report of an attempt was answered: before the next attempt began. The mark that records the time
    /// may be written after that.
    fn settled(&self, stored: &StoredResult) -> Timestamp {
        let next = self.attempts.iter().skip_while(|it| it.id != stored.id).nth(1);
        let marked = stored.reported_at.unwrap_or(stored.result.finished_at);
        next.map_or(marked, |next| marked.min(next.result.started_at.max(stored.result.finished_at)))
    }

    /// Adds the TaskManager's state of the task, and attempts that are unknown here.
    fn add_server_state(&self, task: &TaskView, events: &mut Vec<HistoryEvent>) {
        let ended = self.attempts.iter().map(|it| &it.result).map(|it| (it.attempt, &it.task_type, &it.params));
        let in_flight = self.claim.iter().map(|it| (it.task.attempt, &it.task.task_type, &it.task.params));
        let own = ended.chain(in_flight).filter(|it| !self.is_another(it.1, it.2));
        let here: Vec<u32> = own.map(|it| it.0).collect();
        let elsewhere: Vec<String> =
            (1..=task.attempts).filter(|it| !here.contains(it)).map(|it| it.to_string()).collect();
        if !elsewhere.is_empty() {
            let text = format!("attempt {}: not in this results file, run elsewhere", elsewhere.join(", "));
            events.push(HistoryEvent::of(text));
        }
        let time = match task.status.as_str() {
            "claimed" => &task.claimed_at,
            "completed" | "failed" => &task.completed_at,
            _ => &None,
        };
        let worker = task.claimed_by.as_ref().filter(|_| task.status == "claimed");
        let worker = worker.map_or_else(String::new, |worker| format!(", now by {worker}"));
        let error = task.error_message.as_deref().filter(|_| task.status != "completed");
        let error = error.filter(|error| !self.is_shown(error));
        let error = error.map_or_else(String::new, |error| format!("; its last failure: {}", in_one_line(error)));
        let clock = clock_note(time.as_deref());
        let text = format!("{} in the TaskManager{clock}, {}{worker}{error}", task.status, attempts(task.attempts));
        events.push(HistoryEvent { time: time.clone().unwrap_or_default(), text });
    }

    /// Whether a local attempt failed with this error, which the TaskManager may have truncated.
    fn is_shown(&self, error: &str) -> bool {
        let failures = self.attempts.iter().filter_map(|it| it.result.outcome.failure.as_ref());
        failures.into_iter().any(|failure| error_within_limit(&failure.error) == error)
    }
}

/// Describes how an attempt failed, without the error.
fn failure_summary(stored: &StoredResult, failure: &Failure) -> String {
    let (outcome, error_type) = (&stored.result.outcome, failure.error_type.as_str());
    match (outcome.is_not_run(), failure.retryable) {
        (true, _) if error_type == "worker" => "returned".to_owned(),
        (true, _) => format!("not run again, failed before ({error_type})"),
        (false, retryable) => {
            let again = if retryable { "retryable" } else { "not retryable" };
            format!("failed after {} ms ({error_type}, {again})", stored.result.duration_ms())
        }
    }
}

/// Adds lines that a handler printed, below what they belong to. Tabs would be escaped.
fn add_lines(lines: Vec<&str>, events: &mut Vec<HistoryEvent>) {
    let printed = lines.into_iter().filter(|line| !line.trim().is_empty());
    events.extend(printed.map(|line| HistoryEvent::of(format!("    {}", line.trim_end().replace('\t', "    ")))));
}

/// Parses a time of the TaskManager: in UTC, with or without its zone.
fn in_utc(time: &str) -> Option<Timestamp> {
    time.parse().or_else(|_| format!("{time}Z").parse()).ok()
}

fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{count} attempts") }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Marks a time that the TaskManager sends without a zone: it must not be compared with those of this machine.
fn clock_note(time: Option<&str>) -> &'static str {
    let is_bare = time.is_some_and(|time| time.parse::<Timestamp>().is_err());
    if is_bare { " (by its own clock)" } else { "" }
}
