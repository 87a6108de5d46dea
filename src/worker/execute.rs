//! Runs a claimed task: checks its params, calls its handler, retries inside the claim, sends its progress.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::json;

use super::types::check_limits;
use super::{Completer, Event, Observer, WorkerType};
use crate::clock::{Moment, Slept, between};
use crate::config::Config;
use crate::handler::{Listener, Run, stopped};
use crate::json::{self, MAX_DEPTH};
use crate::schema::{CheckResult, Fault};
use crate::shutdown::{CancelReason, CancelToken};
use crate::store::check_ideas;
use crate::task::{Claim, ErrorType, Failure, NOT_RUN, Outcome, Task, TaskId, TaskResult};
use crate::taskmanager::{Backoff, Client, Retries};

/// A task that was running at this many crashes of a worker is not run again: it may have caused them.
const MAX_CRASHES: u32 = 3;

/// Minimum time between two progress reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a result waits, before it is stored, for the last progress report to be answered.
const LAST_REPORT: Duration = Duration::from_secs(5);

/// Runs tasks.
pub(crate) struct Executor<'a> {
    pub config: &'a Config,
    /// Stores and reports results. The sleeps of its clock end when the worker starts to drain.
    pub completer: Completer<'a>,
}

impl Executor<'_> {
    /// Returns the maximum time of an attempt.
    pub(super) fn timeout(&self, worker_type: &WorkerType) -> Duration {
        worker_type.timeout(self.completer.client.known_features().renew)
    }

    /// Builds the claim of a task that was claimed at `claimed_at`.
    pub(crate) fn claim(&self, task: Task, worker_type: &WorkerType, claimed_at: Moment) -> Claim {
        let worker_id = self.config.worker_id.value.clone();
        let deadline = claimed_at.later(self.timeout(worker_type));
        let mut claim = Claim { task, worker_id, claimed_at: claimed_at.time, deadline };
        if let Some(schema) = &worker_type.schema {
            schema.repair(&mut claim.task.params);
        }
        claim
    }

    /// Runs a task to its end; workers have crashed `crashes` times while running it. Stores and reports nothing.
    pub(crate) fn run(
        &self,
        claim: Claim,
        crashes: u32,
        worker_type: &WorkerType,
        stop: &Arc<CancelToken>,
    ) -> TaskResult {
        let start = self.completer.clock.moment();
        let refused = self.refusal(&claim, crashes).or_else(|| breach(&claim, worker_type, stop));
        let mut outcome = refused.unwrap_or_else(|| of_handler(self.attempt_with_retries(&claim, worker_type, stop)));
        if let Some(not_before) = outcome.not_before {
            outcome.metadata.insert("not_before".into(), json!(not_before));
        }
        TaskResult::new(claim, outcome, self.completer.client.url(), start.time, start.now())
    }

    /// Returns the outcome of a task that must not run.
    fn refusal(&self, claim: &Claim, crashes: u32) -> Option<Outcome> {
        let task = &claim.task;
        let most = self.config.max_attempts.value;
        if task.attempt > most {
            let error = format!("claimed {} times, more than max_attempts = {most}: not run", task.attempt);
            return Some(Outcome::failure(ErrorType::Other(ErrorType::MAX_ATTEMPTS.into()), error));
        }
        if crashes >= MAX_CRASHES {
            let error = format!("a worker died while running this task, {crashes} times: not run again");
            return Some(Outcome::failure(ErrorType::Other(ErrorType::WORKER_DIED.into()), error));
        }
        if let Err(error) = check_limits(&task.params) {
            return Some(Outcome::failure(ErrorType::Validation, error));
        }
        // If this cannot be read now, the task runs: at worst it refuses its params once more.
        let failure = self.completer.store.lasting_failure(task, self.completer.client.url()).ok().flatten();
        failure.map(Outcome::not_run)
    }

    /// Runs the handler, and retries retryable failures inside the claim while the deadline allows.
    fn attempt_with_retries(&self, claim: &Claim, worker_type: &WorkerType, stop: &Arc<CancelToken>) -> Outcome {
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

    /// Runs the handler once. Most handlers report no progress, so the thread that sends it starts with the first
    /// report.
    fn attempt(&self, claim: &Claim, worker_type: &WorkerType, stop: &Arc<CancelToken>) -> Outcome {
        let (progress, is_sent) = (Arc::new(Progress::default()), AtomicBool::new(false));
        let timeout = claim.deadline.left();
        let note = |percent, message: Option<&str>| {
            progress.note(percent, message);
            self.completer.observer.event(&Event::Progress { task_id: claim.task.id, percent, message });
            if !is_sent.swap(true, Ordering::SeqCst) {
                // A second try, since a kept connection may have broken; the next report is newer anyway.
                let client = self.completer.client.with_retries(Retries {
                    tries: 2,
                    retry_after_budget: Duration::ZERO,
                    ..Retries::STANDARD
                });
                // If the system refuses a thread, the task goes on, and the next report tries again.
                is_sent.store(progress.start_sending(client, claim, stop), Ordering::SeqCst);
            }
        };
        let listener = TaskListener { claim, note: &note, observer: self.completer.observer };
        let run = Run::new(timeout, stop, &listener);
        // After a panic only the handler itself is used again, and its state is its own business.
        let ran = panic::catch_unwind(AssertUnwindSafe(|| worker_type.handler.run(claim, &run)));
        progress.end(stop);
        ran.unwrap_or_else(panicked)
    }
}

