//! Logs the events of a worker.

use log::Level;

use crate::headline::in_one_line;
use crate::store::ResultStatus;
use crate::task::{Claim, ErrorType, TaskResult};
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer, Summary};
use crate::youtube::QuotaEvent;

/// Targets of log records. Users filter by them in `log_level`, so they must not change.
pub(crate) const WORKER: &str = "prismq::worker";
const HANDLER: &str = "prismq::handler";
const STORE: &str = "prismq::store";
const TASKMANAGER: &str = "prismq::taskmanager";

/// Logs the events of a worker.
pub(crate) struct EventLog;

impl Observer for EventLog {
    fn event(&self, event: &Event<'_>) {
        log_start_and_end(event);
        log_type(event);
        log_task(event);
        log_storage(event);
        log_report(event);
    }
}

fn log_start_and_end(event: &Event<'_>) {
    match event {
        Event::Warning(warning) => log::warn!(target: WORKER, "{warning}"),
        Event::Registered { task_type, id } => {
            log::info!(target: WORKER, task_type, type_id = id; "task type registered");
        }
        Event::Ready { task_types, concurrency } => {
            let names: Vec<&str> = task_types.iter().map(|(name, _)| *name).collect();
            log::info!(target: WORKER, task_types = names.join(" "), concurrency; "worker ready");
        }
        Event::Closing { asked, in_flight } => {
            let why = match (asked, in_flight) {
                (true, 0) => "stopping",
                (true, _) => "stopping: waiting for running tasks; signal again to kill them",
                (false, _) => "stopping: claiming no more tasks",
            };
            log::info!(target: WORKER, in_flight; "{why}");
        }
        Event::Ended(Summary { counters, unreported, .. }) => {
            log::info!(target: WORKER, completed = counters.completed, failed = counters.failed, unreported; "worker stopped");
        }
        Event::Hung(why) => log::error!(target: WORKER, reason = why; "worker hung"),
        Event::OutageStarted(error) => log::warn!(target: TASKMANAGER, error; "TaskManager unavailable"),
        Event::OutageEnded { length, failed_calls } => {
            let outage_s = rounded(length.as_secs_f64());
            log::info!(target: TASKMANAGER, outage_s, failed_calls; "TaskManager available again");
        }
        _ => {}
    }
}

/// Logs whether a type is claimed.
fn log_type(event: &Event<'_>) {
    match event {
        Event::CircuitOpened { task_type, pause } => {
            let pause_s = pause.as_secs();
            log::warn!(
                target: WORKER, task_type, pause_s;
                "circuit open: too many retryable failures; claiming paused"
            );
        }
        Event::CircuitClosed(task_type) => log::info!(target: WORKER, task_type; "circuit closed: claiming resumed"),
        Event::Snoozed { task_type, until, reason } => {
            let (until, reason) = (format!("{until:.0}"), in_one_line(reason.unwrap_or("requested by the handler")));
            log::warn!(target: WORKER, task_type, until, reason:%; "task type snoozed");
        }
        Event::SnoozeEnded(task_type) => log::info!(target: WORKER, task_type; "snooze over: claiming resumed"),
        Event::WrongType { task, wanted, is_repeated } => {
            let (task_id, task_type) = (task.id.0, task.task_type.as_str());
            log::log!(
                target: WORKER, level_unless_repeated(*is_repeated, Level::Warn), task_id, task_type, wanted;
                "claimed task has another type: not run"
            );
        }
        Event::TypeGone(task_type) => {
            log::warn!(target: TASKMANAGER, task_type; "task type no longer registered");
        }
        Event::TypeFound { task_type, id } => {
            log::info!(target: TASKMANAGER, task_type, type_id = id; "task type registered again");
        }
        _ => {}
    }
}

/// Logs that most of the day's YouTube quota is used.
pub(crate) fn log_quota(event: &QuotaEvent) {
    if let QuotaEvent::Low(budget) = event {
        let (used, left, resets_at) = (budget.used, budget.left(), format!("{:.0}", budget.resets_at));
        log::warn!(target: WORKER, used, left, resets_at; "YouTube quota low");
    }
}

/// Logs at `$level` with the fields of the attempt `$claim`, followed by further fields and the message.
macro_rules! log_attempt {
    ($level:expr, $target:ident, $claim:ident $($rest:tt)+) => {{
        let task = &$claim.task;
        log::log!(
            target: $target, $level,
            task_id = task.id.0, task_type = task.task_type.as_str(), attempt = task.attempt $($rest)+
        );
    }};
}

