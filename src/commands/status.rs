//! Starts the status endpoint of a worker on `status_addr`.

use std::sync::Arc;

use super::setup::Setup;
use crate::clock::SystemClock;
use crate::config::{Action, TaskType};
use crate::exit::{Exit, UserError};
use crate::http::{HttpListener, RunningServer, StartError};
use crate::os_error;
use crate::status::{self, Metrics, MetricsObserver, WorkerInfo};
use crate::taskmanager::{Exchange, Meter};
use crate::worker::Observer;
use crate::youtube::QuotaListener;

/// A running status endpoint.
pub(super) struct StatusEndpoint {
    metrics: Arc<Metrics>,
    _server: RunningServer,
}

/// Starts the endpoint if `status_addr` is set.
pub(super) fn start(task_types: &[TaskType], setup: &Setup) -> anyhow::Result<Option<StatusEndpoint>> {
    let Some(address) = &setup.config.status_addr else { return Ok(None) };
    let listener = HttpListener::bind(address.value).map_err(|error| explain(&error))?;
    let by_program = |it: &&TaskType| it.action.as_ref().is_some_and(|action| !matches!(action, Action::BuiltIn(_)));
    let programs = task_types.iter().filter(by_program).map(|it| it.name.clone()).collect();
    let facts = WorkerInfo {
        worker_id: setup.config.worker_id.value.clone(),
        handlers: programs,
        youtube_key: task_types.iter().any(TaskType::reads_youtube).then(|| setup.config.youtube_api_key.is_some()),
    };
    let metrics = Arc::new(Metrics::new(facts)?);
    log::info!(address = listener.address().to_string().as_str(); "serving status page, health and metrics");
    if !listener.address().ip().to_canonical().is_loopback() {
        log::warn!(
            "other machines can reach status_addr, which requires no key: they can see types, counts, \
             progress and errors; allow only trusted machines"
        );
    }
    let running = status::serve(listener, Arc::clone(&metrics)).map_err(|error| explain(&error))?;
    Ok(Some(StatusEndpoint { metrics, _server: running }))
}

fn explain(error: &StartError) -> UserError {
    match error {
        StartError::AddressInUse(address) => {
            UserError::usage(format!("status_addr: another program is already listening on {address}"))
                .hint("choose another address, or remove it")
        }
        StartError::AddressUnusable { address, source } => {
            UserError::usage(format!("status_addr: cannot listen on {address}: {}", os_error::message(source)))
        }
        StartError::Thread(error) => {
            UserError::new(Exit::Failed, format!("status_addr: cannot start a thread: {}", os_error::message(error)))
        }
    }
}

impl StatusEndpoint {
    /// Returns a callback that counts a client's requests.
    pub(super) fn meter(&self) -> Meter {
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move |it: &Exchange| metrics.requested(it.call, it.status, it.took, it.held))
    }

    /// Returns a listener for the YouTube quota.
    pub(super) fn quota_listener(&self, clock: SystemClock) -> QuotaListener {
        status::quota_listener(Arc::clone(&self.metrics), clock)
    }

    /// Returns an observer that updates the metrics.
    pub(super) fn observer(&self, clock: SystemClock) -> Box<dyn Observer> {
        Box::new(MetricsObserver::new(Arc::clone(&self.metrics), clock))
    }
}
