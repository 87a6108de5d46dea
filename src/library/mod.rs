//! The public API: a worker with handlers written in Rust; and what the command `work` shares with it.

mod builder;
mod event_log;
mod handlers;
mod signals;

use std::sync::Arc;
#[cfg(feature = "internals")]
use std::time::Duration;

pub use builder::WorkerBuilder;
pub(crate) use event_log::{EventLog, WORKER, log_quota};
pub(crate) use handlers::{Handlers, register, usual_schema, youtube_ledger, youtube_settings};
pub(crate) use signals::{install as install_signal_handlers, on_signal, unblock as unblock_signals};

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::shutdown::{Phase, Shutdown};
use crate::store::Store;
use crate::taskmanager::{Client, Connection, Retries};
use crate::worker::{self, Summary, Tools, WorkerError, WorkerOptions};

/// A worker, ready to run.
///
/// It gives the same guarantees as `prismq work`: each claim is recorded in the results file before its handler runs, each
/// result is stored there before it is reported, and the tasks of an earlier process with the same file are recovered.
///
/// ```no_run
/// use prismq::{Claim, Outcome, Run, Worker};
///
/// let worker = Worker::builder()
///     .api_url("http://localhost:8000/api")
///     .results("results.db")
///     .handler("example.echo", |claim: &Claim, _: &Run<'_>| Outcome::success(claim.task.params.clone()))
///     .concurrency(8)
///     .build()?;
/// let shutdown = worker.shutdown_handle();
/// let running = std::thread::spawn(move || worker.run());
/// // Later, from anywhere:
/// shutdown.drain();
/// let summary = running.join().expect("the worker does not panic")?;
/// println!("{} completed", summary.counters.completed);
/// # Ok::<(), prismq::WorkerError>(())
/// ```
pub struct Worker {
    config: Config,
    client: Client,
    store: Arc<Store>,
    shutdown: Arc<Shutdown>,
    options: WorkerOptions,
}

impl Worker {
    /// Creates a builder with the default settings and no handler.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Returns a handle that stops the worker from any thread.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(Arc::clone(&self.shutdown))
    }

    /// Returns this worker with a budget for `Retry-After` of the TaskManager.
    #[cfg(feature = "internals")]
    pub(crate) fn with_retry_after_budget(self, budget: Duration) -> Self {
        Self { client: self.client.with_retry_after_budget(budget), ..self }
    }

    /// Runs tasks until the worker is stopped or its work is done. Events are logged with the `log` crate.
    ///
    /// With [`drain`](WorkerBuilder::drain) or [`max_tasks`](WorkerBuilder::max_tasks), an unreachable TaskManager is an
    /// error. Otherwise the worker waits for it.
    pub fn run(self) -> Result<Summary, WorkerError> {
        let Self { config, client, store, shutdown, options } = &self;
        let clock = Arc::new(SystemClock::new(Arc::clone(shutdown), Phase::Draining));
        let ledger = youtube_ledger(store, config, clock).with_listener(Box::new(log_quota));
        let handlers = &Handlers::new(config, Some(Arc::new(ledger)));
        worker::run(options, &Tools { config, client, store, handlers, observer: &EventLog, shutdown })
    }
}

/// Stops a worker from any thread.
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Shutdown>);

impl ShutdownHandle {
    /// Claims no more tasks and lets handlers finish, as the first signal does. After the grace period, their runs are
    /// [interrupted](crate::Run::interruption).
    pub fn drain(&self) {
        self.0.raise(Phase::Draining);
    }

    /// Interrupts all handlers now, as the second signal does.
    pub fn end(&self) {
        self.0.raise(Phase::Ending);
    }
}

/// Returns the connection settings.
pub(crate) fn connection(config: &Config) -> Connection {
    let key = config.api_key.as_ref().map(|key| key.expose().to_owned());
    let ca_file = config.ca_file.as_ref().map(|file| file.value.clone());
    Connection { ca_file, ..Connection::new(config.api_url.value.clone(), key) }
}

/// Creates the client. The error is one line that says what is wrong with the settings.
pub(crate) fn connect(connection: &Connection, retries: Retries, clock: Arc<dyn Clock>) -> Result<Client, String> {
    if let Some(proxy) = connection.proxy_before_loopback() {
        log::warn!("{} goes through {proxy}: add its host to NO_PROXY to reach it directly", connection.api_url);
    }
    if connection.is_exposed() {
        log::warn!("{} is not encrypted: the API key and all tasks can be read in transit", connection.api_url);
    }
    Client::new(connection, retries, clock)
}
