//! A worker's events as log lines.

use log::Level;

use crate::headline::in_one_line;
use crate::store::Status;
use crate::task::{Claim, ErrorType, TaskResult};
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer, Summary};
use crate::youtube::QuotaEvent;

/// The room that most events belong to. A filter (`log_level`) can go by these names, so they stay.
pub(crate) const WORKER: &str = "prismq::worker";
const HANDLER: &str = "prismq::handler";
const STORE: &str = "prismq::store";
const TASKMANAGER: &str = "prismq::taskmanager";

/// Logs what happens in a worker.
pub(crate) struct EventLog;

impl Observer for EventLog {
    fn event(&self, event: &Event<'_>) {
        log_start_and_end(event);
        log_type(event);
        log_task(event);
        log_report(event);
    }
}

fn log_start_and_end(event: &Event<'_>) {
    match event {
        Event::Warning(warning) => log::warn!(target: WORKER, "{warning}"),
        Event::Registered { task_type, id } => {
            log::info!(target: WORKER, task_type, type_id = id; "registered the task type");
        }
        Event::Ready { task_types, concurrency } => {
            let names: Vec<&str> = task_types.iter().map(|(name, _)| *name).collect();
            log::info!(target: WORKER, task_types = names.join(" "), concurrency; "ready");
        }
        Event::Closing { asked, in_flight } => {
            let why = if *asked { "asked to end" } else { "done" };
            let rest = if *asked && *in_flight > 0 { "; a second signal ends what still runs" } else { "" };
            log::info!(target: WORKER, in_flight; "{why}: claiming nothing more{rest}");
        }
        Event::StoreFailed { error, room } => {
            let kib = room.div_ceil(1 << 10);
            let room = if kib >= 1 << 10 { format!("{} MiB", kib >> 10) } else { format!("{kib} KiB") };
            log::error!(target: STORE, "{error}: claiming nothing until it can be written, with {room} free");
        }
        Event::StoreMended { length } => {
            log::info!(target: STORE, outage_s = rounded(length.as_secs_f64()); "results and ideas can be written again");
        }
        Event::FilesGone(error) => log::error!(target: STORE, "{error}: claiming nothing more"),
        Event::Ended(Summary { counters, unreported, .. }) => {
            log::info!(target: WORKER, completed = counters.completed, failed = counters.failed, unreported; "ended");
        }
        Event::Hanging(why) => log::error!(target: WORKER, "the worker hangs: {why}"),
        Event::OutageStarted(error) => log::warn!(target: TASKMANAGER, "{error}; waiting for it"),
        Event::OutageEnded { length, failed_calls } => {
            let outage_s = rounded(length.as_secs_f64());
            log::info!(target: TASKMANAGER, outage_s, failed_calls; "the TaskManager answers again");
        }
        _ => {}
    }
}

/// Whether tasks of a type are claimed.
fn log_type(event: &Event<'_>) {
    match event {
        Event::Paused { task_type, pause } => {
            let pause_s = pause.as_secs();
            log::warn!(
                target: WORKER, task_type, pause_s;
                "too many failures in a row that may pass: claiming none for a while"
            );
        }
        Event::Resumed(task_type) => log::info!(target: WORKER, task_type; "works again: claiming as usual"),
        Event::Snoozed { task_type, until, reason } => {
            let reason = reason.unwrap_or("its handler takes no tasks before");
            log::warn!(target: WORKER, task_type; "not claimed until {until:.0}: {}", in_one_line(reason));
        }
        Event::SnoozeEnded(task_type) => log::info!(target: WORKER, task_type; "claimed again"),
        Event::WrongType { task, wanted, again } => {
            let (task_id, task_type) = (task.id.0, task.task_type.as_str());
            log::log!(
                target: WORKER, unless_said(*again, Level::Warn), task_id, task_type, wanted;
                "the TaskManager handed out another type's task: not worked"
            );
        }
        Event::TypeGone(task_type) => {
            log::warn!(target: TASKMANAGER, task_type; "the TaskManager knows this task type no more");
        }
        Event::TypeFound { task_type, id } => {
            log::info!(target: TASKMANAGER, task_type, type_id = id; "the TaskManager knows this task type again");
        }
        _ => {}
    }
}

/// Logs that most of a day's quota of YouTube is used.
pub(crate) fn log_quota(event: &QuotaEvent) {
    if let QuotaEvent::Low(budget) = event {
        let (used, left, resets_at) = (budget.used, budget.left(), budget.resets_at);
        log::warn!(target: WORKER, used, left; "most of today's YouTube quota is used; it resets at {resets_at:.0}");
    }
}

