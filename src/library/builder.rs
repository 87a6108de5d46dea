//! Builds workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Worker, connect, connection, install_signal_handlers};
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigError, Flags, Secret, Sources, Strategy, TaskType};
use crate::handler::Handler;
use crate::logging::{self, LogTarget};
use crate::shutdown::{Phase, Shutdown};
use crate::store::Store;
use crate::taskmanager::Retries;
use crate::worker::{WorkerError, WorkerOptions};

/// Builds a [`Worker`]. The defaults are those of `prismq work`.
#[derive(Default)]
#[must_use]
pub struct WorkerBuilder {
    flags: Flags,
    options: WorkerOptions,
    from_environment: bool,
    log_to_stderr: bool,
    install_signal_handlers: bool,
}

impl WorkerBuilder {
    /// Sets the handler for a task type. A second handler for the same type replaces the first.
    pub fn handler(mut self, task_type: impl Into<String>, handler: impl Handler + 'static) -> Self {
        self.options.handlers.insert(task_type.into(), Arc::new(handler));
        self
    }

    /// Reads the settings of `prismq work` from the environment, `.env` and `prismq.toml`. Settings made on the builder take
    /// precedence. Of a `[[task_type]]` with a handler, `schema`, `timeout`, `concurrency` and `retry` are used; task types
    /// without a handler are ignored. `status_addr` has no effect.
    pub fn from_environment(mut self) -> Self {
        self.from_environment = true;
        self
    }

    /// Sets the base URL of the TaskManager, which ends in `/api`.
    pub fn api_url(mut self, url: impl Into<String>) -> Self {
        self.flags = self.flags.api_url(url.into());
        self
    }

    /// Sets the API key of the TaskManager.
    pub fn api_key(mut self, key: impl AsRef<str>) -> Self {
        self.flags = self.flags.api_key(Secret::new(key.as_ref().trim()));
        self
    }

    /// Sets the worker ID; by default the host's name and eight random digits.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.flags = self.flags.worker_id(id.into());
        self
    }

    /// Sets the results file; by default `prismq/results.db` in the user's data folder.
    pub fn results(mut self, file: impl Into<PathBuf>) -> Self {
        self.flags = self.flags.results(file.into());
        self
    }

    /// Sets how long results are kept; zero, the default, means forever.
    pub fn keep_results(mut self, time: Duration) -> Self {
        self.flags = self.flags.keep_results(time);
        self
    }

    /// Sets the number of slots, from 1 to 1000; by default 1.
    pub fn concurrency(mut self, slots: usize) -> Self {
        self.flags = self.flags.concurrency(slots);
        self
    }

    /// Sets which pending task is claimed first; by default the oldest.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags = self.flags.strategy(strategy);
        self
    }

    /// Sets the time between two polls of an idle worker, which grows up to [`max_backoff`](Self::max_backoff); by default
    /// 10 s.
    pub fn poll_interval(mut self, time: Duration) -> Self {
        self.flags = self.flags.poll_interval(time);
        self
    }

    /// Sets the maximum time between two polls; by default 60 s.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.flags = self.flags.max_backoff(time);
        self
    }

    /// Sets how long a claim lasts; by default 300 s. Handlers get 10 s less.
    pub fn claim_timeout(mut self, time: Duration) -> Self {
        self.flags = self.flags.claim_timeout(time);
        self
    }

    /// Sets after how many claims a task is failed without running it; by default 5.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.flags = self.flags.max_attempts(attempts);
        self
    }

    /// Sets how long handlers may continue when the worker stops; by default 30 s.
    pub fn grace_period(mut self, time: Duration) -> Self {
        self.flags = self.flags.grace_period(time);
        self
    }

    /// Stops after this many tasks; zero, the default, means no limit.
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.flags = self.flags.max_tasks(tasks);
        self
    }

    /// Stops when no tasks are left and everything is reported.
    pub fn drain(mut self) -> Self {
        self.options.drain = true;
        self
    }

    /// Stops after being idle this long.
    pub fn exit_after_idle(mut self, time: Duration) -> Self {
        self.options.exit_after_idle = Some(time);
        self
    }

    /// Registers the types at the start, with the schema in `prismq.toml` or one that accepts any object.
    pub fn register(mut self) -> Self {
        self.options.register = true;
        self
    }

    /// Writes the log of the whole program to standard error, as `prismq work` does. Without it, log records go to the
    /// program's own logger for the `log` crate.
    pub fn log_to_stderr(mut self) -> Self {
        self.log_to_stderr = true;
        self
    }

    /// Stops the worker on SIGTERM, SIGINT and SIGHUP: the first signal [drains](super::ShutdownHandle::drain), the second
    /// [ends](super::ShutdownHandle::end) it. Signals that were ignored when the program started stay ignored. Only one
    /// worker of a program can do this; for a second one, it is an error.
    pub fn install_signal_handlers(mut self) -> Self {
        self.install_signal_handlers = true;
        self
    }

    /// The name of [`install_signal_handlers`](Self::install_signal_handlers) up to 0.2.0.
    #[deprecated(since = "0.3.0", note = "renamed to `install_signal_handlers`")]
    #[doc(hidden)]
    pub fn heed_signals(self) -> Self {
        self.install_signal_handlers()
    }

    /// Validates the settings and opens the results file. Does not connect to the TaskManager yet.
    pub fn build(self) -> Result<Worker, WorkerError> {
        let Self { flags, mut options, from_environment, log_to_stderr, install_signal_handlers: handles_signals } =
            self;
        flags.check()?;
        let sources = Sources::of_process(flags)?;
        let folder = sources.working_dir.clone();
        let config = if from_environment { config::load(sources) } else { config::of_flags(sources) }?;
        options.task_types = task_types(&options, &config, &folder).map_err(unusable)?;
        if log_to_stderr {
            let (format, level) = (config.log_format.value, &config.log_level);
            logging::init(format, level, &config.worker_id, LogTarget::Stderr).map_err(unusable)?;
        }
        let shutdown = Arc::new(Shutdown::new(Phase::Running));
        let clock = Arc::new(SystemClock::new(Arc::clone(&shutdown), Phase::Draining));
        let client = connect(&connection(&config), Retries::STANDARD, clock).map_err(unusable)?;
        let store = Arc::new(Store::open(&config.results)?.with_ideas_in(&config.ideas)?);
        if handles_signals {
            install_signal_handlers(&shutdown, || ())
                .map_err(|error| unusable(format!("cannot install the signal handlers: {error}")))?;
        }
        Ok(Worker { config, client, store, shutdown, options })
    }
}

/// Returns the types with handlers, with their settings from `prismq.toml`.
fn task_types(options: &WorkerOptions, config: &Config, folder: &Path) -> Result<Vec<TaskType>, String> {
    if options.handlers.is_empty() {
        return Err("a worker needs a handler: WorkerBuilder::handler gives it one".into());
    }
    let describe = |name: &String| {
        let described = config.task_types.iter().find(|it| it.name == *name).cloned();
        described.map_or_else(|| Ok(TaskType::new(config::task_type_name(name)?, folder.to_owned())), Ok)
    };
    options.handlers.keys().map(describe).collect()
}

fn unusable(message: String) -> WorkerError {
    ConfigError { message, hint: None }.into()
}
