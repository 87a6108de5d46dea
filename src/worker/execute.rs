//! One claimed task: run, stored, reported, in this order.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::progress::Progress;
use super::{Completer, Event, Observer, WorkerType, params};
use crate::clock::{Moment, Slept, between};
use crate::config::Config;
use crate::handler::{Listener, Run, stopped};
use crate::json::{self, MAX_DEPTH};
use crate::schema::{Fault, Verdict};
use crate::shutdown::{Stop, StopReason};
use crate::store::check_ideas;
use crate::task::{Claim, ErrorType, Failure, NOT_RUN, Outcome, Task, TaskResult};
use crate::taskmanager::{Backoff, Retries};

/// A task that was in flight at so many deaths of a worker is not run again: it may be what killed them.
const MOST_DEATHS: u32 = 3;

/// What working a task takes.
pub(crate) struct Executor<'a> {
    /// The settings in force.
    pub config: &'a Config,
    /// What stores and reports results; its clock's sleeps end when the worker starts to drain.
    pub completer: Completer<'a>,
}

impl Executor<'_> {
    /// Makes a claim of a task that was handed out at `claimed_at`.
    pub(crate) fn claim(&self, task: Task, worker_type: &WorkerType, claimed_at: Moment) -> Claim {
        let worker_id = self.config.worker_id.value.clone();
        let deadline = claimed_at.later(worker_type.timeout);
        let mut claim = Claim { task, worker_id, claimed_at: claimed_at.time, deadline };
        if let Some(schema) = &worker_type.schema {
            schema.heal(&mut claim.task.params);
        }
        claim
    }

    /// Works a task, over which a worker has died `deaths` times, to its end. Nothing is stored or reported yet.
    pub(crate) fn run(&self, claim: Claim, deaths: u32, worker_type: &WorkerType, stop: &Arc<Stop>) -> TaskResult {
        let start = self.completer.clock.moment();
        let refused = self.refusal(&claim, deaths).or_else(|| breach(&claim, worker_type, stop));
        let mut outcome = refused.unwrap_or_else(|| of_handler(self.attempt_with_retries(&claim, worker_type, stop)));
        if let Some(not_before) = outcome.not_before {
            outcome.metadata.insert("not_before".into(), json!(not_before));
        }
        TaskResult::new(claim, outcome, self.completer.client.url(), start.time, start.now())
    }

    /// The outcome of a task that must not run.
    fn refusal(&self, claim: &Claim, deaths: u32) -> Option<Outcome> {
        let task = &claim.task;
        let most = self.config.max_attempts.value;
        if task.attempt > most {
            let error = format!("claimed {} times, more than max_attempts = {most}: not run", task.attempt);
            return Some(Outcome::failure(ErrorType::Other("max_attempts".into()), error));
        }
        if deaths >= MOST_DEATHS {
            let error = format!("a worker died while running this task, {deaths} times: not run again");
            return Some(Outcome::failure(ErrorType::Other("worker_died".into()), error));
        }
        if let Err(error) = params::check_limits(&task.params) {
            return Some(Outcome::failure(ErrorType::Validation, error));
        }
        // If that cannot be read now, the task is run: at worst it refuses its params once more.
        let failure = self.completer.store.lasting_failure(task, self.completer.client.url()).ok().flatten();
        failure.map(Outcome::not_run)
    }

    /// Tries again what may be tried again, inside the claim, while the deadline allows.
    fn attempt_with_retries(&self, claim: &Claim, worker_type: &WorkerType, stop: &Arc<Stop>) -> Outcome {
        let retry = &worker_type.retry;
        let mut backoff = Backoff::new(retry.delay, retry.backoff_factor, Duration::MAX);
        let mut tries = 1;
        loop {
            let outcome = self.attempt(claim, worker_type, stop);
            let Some(failure) = outcome.failure.as_ref().filter(|failure| failure.retryable) else { return outcome };
            let not_before =
                outcome.not_before.map_or(Duration::ZERO, |time| between(self.completer.clock.now(), time));
            let wait = backoff.grow().max(not_before);
            let in_time = wait < claim.deadline.left();
            if tries >= retry.max_attempts || !in_time || stop.get().is_some() {
                return outcome;
            }
            self.completer.observer.event(&Event::Retry { claim, error: &failure.error, wait });
            if self.completer.clock.sleep(wait) == Slept::Interrupted {
                return outcome;
            }
            tries += 1;
        }
    }

    /// Most handlers report no progress: what sends it is started by the first report.
    fn attempt(&self, claim: &Claim, worker_type: &WorkerType, stop: &Arc<Stop>) -> Outcome {
        let (progress, is_sent) = (Arc::new(Progress::default()), AtomicBool::new(false));
        let timeout = claim.deadline.left();
        let note = |percent, message: Option<&str>| {
            progress.note(percent, message);
            self.completer.observer.event(&Event::Progress { task_id: claim.task.id, percent, message });
            if !is_sent.swap(true, Ordering::SeqCst) {
                // Another try, since a kept connection may have broken; the next report says more anyway.
                let client = self.completer.client.with_retries(Retries {
                    tries: 2,
                    retry_after_budget: Duration::ZERO,
                    ..Retries::STANDARD
                });
                // Where the system has no thread left, the task goes on, and the next report tries again.
                is_sent.store(progress.start_sending(client, claim, stop), Ordering::SeqCst);
            }
        };
        let listener = TaskListener { claim, note: &note, observer: self.completer.observer };
        let run = Run::new(timeout, stop, &listener);
        // Nothing of a handler is looked at after it has panicked but the handler itself, whose business it is.
        let ran = panic::catch_unwind(AssertUnwindSafe(|| worker_type.handler.run(claim, &run)));
        progress.end(stop);
        ran.unwrap_or_else(panicked)
    }
}

