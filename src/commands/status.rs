//! What a worker does, shown on `status_addr`: its events become figures.

use std::sync::Arc;
use std::time::Instant;

use super::setup::Setup;
use crate::clock::{Clock, Timestamp, between};
use crate::config::{Action, TaskType};
use crate::exit::{Exit, UserError};
use crate::http::{Listener, RunningServer, StartError};
use crate::shutdown::SystemClock;
use crate::status;
use crate::status::metrics::{Attempt, Facts, Metrics, Quota};
use crate::task::TaskResult;
use crate::taskmanager::{Delivery, Exchange, Meter};
use crate::worker::{Event, Observer};
use crate::youtube::{Budget, QuotaEvent, QuotaListener};

/// A status endpoint at work.
pub(super) struct Status {
    metrics: Arc<Metrics>,
    _server: RunningServer,
}

/// Starts the endpoint where one is asked for, for a worker of these types.
pub(super) fn start(task_types: &[TaskType], setup: &Setup) -> anyhow::Result<Option<Status>> {
    let Some(address) = &setup.config.status_addr else { return Ok(None) };
    let listener = Listener::bind(address.value).map_err(|error| explain(&error))?;
    let by_program = |it: &&TaskType| it.action.as_ref().is_some_and(|action| !matches!(action, Action::BuiltIn(_)));
    let programs = task_types.iter().filter(by_program).map(|it| it.name.clone()).collect();
    let facts = Facts {
        worker_id: setup.config.worker_id.value.clone(),
        handlers: programs,
        youtube_key: task_types.iter().any(TaskType::reads_youtube).then(|| setup.config.youtube_api_key.is_some()),
    };
    let metrics = Arc::new(Metrics::new(facts)?);
    log::info!(address = listener.address().to_string().as_str(); "health and metrics are shown");
    if !listener.address().ip().to_canonical().is_loopback() {
        log::warn!(
            "status_addr can be reached by other machines, and asks for no key: whoever reaches it sees types, counts, \
             progress and errors; let only those you trust reach it"
        );
    }
    let running = status::serve(listener, Arc::clone(&metrics)).map_err(|error| explain(&error))?;
    Ok(Some(Status { metrics, _server: running }))
}

fn explain(error: &StartError) -> UserError {
    match error {
        StartError::AddressInUse(address) => {
            UserError::usage(format!("status_addr: another program listens on {address} already"))
                .hint("name another address, or leave it out")
        }
        StartError::AddressUnusable { address, source } => {
            UserError::usage(format!("status_addr: cannot listen on {address}: {source}"))
        }
        StartError::Thread(error) => {
            UserError::new(Exit::Failed, format!("status_addr: cannot start a thread: {error}"))
        }
    }
}

impl Status {
    /// Counts a client's requests.
    pub(super) fn meter(&self) -> Meter {
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move |it: &Exchange| metrics.requested(it.call, it.status, it.took, it.held))
    }

    /// Shows what is seen of YouTube's quota, by the time of `clock`.
    pub(super) fn quota_listener(&self, clock: SystemClock) -> QuotaListener {
        let metrics = Arc::clone(&self.metrics);
        Box::new(move |event| {
            if let QuotaEvent::Seen(budget) = event {
                metrics.quota(shown(budget, clock.now()));
            }
        })
    }

    /// Turns events into figures, by the time of `clock`.
    pub(super) fn observer(&self, clock: SystemClock) -> Box<dyn Observer> {
        Box::new(Figures { metrics: Arc::clone(&self.metrics), clock })
    }
}

/// What is shown of a day's quota at `now`.
fn shown(budget: &Budget, now: Timestamp) -> Quota {
    Quota {
        limit: budget.limit,
        used: budget.used,
        left: budget.left(),
        resets_at: budget.resets_at.to_string(),
        resets: Instant::now().checked_add(between(now, budget.resets_at)),
    }
}

struct Figures {
    metrics: Arc<Metrics>,
    clock: SystemClock,
}

impl Observer for Figures {
    fn event(&self, event: &Event<'_>) {
        self.of_worker(event);
        self.of_task(event);
    }
}

impl Figures {
    fn of_worker(&self, event: &Event<'_>) {
        let metrics = &self.metrics;
        match event {
            Event::Ready { task_types, .. } => metrics.ready(task_types),
            Event::Turning { again } => metrics.turns(*again),
            Event::Hanging(reason) => metrics.hangs(reason),
            Event::FilesGone(error) => metrics.files_gone(error),
            Event::Polled => metrics.polled(),
            Event::PollNoted(error) => metrics.store_error(error.as_deref()),
            Event::StoreWaits { error, .. } | Event::StoreFailed { error, .. } => metrics.store_error(Some(error)),
            Event::StoreWaited { .. } | Event::StoreMended { .. } => metrics.store_error(None),
            Event::OutageStarted(error) => metrics.contact_lost(error),
            Event::OutageEnded { .. } => metrics.contact_found(),
            Event::Paused { task_type, pause } => metrics.paused(task_type, Some(*pause)),
            Event::Resumed(task_type) => metrics.paused(task_type, None),
            Event::Snoozed { task_type, until, .. } => {
                metrics.held(task_type, Some(between(self.clock.now(), *until)));
            }
            Event::SnoozeEnded(task_type) => metrics.held(task_type, None),
            Event::TypeFound { task_type, id } => metrics.type_found(task_type, *id),
            Event::TypeGone(task_type) => metrics.type_gone(task_type),
            Event::Unreported { count, refused, oldest } => {
                metrics.unreported(*count, *refused, oldest.map(|oldest| between(oldest, self.clock.now())));
            }
            _ => {}
        }
    }

    fn of_task(&self, event: &Event<'_>) {
        let metrics = &self.metrics;
        match event {
            Event::ClaimWaits { claim, error } => {
                metrics.store_error(Some(error));
                metrics.in_flight(claim.task.id.0, &claim.task.task_type);
            }
            Event::NotRun { claim, .. } => metrics.leave(claim.task.id.0),
            Event::Claimed(claim) => metrics.claimed(claim.task.id.0, &claim.task.task_type),
            Event::Progress { task_id, percent, message } => metrics.progress(task_id.0, *percent, *message),
            Event::ClaimRenewed { claim, .. } => metrics.claimed_again(&claim.task.task_type),
            Event::Finished(result) if result.outcome.is_not_run() => metrics.not_run(result.task_id.0),
            Event::Finished(result) => metrics.finished(&attempt(result)),
            Event::IdeasNotKept { task_id, error }
            | Event::GivenBack { task_id, error, .. }
            | Event::NotStored { task_id, error, .. } => {
                metrics.not_stored(task_id.0, error);
            }
            Event::ReportRefused { task_id, error, .. } => metrics.refused(task_id.0, error),
            Event::Reported { task_type, delivery: Delivery::ClaimLost, .. } => metrics.claim_lost(task_type),
            _ => {}
        }
    }
}

fn attempt(result: &TaskResult) -> Attempt<'_> {
    Attempt {
        id: result.task_id.0,
        task_type: &result.task_type,
        seconds: between(result.started_at, result.finished_at).as_secs_f64(),
        failure: result.outcome.failure.as_ref().map(|it| (it.error_type.as_str(), it.error.as_str())),
    }
}
