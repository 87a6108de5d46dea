//! Turns the events of a worker into metrics.

use std::sync::Arc;
use std::time::Instant;

use super::metrics::{AttemptOutcome, Metrics, Quota};
use crate::clock::{Clock, SystemClock, Timestamp, between};
use crate::task::TaskResult;
use crate::taskmanager::Delivery;
use crate::worker::{Event, Observer};
use crate::youtube::{Budget, QuotaEvent, QuotaListener};

/// Returns a listener that updates the metrics of YouTube's quota.
pub(crate) fn quota_listener(metrics: Arc<Metrics>, clock: SystemClock) -> QuotaListener {
    Box::new(move |event| {
        if let QuotaEvent::Seen(budget) = event {
            metrics.quota(quota(budget, clock.now()));
        }
    })
}

fn quota(budget: &Budget, now: Timestamp) -> Quota {
    Quota {
        limit: budget.limit,
        used: budget.used,
        left: budget.left(),
        resets_at: budget.resets_at.to_string(),
        resets: Instant::now().checked_add(between(now, budget.resets_at)),
    }
}

/// Updates metrics for each event.
pub(crate) struct MetricsObserver {
    metrics: Arc<Metrics>,
    clock: SystemClock,
}

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        self.worker_event(event);
        self.task_event(event);
    }
}

impl MetricsObserver {
    pub(crate) fn new(metrics: Arc<Metrics>, clock: SystemClock) -> Self {
        Self { metrics, clock }
    }

    fn worker_event(&self, event: &Event<'_>) {
        let metrics = &self.metrics;
        match event {
            Event::Ready { task_types, .. } => metrics.ready(task_types),
            Event::Heartbeat { timeout } => metrics.heartbeat(*timeout),
            Event::Hung(reason) => metrics.loop_stuck(reason),
            Event::FilesGone(error) => metrics.files_gone(error),
            Event::Polled => metrics.polled(),
            Event::PollRecorded(error) => metrics.store_error(error.as_deref()),
            Event::WriteRetrying { error, .. } | Event::StoreFailed { error, .. } => metrics.store_error(Some(error)),
            Event::WriteSucceeded { .. } | Event::StorageRecovered { .. } => metrics.store_error(None),
            Event::OutageStarted(error) => metrics.taskmanager_unreachable(error),
            Event::OutageEnded { .. } => metrics.taskmanager_reachable(),
            Event::CircuitOpened { task_type, pause } => metrics.circuit_open(task_type, Some(*pause)),
            Event::CircuitClosed(task_type) => metrics.circuit_open(task_type, None),
            Event::Snoozed { task_type, until, .. } => {
                metrics.snoozed(task_type, Some(between(self.clock.now(), *until)));
            }
            Event::SnoozeEnded(task_type) => metrics.snoozed(task_type, None),
            Event::TypeFound { task_type, id } => metrics.type_found(task_type, *id),
            Event::TypeGone(task_type) => metrics.type_gone(task_type),
            Event::Unreported { count, refused, oldest } => {
                metrics.unreported(*count, *refused, oldest.map(|oldest| between(oldest, self.clock.now())));
            }
            _ => {}
        }
    }

    fn task_event(&self, event: &Event<'_>) {
        let metrics = &self.metrics;
        match event {
            Event::ClaimNoteRetrying { claim, error } => {
                metrics.store_error(Some(error));
                metrics.in_flight(claim.task.id.0, &claim.task.task_type);
            }
            Event::NotRun { claim, .. } => metrics.remove_in_flight(claim.task.id.0),
            Event::Claimed(claim) => metrics.claimed(claim.task.id.0, &claim.task.task_type),
            Event::Progress { task_id, percent, message } => metrics.progress(task_id.0, *percent, *message),
            Event::ClaimRenewed { claim, .. } => metrics.claimed_again(&claim.task.task_type),
            Event::Finished(result) if result.outcome.is_not_run() => metrics.not_run(result.task_id.0),
            Event::Finished(result) => metrics.finished(&attempt(result)),
            Event::IdeasNotKept { task_id, error }
            | Event::Returned { task_id, error, .. }
            | Event::NotStored { task_id, error, .. } => {
                metrics.not_stored(task_id.0, error);
            }
            Event::ReportRefused { task_id, error, .. } => metrics.refused(task_id.0, error),
            Event::Reported { task_type, delivery: Delivery::ClaimLost, .. } => metrics.claim_lost(task_type),
            _ => {}
        }
    }
}

fn attempt(result: &TaskResult) -> AttemptOutcome<'_> {
    AttemptOutcome {
        id: result.task_id.0,
        task_type: &result.task_type,
        seconds: between(result.started_at, result.finished_at).as_secs_f64(),
        failure: result.outcome.failure.as_ref().map(|it| (it.error_type.as_str(), it.error.as_str())),
    }
}