/// The outcome of a task whose params break the schema, or of which that is not known in time.
fn breach(claim: &Claim, worker_type: &WorkerType, stop: &Stop) -> Option<Outcome> {
    let schema = worker_type.schema.as_ref()?;
    match schema.check(&claim.task.params, claim.deadline.left(), stop) {
        Verdict::Fit => None,
        Verdict::Unfit(Fault { path, message }) => {
            Some(Outcome::failure(ErrorType::Validation, format!("params{path}: {message}")))
        }
        Verdict::Unknown(why) => Some(Outcome::failure(ErrorType::Timeout, format!("params: {why}"))),
        Verdict::Interrupted => Some(stopped(stop.get().unwrap_or(StopReason::Shutdown))),
    }
}

/// What a panic says of the attempt: as where a program exits with another code than those that mean something.
#[allow(clippy::needless_pass_by_value, reason = "as `unwrap_or_else` hands it over")]
fn panicked(payload: Box<dyn Any + Send>) -> Outcome {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let error =
        text.map_or_else(|| "handler panicked (no message)".to_owned(), |text| format!("handler panicked: {text}"));
    Outcome::failure(ErrorType::Handler, error)
}

/// What a handler has made of a task. It has run, whatever it says: its failures count. But not where it could not be run.
fn of_handler(mut outcome: Outcome) -> Outcome {
    outcome.metadata.remove(NOT_RUN);
    if outcome.failure.as_ref().is_some_and(|failure| failure.error_type == ErrorType::Worker) {
        outcome.metadata.insert(NOT_RUN.into(), json!(true));
    }
    with_sound_ideas(within_limits(outcome))
}

/// An outcome whose result could not be read again is a failure: handlers that are not programs can make one.
fn within_limits(outcome: Outcome) -> Outcome {
    let metadata = outcome.metadata.values().try_for_each(|value| json::check_parts(value, MAX_DEPTH));
    match json::check_parts(&outcome.data, MAX_DEPTH).and(metadata) {
        Ok(()) => outcome,
        Err(error) => Outcome {
            not_before: outcome.not_before,
            ..Outcome::failure(ErrorType::Handler, format!("result is {error}"))
        },
    }
}

/// An outcome whose ideas cannot be kept is a failure: the handler says what makes no sense.
#[must_use]
pub(crate) fn with_sound_ideas(outcome: Outcome) -> Outcome {
    match check_ideas(&outcome) {
        Ok(()) => outcome,
        Err(error) => {
            let failure = Failure { error, error_type: ErrorType::Handler, retryable: false };
            Outcome { failure: Some(failure), ..outcome }
        }
    }
}

struct TaskListener<'a> {
    claim: &'a Claim,
    note: &'a (dyn Fn(u8, Option<&str>) + Sync),
    observer: &'a dyn Observer,
}

impl Listener for TaskListener<'_> {
    fn progress(&self, percent: u8, message: Option<&str>) {
        (self.note)(percent, message);
    }

    fn stderr_line(&self, line: &str) {
        self.observer.event(&Event::HandlerLine(self.claim, line));
    }

    fn warning(&self, problem: &str) {
        self.observer.event(&Event::Ignored(self.claim, problem));
    }
}
