//! What happened to a task, line by line.
//!
//! The order is that of causes: what was created is claimed, what was claimed ends. Times are no help: the TaskManager's
//! are by another clock, and to the second.

use super::{Story, short};
use crate::clock::Timestamp;
use crate::headline::{in_one_line, split, without_colours};
use crate::store::{Status, StoredResult};
use crate::task::{Claim, Failure};
use crate::taskmanager::wire::error_within_limit;
use crate::taskmanager::{TaskView, in_words};

/// What comes before the words on another task.
const OF_ANOTHER: &str = "of another task with this ID: ";

/// A line of the story.
pub(super) struct Told {
    /// When it happened; empty where that is not known, or as before.
    pub(super) time: String,
    pub(super) words: String,
}

impl Told {
    fn at(time: Timestamp, words: String) -> Self {
        Self { time: format!("{time:.3}"), words }
    }

    fn of(words: impl Into<String>) -> Self {
        Self { time: String::new(), words: words.into() }
    }
}

impl Story {
    /// What happened, in the order in which it did.
    pub(super) fn events(&self) -> Vec<Told> {
        let task = self.server.as_ref().ok().and_then(Option::as_ref);
        let (others, own): (Vec<_>, Vec<_>) =
            self.attempts.iter().partition(|it| self.is_another(&it.result.task_type, &it.result.params));
        let mut events = Vec::new();
        for stored in others {
            self.tell(stored, &mut events);
        }
        for told in &mut events {
            told.words.insert_str(0, OF_ANOTHER);
        }
        if let Some(task) = task {
            let clock = whose_clock(task.created_at.as_deref());
            let words = format!("created at the TaskManager{clock}, priority {}", task.priority);
            events.push(Told { time: task.created_at.clone().unwrap_or_default(), words });
        }
        for stored in own {
            self.tell(stored, &mut events);
        }
        self.tell_of_claim(&mut events);
        match (task, &self.server) {
            (Some(task), _) => self.tell_of_server(task, &mut events),
            (None, Ok(_)) => events.push(Told::of("no longer in the TaskManager")),
            (None, Err(_)) => {}
        }
        events.extend(self.waits.iter().map(|why| Told::of(format!("waiting: {why}"))));
        events
    }

    fn tell_of_claim(&self, events: &mut Vec<Told>) {
        if let Some(Claim { task, worker_id, claimed_at, deadline }) = &self.claim {
            let whose = if self.is_another(&task.task_type, &task.params) { OF_ANOTHER } else { "" };
            let attempt = task.attempt;
            let words =
                format!("{whose}claimed by {worker_id}, attempt {attempt}: in flight, until {:.0}", deadline.time);
            events.push(Told::at(self.claimed(*claimed_at, self.now), words));
        }
        if self.deaths > 0 {
            events.push(Told::of(format!("a worker here died while running this task, {}", times(self.deaths))));
        }
    }

    /// Tells of an attempt that ended here: its claim, its end with what was printed last, its report.
    fn tell(&self, stored: &StoredResult, events: &mut Vec<Told>) {
        let StoredResult { result, status, reported_at, report_error, .. } = stored;
        let claimed = format!("claimed by {}, attempt {}", result.worker_id, result.attempt);
        events.push(Told::at(self.claimed(result.claimed_at, result.started_at), claimed));
        match &result.outcome.failure {
            None => {
                let words = format!("completed after {} ms: {}", result.duration_ms(), short(&result.outcome.data));
                events.push(Told::at(result.finished_at, words));
            }
            Some(failure) => {
                let error = without_colours(&failure.error);
                let (headline, rest) = split(&error);
                let words = format!("{}: {headline}", what_failed(stored, failure));
                events.push(Told::at(result.finished_at, words));
                // What is only said again has its lines where it was said first.
                let mut before = self.attempts.iter().take_while(|it| it.id != stored.id);
                let is_same =
                    |it: &StoredResult| it.result.outcome.failure.as_ref().map(|it| &it.error) == Some(&failure.error);
                if !(result.outcome.is_not_run() && before.any(is_same)) {
                    add_lines(rest, events);
                }
            }
        }
        if !result.outcome.last_words.is_empty() {
            events.push(Told::of("stderr tail:"));
            add_lines(without_colours(&result.outcome.last_words).lines().collect(), events);
        }
        events.push(match (reported_at, status, report_error) {
            (None, _, None) => Told::of("not reported yet: the next worker will report it"),
            (None, _, Some(why)) => {
                Told::of(format!("not reported yet: {why}; a worker with this results file will retry"))
            }
            (Some(at), Status::Lost, _) => Told::at(*at, "claim lost: result kept here only".to_owned()),
            (Some(at), ..) => Told::at(*at, "reported".to_owned()),
        });
        let omitted = self.omitted(stored);
        if !omitted.is_empty() {
            events.push(Told::of(format!(
                "too large for the TaskManager: sent without {}; stored here in full",
                in_words(&omitted)
            )));
        }
    }