fn log_task(event: &Event<'_>) {
    match event {
        Event::Claimed(claim) => log_attempt!(Level::Info, WORKER, claim; "task claimed"),
        Event::OrphanKilled(orphan) => {
            let (task_id, pid) = (orphan.task_id.map(|it| it.0), orphan.pid);
            log::warn!(target: WORKER, task_id, pid; "orphan killed");
        }
        Event::Recovered(claim) => log_attempt!(Level::Info, WORKER, claim; "recovered task"),
        Event::LostClaimFound(claim) => {
            log_attempt!(Level::Info, WORKER, claim; "recovered task: its claim was not answered");
        }
        Event::ClaimRenewed { claim, is_repeated } => {
            let level = level_unless_repeated(*is_repeated, Level::Warn);
            log_attempt!(level, WORKER, claim; "claimed again while in flight: continuing");
        }
        Event::NotRun { claim, reason } => log_attempt!(Level::Warn, WORKER, claim, reason; "task not run"),
        Event::HandlerLine(claim, line) => {
            let (task_id, task_type) = task_of(claim);
            log::info!(target: HANDLER, task_id, task_type; "{line}");
        }
        Event::Ignored(claim, problem) => {
            let (task_id, task_type) = task_of(claim);
            log::warn!(target: WORKER, task_id, task_type; "{problem}");
        }
        Event::Retry { claim, error, wait } => {
            let ((task_id, task_type), wait_s) = (task_of(claim), rounded(wait.as_secs_f64()));
            log::warn!(target: WORKER, task_id, task_type, wait_s, error:% = in_one_line(error); "attempt failed: retrying");
        }
        Event::Finished(result) => log_finished(result),
        _ => {}
    }
}

/// Logs what went wrong with the results file, and that it works again.
fn log_storage(event: &Event<'_>) {
    match event {
        Event::StoreFailed { error, room } => {
            let kib = room.div_ceil(1 << 10);
            let room = if kib >= 1 << 10 { format!("{} MiB", kib >> 10) } else { format!("{kib} KiB") };
            log::error!(target: STORE, error, free_space_needed = room; "storage failed: claiming paused");
        }
        Event::StorageRecovered { length } => {
            log::info!(target: STORE, outage_s = rounded(length.as_secs_f64()); "storage recovered: claiming resumed");
        }
        Event::FilesGone(error) => log::error!(target: STORE, error; "storage lost: claiming stopped"),
        Event::IdeasNotKept { task_id, error } => {
            log::error!(target: STORE, task_id = task_id.0, error; "cannot store ideas: task will run again");
        }
        Event::Returned { task_id, error, is_confirmed: true } => {
            log::error!(target: STORE, task_id = task_id.0, error; "task returned");
        }
        Event::Returned { task_id, error, is_confirmed: false } => {
            log::error!(target: STORE, task_id = task_id.0, error; "cannot return task: claimed until the claim expires");
        }
        Event::WriteRetrying { task_id, error } => {
            log::warn!(target: STORE, task_id = task_id.0, error; "write failed: retrying");
        }
        Event::ClaimNoteRetrying { claim, error } => {
            log_attempt!(Level::Warn, STORE, claim, error; "write failed: retrying");
        }
        Event::WriteSucceeded { task_id } => log::info!(target: STORE, task_id = task_id.0; "write succeeded"),
        Event::PollRecorded(Some(error)) => log::warn!(target: STORE, error; "cannot record poll"),
        Event::NotStored { task_id, error, reported } => {
            let fate = if *reported { "reported anyway" } else { "result lost" };
            log::error!(target: STORE, task_id = task_id.0, error; "cannot store result: {fate}");
        }
        _ => {}
    }
}

fn task_of(claim: &Claim) -> (u64, &str) {
    (claim.task.id.0, claim.task.task_type.as_str())
}

fn log_finished(result: &TaskResult) {
    let (task_id, task_type, ms) = (result.task_id.0, result.task_type.as_str(), result.duration_ms());
    match &result.outcome.failure {
        None => log::info!(target: WORKER, task_id, task_type, duration_ms = ms; "task completed"),
        Some(failure) if failure.error_type == ErrorType::Worker => {
            log::error!(target: WORKER, task_id, task_type, error:% = in_one_line(&failure.error); "task returned");
        }
        Some(failure) if result.outcome.is_not_run() => {
            log::info!(target: WORKER, task_id, task_type, error:% = in_one_line(&failure.error); "task not run again: failed before");
        }
        Some(failure) => {
            let (error_type, retryable, error) =
                (failure.error_type.as_str(), failure.retryable, in_one_line(&failure.error));
            log::warn!(target: WORKER, task_id, task_type, duration_ms = ms, error_type, retryable, error:%; "task failed");
        }
    }
}

fn log_report(event: &Event<'_>) {
    match event {
        Event::Reported { task_id, delivery: Delivery::ClaimLost, status, .. } => {
            let status = if *status == ResultStatus::Completed { "completed" } else { "failed" };
            log::warn!(target: WORKER, task_id = task_id.0, status; "claim lost: result kept in the results file only");
        }
        Event::Reported { task_id, delivery: Delivery::Confirmed, .. } => {
            log::debug!(target: WORKER, task_id = task_id.0; "result reported");
        }
        Event::ReportPostponed { task_id, error } => {
            log::debug!(target: WORKER, task_id = task_id.0, error; "report postponed");
        }
        Event::ReportRefused { task_id, error, is_repeated } => {
            let level = level_unless_repeated(*is_repeated, Level::Error);
            log::log!(target: WORKER, level, task_id = task_id.0, error; "report refused: retrying later");
        }
        _ => {}
    }
}

/// Returns `level` for the first occurrence, and `Debug` for repetitions.
fn level_unless_repeated(is_repeated: bool, level: Level) -> Level {
    if is_repeated { Level::Debug } else { level }
}

/// Rounds seconds to milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
