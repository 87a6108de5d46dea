//! What a worker is built from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Worker, connect, connection, heed_signals};
use crate::config::{self, Config, ConfigError, Flags, Secret, Sources, Strategy, TaskType};
use crate::handler::Handler;
use crate::logging::{self, Sink};
use crate::shutdown::{Phase, Shutdown, SystemClock};
use crate::store::Store;
use crate::taskmanager::Retries;
use crate::worker::{Job, WorkerError};

/// Builds a [`Worker`]. What is not said has the default of `prismq work`.
#[derive(Default)]
#[must_use]
pub struct WorkerBuilder {
    flags: Flags,
    job: Job,
    from_environment: bool,
    log_to_stderr: bool,
    heed_signals: bool,
}

impl WorkerBuilder {
    /// Works tasks of the type `task_type` by `handler`. Each type needs one of its own; of two for the same type, the
    /// latter counts.
    pub fn handler(mut self, task_type: impl Into<String>, handler: impl Handler + 'static) -> Self {
        self.job.handlers.insert(task_type.into(), Arc::new(handler));
        self
    }

    /// Reads the settings of `prismq work` as that does: from the environment, `.env` and `prismq.toml`. What the
    /// builder says itself counts more. A `[[task_type]]` that has a handler here is worked with its `schema`,
    /// `timeout`, `concurrency` and `retry`; others are not worked. `status_addr` has no effect.
    pub fn from_environment(mut self) -> Self {
        self.from_environment = true;
        self
    }

    /// Where the TaskManager is: its base URL, which ends in `/api`.
    pub fn api_url(mut self, url: impl Into<String>) -> Self {
        self.flags = self.flags.api_url(url.into());
        self
    }

    /// The key that the TaskManager knows this user by.
    pub fn api_key(mut self, key: impl AsRef<str>) -> Self {
        self.flags = self.flags.api_key(Secret::new(key.as_ref().trim()));
        self
    }

    /// Who this worker is; by default the host's name and eight random digits.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.flags = self.flags.worker_id(id.into());
        self
    }

    /// The results file; by default `prismq/results.db` in the user's data folder.
    pub fn results(mut self, file: impl Into<PathBuf>) -> Self {
        self.flags = self.flags.results(file.into());
        self
    }

    /// How long results stay in the results file; zero, the default, is for ever.
    pub fn keep_results(mut self, time: Duration) -> Self {
        self.flags = self.flags.keep_results(time);
        self
    }

    /// How many tasks are worked at once, from 1 to 1000; by default 1.
    pub fn concurrency(mut self, slots: usize) -> Self {
        self.flags = self.flags.concurrency(slots);
        self
    }

    /// Which of the waiting tasks comes first; by default the oldest.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags = self.flags.strategy(strategy);
        self
    }

    /// The time between two polls of an idle worker, which grows up to [`max_backoff`](Self::max_backoff); by default
    /// 10 s.
    pub fn poll_interval(mut self, time: Duration) -> Self {
        self.flags = self.flags.poll_interval(time);
        self
    }

    /// The longest time between two polls; by default 60 s.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.flags = self.flags.max_backoff(time);
        self
    }

    /// How long the TaskManager lets a worker keep a task; by default 300 s. Handlers get 10 s less.
    pub fn claim_timeout(mut self, time: Duration) -> Self {
        self.flags = self.flags.claim_timeout(time);
        self
    }

    /// How often a task may be handed out before it is failed unrun; by default 5 times.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.flags = self.flags.max_attempts(attempts);
        self
    }

    /// How long handlers may go on when the worker is to end; by default 30 s.
    pub fn grace_period(mut self, time: Duration) -> Self {
        self.flags = self.flags.grace_period(time);
        self
    }

    /// Ends after so many tasks; zero, the default, is never.
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.flags = self.flags.max_tasks(tasks);
        self
    }

    /// Ends when nothing is left to do and everything is reported.
    pub fn drain(mut self) -> Self {
        self.job.drain = true;
        self
    }

    /// Ends when there was nothing to do for so long.
    pub fn exit_after_idle(mut self, time: Duration) -> Self {
        self.job.exit_after_idle = Some(time);
        self
    }

    /// Registers the types first: with the schema in `prismq.toml`, or one that takes any object.
    pub fn register(mut self) -> Self {
        self.job.register = true;
        self
    }

    /// Writes the log of the whole program to standard error, as `prismq work` does. Without it, the log goes where the
    /// program's logger, by the `log` crate, writes it.
    pub fn log_to_stderr(mut self) -> Self {
        self.log_to_stderr = true;
        self
    }

    /// Ends the worker on SIGTERM and SIGINT: the first is as [`drain`](super::ShutdownHandle::drain), the second as
    /// [`end`](super::ShutdownHandle::end). SIGHUP counts as well. Those that were ignored when the program was started stay
    /// so. A program heeds signals once, so it is an error for a second worker.
    pub fn heed_signals(mut self) -> Self {
        self.heed_signals = true;
        self
    }

    /// Checks all that was said, and opens the results file. The TaskManager is not asked yet.
    pub fn build(self) -> Result<Worker, WorkerError> {
        let Self { flags, mut job, from_environment, log_to_stderr, heed_signals: heeds_signals } = self;
        flags.check()?;
        let sources = Sources::of_process(flags)?;
        let folder = sources.working_dir.clone();
        let config = if from_environment { config::load(sources) } else { config::of_flags(sources) }?;
        job.task_types = task_types(&job, &config, &folder).map_err(unusable)?;
        if log_to_stderr {
            let (format, level) = (config.log_format.value, &config.log_level);
            logging::init(format, level, &config.worker_id, Sink::Stderr).map_err(unusable)?;
        }
        let shutdown = Arc::new(Shutdown::new(Phase::Running));
        let clock = Arc::new(SystemClock::new(Arc::clone(&shutdown), Phase::Draining));
        let client = connect(&connection(&config), Retries::STANDARD, clock).map_err(unusable)?;
        let store = Arc::new(Store::open(&config.results)?.with_ideas_in(&config.ideas)?);
        if heeds_signals {
            heed_signals(&shutdown, || ())
                .map_err(|error| unusable(format!("cannot install the signal handlers: {error}")))?;
        }
        Ok(Worker { config, client, store, shutdown, job })
    }
}

/// The types that have handlers, as `prismq.toml` describes them, if it does.
fn task_types(job: &Job, config: &Config, folder: &Path) -> Result<Vec<TaskType>, String> {
    if job.handlers.is_empty() {
        return Err("a worker needs a handler: WorkerBuilder::handler gives it one".into());
    }
    let describe = |name: &String| {
        let described = config.task_types.iter().find(|it| it.name == *name).cloned();
        described.map_or_else(|| Ok(TaskType::new(config::task_type_name(name)?, folder.to_owned())), Ok)
    };
    job.handlers.keys().map(describe).collect()
}

fn unusable(message: String) -> WorkerError {
    ConfigError { message, hint: None }.into()
}