fn log_task(event: &Event<'_>) {
    match event {
        Event::Claimed(claim) => {
            let (task_id, task_type, attempt) = attempt_of(claim);
            log::info!(target: WORKER, task_id, task_type, attempt; "claimed");
        }
        Event::LeftoverEnded(leftover) => {
            let (task_id, pid) = (leftover.task_id.map(|it| it.0), leftover.pid);
            log::warn!(target: WORKER, task_id, pid; "left running by a dead worker: ended");
        }
        Event::TakenUp(claim) => {
            let (task_id, task_type, attempt) = attempt_of(claim);
            log::info!(target: WORKER, task_id, task_type, attempt; "left by an earlier process: taken up again");
        }
        Event::LostClaimFound(claim) => {
            let (task_id, task_type, attempt) = attempt_of(claim);
            log::info!(target: WORKER, task_id, task_type, attempt; "claimed without an answer: taken up");
        }
        Event::ClaimRenewed { claim, again } => {
            let ((task_id, task_type, attempt), level) = (attempt_of(claim), unless_said(*again, Level::Warn));
            log::log!(target: WORKER, level, task_id, task_type, attempt; "handed out again while it runs: it goes on");
        }
        Event::NotRun { claim, reason } => {
            let (task_id, task_type, attempt) = attempt_of(claim);
            log::warn!(target: WORKER, task_id, task_type, attempt; "not run: {reason}");
        }
        Event::HandlerLine(claim, line) => {
            let (task_id, task_type, _) = attempt_of(claim);
            log::info!(target: HANDLER, task_id, task_type; "{line}");
        }
        Event::Ignored(claim, problem) => {
            let (task_id, task_type, _) = attempt_of(claim);
            log::warn!(target: WORKER, task_id, task_type; "{problem}");
        }
        Event::Retry { claim, error, wait } => {
            let ((task_id, task_type, _), wait_s) = (attempt_of(claim), rounded(wait.as_secs_f64()));
            log::warn!(target: WORKER, task_id, task_type, wait_s; "{}; trying again", in_one_line(error));
        }
        Event::Finished(result) => log_finished(result),
        Event::IdeasNotKept { task_id, error } => {
            log::error!(target: STORE, task_id = task_id.0; "{error}; the task is not reported, to be worked again");
        }
        Event::GivenBack { task_id, error, returned: true } => {
            log::error!(target: STORE, task_id = task_id.0; "given back: {error}");
        }
        Event::GivenBack { task_id, error, returned: false } => {
            log::error!(target: STORE, task_id = task_id.0; "{error}; the task stays claimed until its claim is over");
        }
        Event::StoreWaits { task_id, error } => {
            log::warn!(target: STORE, task_id = task_id.0; "{error}; trying again");
        }
        Event::ClaimWaits { claim, error } => {
            let (task_id, task_type, attempt) = attempt_of(claim);
            log::warn!(target: STORE, task_id, task_type, attempt; "{error}; trying again");
        }
        Event::StoreWaited { task_id } => log::info!(target: STORE, task_id = task_id.0; "written after all"),
        Event::PollNoted(Some(error)) => log::warn!(target: STORE, "{error}"),
        Event::NotStored { task_id, error, reported } => {
            let comfort = if *reported { "the TaskManager has its result" } else { "its result is lost here" };
            log::error!(target: STORE, task_id = task_id.0; "{error}; {comfort}");
        }
        _ => {}
    }
}

fn attempt_of(claim: &Claim) -> (u64, &str, u32) {
    (claim.task.id.0, claim.task.task_type.as_str(), claim.task.attempt)
}

fn log_finished(result: &TaskResult) {
    let (task_id, task_type, ms) = (result.task_id.0, result.task_type.as_str(), result.duration_ms());
    match &result.outcome.failure {
        None => log::info!(target: WORKER, task_id, task_type, duration_ms = ms; "completed"),
        Some(failure) if failure.error_type == ErrorType::Worker => {
            log::error!(target: WORKER, task_id, task_type; "given back: {}", in_one_line(&failure.error));
        }
        Some(failure) if result.outcome.is_not_run() => {
            log::info!(target: WORKER, task_id, task_type; "not run again, failed as before: {}", in_one_line(&failure.error));
        }
        Some(failure) => {
            let (error_type, retryable, error) =
                (failure.error_type.as_str(), failure.retryable, in_one_line(&failure.error));
            log::warn!(target: WORKER, task_id, task_type, duration_ms = ms, error_type, retryable; "failed: {error}");
        }
    }
}

fn log_report(event: &Event<'_>) {
    match event {
        Event::Reported { task_id, delivery: Delivery::ClaimLost, status, .. } => {
            let kept = if *status == Status::Completed { "result" } else { "failure" };
            log::warn!(target: WORKER, task_id = task_id.0; "claim lost: the {kept} is kept in the results file only");
        }
        Event::Reported { task_id, delivery: Delivery::Confirmed, .. } => {
            log::debug!(target: WORKER, task_id = task_id.0; "reported");
        }
        Event::ReportPostponed { task_id, error } => {
            log::debug!(target: WORKER, task_id = task_id.0; "the result is kept and reported later: {error}");
        }
        Event::ReportRefused { task_id, error, again } => {
            let level = unless_said(*again, Level::Error);
            log::log!(target: WORKER, level, task_id = task_id.0; "the result stays in the results file: {error}");
        }
        _ => {}
    }
}

/// The level of what matters, but for those who want to know of each time.
fn unless_said(again: bool, level: Level) -> Level {
    if again { Level::Debug } else { level }
}

/// Seconds to the millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