    /// When a claim was answered, as far as that is known: it is noted when it was `asked` for, which a worker that waits
    /// does before there is a task, and it was before `work` on it began.
    fn claimed(&self, asked: Timestamp, work: Timestamp) -> Timestamp {
        let task = self.server.as_ref().ok().and_then(Option::as_ref);
        let created = task.and_then(|task| in_utc(task.created_at.as_deref()?));
        created.map_or(asked, |created| asked.max(created.min(work)))
    }

    /// Where the task is by the TaskManager's account, and what of it is not known here.
    fn tell_of_server(&self, task: &TaskView, events: &mut Vec<Told>) {
        let ended = self.attempts.iter().map(|it| &it.result).map(|it| (it.attempt, &it.task_type, &it.params));
        let in_flight = self.claim.iter().map(|it| (it.task.attempt, &it.task.task_type, &it.task.params));
        let own = ended.chain(in_flight).filter(|it| !self.is_another(it.1, it.2));
        let here: Vec<u32> = own.map(|it| it.0).collect();
        let elsewhere: Vec<String> =
            (1..=task.attempts).filter(|it| !here.contains(it)).map(|it| it.to_string()).collect();
        if !elsewhere.is_empty() {
            let words = format!("attempt {}: not in this results file, run elsewhere", elsewhere.join(", "));
            events.push(Told::of(words));
        }
        let time = match task.status.as_str() {
            "claimed" => &task.claimed_at,
            "completed" | "failed" => &task.completed_at,
            _ => &None,
        };
        let worker = task.claimed_by.as_ref().filter(|_| task.status == "claimed");
        let worker = worker.map_or_else(String::new, |worker| format!(", now by {worker}"));
        let error = task.error_message.as_deref().filter(|_| task.status != "completed");
        let error = error.filter(|error| !self.has_told(error));
        let error = error.map_or_else(String::new, |error| format!("; its last failure: {}", in_one_line(error)));
        let clock = whose_clock(time.as_deref());
        let words = format!("{} at the TaskManager{clock}, {}{worker}{error}", task.status, attempts(task.attempts));
        events.push(Told { time: time.clone().unwrap_or_default(), words });
    }

    /// Whether an attempt here failed with this error, of which the TaskManager may have the beginning.
    fn has_told(&self, error: &str) -> bool {
        let failures = self.attempts.iter().filter_map(|it| it.result.outcome.failure.as_ref());
        failures.into_iter().any(|failure| error_within_limit(&failure.error) == error)
    }
}

/// How an attempt failed, without why.
fn what_failed(stored: &StoredResult, failure: &Failure) -> String {
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
fn add_lines(lines: Vec<&str>, events: &mut Vec<Told>) {
    let printed = lines.into_iter().filter(|line| !line.trim().is_empty());
    events.extend(printed.map(|line| Told::of(format!("    {}", line.trim_end().replace('\t', "    ")))));
}

/// A time, which the TaskManager sends in UTC, with or without its zone.
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
fn whose_clock(time: Option<&str>) -> &'static str {
    let is_bare = time.is_some_and(|time| time.parse::<Timestamp>().is_err());
    if is_bare { " (by its own clock)" } else { "" }
}
