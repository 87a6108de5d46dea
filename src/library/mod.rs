//! The public face: a worker that a program in Rust builds and runs, with handlers of its own. What the command `work`
//! needs as well is here, too.

mod builder;
mod connect;
mod handlers;
mod log;
mod signals;

use std::sync::Arc;
#[cfg(feature = "internals")]
use std::time::Duration;

pub use builder::WorkerBuilder;
pub(crate) use connect::{connect, connection};
pub(crate) use handlers::{Handlers, register, usual_schema, youtube_ledger, youtube_settings};
pub(crate) use log::{EventLog, WORKER, log_quota};
pub(crate) use signals::{heed as heed_signals, on_signal, unblock as unblock_signals};

use crate::config::Config;
use crate::shutdown::{Phase, Shutdown, SystemClock};
use crate::store::Store;
use crate::taskmanager::Client;
use crate::worker::{self, Job, Summary, Tools, WorkerError};

/// A worker, ready to run.
///
/// It keeps the promise of `prismq work`: each claim is noted in the results file before its handler runs, each result
/// is stored there before it is reported, and what an earlier process on the same file left is taken up again.
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
    job: Job,
}

impl Worker {
    /// Starts with the defaults, and no handler.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// What ends the worker, from any thread.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(Arc::clone(&self.shutdown))
    }

    /// The same worker, which gives up a TaskManager that keeps asking to be left alone after `patience`.
    #[cfg(feature = "internals")]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { client: self.client.with_patience(patience), ..self }
    }

    /// Works tasks until it is asked to end, or what it was built for is done. What happens is told to the `log` crate.
    ///
    /// A TaskManager that cannot be reached is an error only where somebody waits for the end: with
    /// [`drain`](WorkerBuilder::drain) or [`max_tasks`](WorkerBuilder::max_tasks). Otherwise the worker waits for it.
    pub fn run(self) -> Result<Summary, WorkerError> {
        let Self { config, client, store, shutdown, job } = &self;
        let clock = Arc::new(SystemClock::new(Arc::clone(shutdown), Phase::Draining));
        let ledger = youtube_ledger(store, config, clock).telling(Box::new(log_quota));
        let handlers = &Handlers::new(config, Some(Arc::new(ledger)));
        worker::run(job, &Tools { config, client, store, handlers, observer: &EventLog, shutdown })
    }
}

/// Ends a worker, from any thread.
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Shutdown>);

impl ShutdownHandle {
    /// As the first signal: claim nothing more, and let handlers finish. When the grace period is over, their runs are
    /// [interrupted](crate::Run::interruption).
    pub fn drain(&self) {
        self.0.raise(Phase::Draining);
    }

    /// As the second signal: interrupt them now.
    pub fn end(&self) {
        self.0.raise(Phase::Ending);
    }
}