/// Returns the outcome of a task whose params do not match the schema, or could not be checked in time.
fn breach(claim: &Claim, worker_type: &WorkerType, stop: &CancelToken) -> Option<Outcome> {
    let schema = worker_type.schema.as_ref()?;
    match schema.check(&claim.task.params, claim.deadline.left(), stop) {
        CheckResult::Fit => None,
        CheckResult::Unfit(Fault { path, message }) => {
            Some(Outcome::failure(ErrorType::Validation, format!("params{path}: {message}")))
        }
        CheckResult::Unknown(why) => Some(Outcome::failure(ErrorType::Timeout, format!("params: {why}"))),
        CheckResult::Interrupted => Some(stopped(stop.get().unwrap_or(CancelReason::Shutdown))),
    }
}

/// Returns the failure for a panic, which is handled like an unknown exit code of a program.
#[allow(clippy::needless_pass_by_value, reason = "as `unwrap_or_else` hands it over")]
fn panicked(payload: Box<dyn Any + Send>) -> Outcome {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let error =
        text.map_or_else(|| "handler panicked (no message)".to_owned(), |text| format!("handler panicked: {text}"));
    Outcome::failure(ErrorType::Handler, error)
}

/// Marks an outcome as a handler's own: its failures count as attempts, unless it could not run.
fn of_handler(mut outcome: Outcome) -> Outcome {
    outcome.metadata.remove(NOT_RUN);
    if outcome.failure.as_ref().is_some_and(|failure| failure.error_type == ErrorType::Worker) {
        outcome.metadata.insert(NOT_RUN.into(), json!(true));
    }
    with_sound_ideas(within_limits(outcome))
}

/// Turns an outcome whose result exceeds the JSON limits into a failure. Handlers written in Rust can produce one.
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

/// Turns an outcome whose ideas are invalid into a failure that says what is wrong.
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

#[derive(Default)]
struct ProgressState {
    latest: Option<(u8, Option<String>)>,
    ended: bool,
    /// Number of sending threads.
    senders: usize,
    /// Whether to stop waiting for the answer.
    is_given_up: bool,
}

/// Sends the progress of one running task: at most one report a second, always the last one, and without delaying the
/// handler.
#[derive(Default)]
struct Progress {
    state: Mutex<ProgressState>,
    changed: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock()
    }

    /// Notes the handler's progress, replacing an earlier note that was not sent yet.
    fn note(&self, percent: u8, message: Option<&str>) {
        self.lock().latest = Some((percent, message.map(str::to_owned)));
        self.changed.notify_all();
    }

    /// Waits for the last report to be sent, unless the task is killed.
    fn end(self: &Arc<Self>, stop: &CancelToken) {
        self.lock().ended = true;
        self.changed.notify_all();
        if self.lock().senders == 0 {
            return;
        }
        let progress = Arc::clone(self);
        stop.on_raise(Some(CancelReason::Shutdown), move |_| {
            progress.lock().is_given_up = true;
            progress.changed.notify_all();
        });
        let waits = |state: &mut ProgressState| state.senders > 0 && !state.is_given_up;
        self.changed.wait_while_for(&mut self.lock(), waits, LAST_REPORT);
    }

    /// Sends progress from a thread of its own until [`Progress::end`], so that a slow call can be given up. False if
    /// the system refuses a thread.
    fn start_sending(self: &Arc<Self>, client: Client, claim: &Claim, stop: &Arc<CancelToken>) -> bool {
        let (progress, stop) = (Arc::clone(self), Arc::clone(stop));
        let (id, worker_id) = (claim.task.id, claim.worker_id.clone());
        self.lock().senders += 1;
        let send = move || progress.send(&client, id, &worker_id, &stop);
        let is_sent = thread::Builder::new().name("progress".into()).spawn(send).is_ok();
        if !is_sent {
            self.lock().senders -= 1;
        }
        is_sent
    }

    /// Sends progress until the end. A failed report is not repeated: the next one is newer. If the task is claimed by
    /// another worker by now, it is cancelled.
    fn send(&self, client: &Client, id: TaskId, worker_id: &str, stop: &CancelToken) {
        let mut next = Instant::now();
        while let Some((percent, message)) = self.wait(next) {
            let sent = client.progress(id, worker_id, percent, message.as_deref());
            if sent.is_err_and(|error| error.says_not_claimed()) {
                stop.raise(Some(CancelReason::ClaimLost));
            }
            next = Instant::now() + INTERVAL;
        }
        self.lock().senders -= 1;
        self.changed.notify_all();
    }

    /// Waits for a note, not before `next` unless the end has come; `None` if nothing is left to send.
    fn wait(&self, next: Instant) -> Option<(u8, Option<String>)> {
        let mut state = self.lock();
        loop {
            let early = next.saturating_duration_since(Instant::now());
            if state.ended || (state.latest.is_some() && early.is_zero()) {
                return state.latest.take();
            }
            if state.latest.is_some() {
                self.changed.wait_for(&mut state, early);
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}
