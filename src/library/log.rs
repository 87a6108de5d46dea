//! A worker's events as log lines.

use crate::store::Status;
use crate::task::TaskResult;
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer};

/// Logs what happens in a worker.
pub(crate) struct EventLog;

impl Observer for EventLog {
    fn event(&self, event: &Event<'_>) {
        log_start_and_end(event);
        log_task(event);
        log_report(event);
    }
}

fn log_start_and_end(event: &Event<'_>) {
    match event {
        Event::Warning(warning) => log::warn!("{warning}"),
        Event::Registered { task_type, id } => log::info!(task_type, type_id = id; "registered the task type"),
        Event::Ready { task_types, concurrency } => {
            let names: Vec<&str> = task_types.iter().map(|(name, _)| *name).collect();
            log::info!(task_types = names.join(" "), concurrency; "ready");
        }
        Event::Closing { asked, in_flight } => {
            let why = if *asked { "asked to end" } else { "done" };
            log::info!(in_flight; "{why}: claiming nothing more");
        }
        Event::Hanging(why) => log::error!("the worker hangs: {why}"),
        Event::OutageStarted(error) => log::warn!("{error}; waiting for it"),
        Event::OutageEnded { length, failed_calls } => {
            log::info!(outage_s = rounded(length.as_secs_f64()), failed_calls; "the TaskManager answers again");
        }
        Event::Paused { task_type, pause } => {
            let pause_s = pause.as_secs();
            log::warn!(task_type, pause_s; "too many failures in a row that may pass: claiming none for a while");
        }
        Event::Resumed(task_type) => log::info!(task_type; "works again: claiming as usual"),
        Event::Held { task_type, until, reason } => {
            let reason = reason.unwrap_or("its handler takes no tasks before");
            log::warn!(task_type; "not claimed until {until:.0}: {reason}");
        }
        Event::HoldOver(task_type) => log::info!(task_type; "claimed again"),
        Event::QuotaLow(budget) => {
            let (used, left) = (budget.used, budget.left());
            log::warn!(used, left; "most of today's YouTube quota is used; it resets at {:.0}", budget.resets_at);
        }
        Event::WrongType { task, wanted } => {
            let (task_id, task_type) = (task.id.0, task.task_type.as_str());
            log::warn!(task_id, task_type, wanted; "the TaskManager handed out another type's task: not worked");
        }
        Event::TypeGone(task_type) => log::warn!(task_type; "the TaskManager knows this task type no more"),
        Event::TypeFound { task_type, id } => {
            log::info!(task_type, type_id = id; "the TaskManager knows this task type again");
        }
        _ => {}
    }
}

fn log_task(event: &Event<'_>) {
    match event {
        Event::Claimed(claim) => {
            let (task_id, task_type) = (claim.task.id.0, claim.task.task_type.as_str());
            log::info!(task_id, task_type, attempt = claim.task.attempt; "claimed");
        }
        Event::LeftoverEnded(leftover) => {
            log::warn!(task_id = leftover.task_id.0, pid = leftover.pid; "left running by a dead worker: ended");
        }
        Event::TakenUp(claim) => {
            let (task_id, task_type) = (claim.task.id.0, claim.task.task_type.as_str());
            log::info!(task_id, task_type, attempt = claim.task.attempt; "left by an earlier process: taken up again");
        }
        Event::ClaimRenewed(claim) => {
            let (task_id, task_type) = (claim.task.id.0, claim.task.task_type.as_str());
            log::warn!(task_id, task_type, attempt = claim.task.attempt; "handed out again while it runs: it goes on");
        }
        Event::HandlerLine(claim, line) => {
            log::info!(task_id = claim.task.id.0, task_type = claim.task.task_type.as_str(); "{line}");
        }
        Event::Retry { claim, error, wait } => {
            let (task_id, task_type) = (claim.task.id.0, claim.task.task_type.as_str());
            log::warn!(task_id, task_type, wait_s = rounded(wait.as_secs_f64()); "{error}; trying again");
        }
        Event::Finished(result) => log_finished(result),
        Event::IdeasNotKept { task_id, error } => {
            log::error!(task_id = task_id.0; "{error}; the task is not reported, to be worked again");
        }
        Event::NotStored { task_id, error, reported } => {
            let comfort = if *reported { "the TaskManager has its result" } else { "its result is lost here" };
            log::error!(task_id = task_id.0; "{error}; {comfort}");
        }
        _ => {}
    }
}

fn log_finished(result: &TaskResult) {
    let (task_id, task_type, ms) = (result.task_id.0, result.task_type.as_str(), result.duration_ms());
    match &result.outcome.failure {
        None => log::info!(task_id, task_type, duration_ms = ms; "completed"),
        Some(failure) => {
            let (error_type, retryable) = (failure.error_type.as_str(), failure.retryable);
            log::warn!(task_id, task_type, duration_ms = ms, error_type, retryable; "failed: {}", failure.error);
        }
    }
}

fn log_report(event: &Event<'_>) {
    match event {
        Event::Reported { task_id, delivery: Delivery::ClaimLost, status, .. } => {
            let kept = if *status == Status::Completed { "result" } else { "failure" };
            log::warn!(task_id = task_id.0; "claim lost: the {kept} is kept in the results file only");
        }
        Event::Reported { task_id, delivery: Delivery::Confirmed, .. } => {
            log::debug!(task_id = task_id.0; "reported");
        }
        Event::ReportPostponed { task_id, error } => {
            log::debug!(task_id = task_id.0; "the result is kept and reported later: {error}");
        }
        Event::ReportRefused { task_id, error } => {
            log::error!(task_id = task_id.0; "the result stays in the results file: {error}");
        }
        _ => {}
    }
}

/// Seconds to the millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
