//! Shared state of the subcommands: the configuration, and what is created from it on demand.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use serde::Serialize;

use super::{errors, screen, termination};
use crate::cli::Cli;
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigError, Flags, Origin, Sources};
use crate::exit::{Exit, UserError};
use crate::handler;
use crate::library;
use crate::logging::{self, LogTarget};
use crate::output::{print_json, print_line};
use crate::shutdown::{CancelReason, CancelToken, Phase, Shutdown};
use crate::store::Store;
use crate::task::TaskResult;
use crate::taskmanager::{Client, Connection, Retries, TaskTypeView};
use crate::youtube::Ledger;

/// The configuration, and the program's shutdown.
pub(super) struct Setup {
    pub(super) config: Config,
    /// Whether to print JSON.
    pub(super) json: bool,
    pub(super) shutdown: Arc<Shutdown>,
    /// The live lines on standard error; the log is printed above them.
    pub(super) screen: MultiProgress,
}

impl Setup {
    pub(super) fn new(cli: &Cli) -> anyhow::Result<Self> {
        Ok(Self::with(cli.flags(), cli.global.json)?)
    }

    pub(super) fn with(flags: Flags, json: bool) -> Result<Self, ConfigError> {
        Ok(Self::of(config::load(Sources::of_process(flags)?)?, json))
    }

    /// Uses the command line only, without files and environment variables.
    #[cfg(feature = "server")]
    pub(super) fn of_flags(cli: &Cli) -> Result<Self, ConfigError> {
        Ok(Self::of(config::of_flags(Sources::of_process(cli.flags())?)?, cli.global.json))
    }

    fn of(config: Config, json: bool) -> Self {
        Self { config, json, shutdown: Arc::new(Shutdown::new(Phase::Running)), screen: screen::screen() }
    }

    /// Initializes the log on standard error, above the live lines if there may be any.
    pub(super) fn log(&self) -> Result<(), UserError> {
        let config = &self.config;
        let set_up = logging::init(
            config.log_format.value,
            &config.log_level,
            &config.worker_id,
            LogTarget::Above(self.screen.clone()),
        );
        set_up.map_err(UserError::usage)
    }

    /// Installs the signal handlers: the first signal drains, the second kills running tasks and soon ends the program.
    pub(super) fn install_signal_handlers(&self) -> anyhow::Result<()> {
        self.install_signal_handlers_until(|_| false, || Exit::Interrupted)
    }

    /// Installs the signal handlers with the parameters of [`termination::in_time`].
    pub(super) fn install_signal_handlers_until(
        &self,
        is_due: impl Fn(Instant) -> bool + Send + 'static,
        exit: impl FnOnce() -> Exit + Send + 'static,
    ) -> anyhow::Result<()> {
        let screen = self.screen.clone();
        library::install_signal_handlers(&self.shutdown, move || screen::erase_echo(&screen))?;
        Ok(termination::in_time(&self.shutdown, is_due, exit)?)
    }

    /// Makes the second signal end the program at once, for commands without running tasks.
    pub(super) fn end_on_second_signal(&self) {
        let screen = self.screen.clone();
        self.shutdown.on_raise(Phase::Draining, move |phase| {
            if phase == Phase::Ending {
                end_now(&screen, &Arc::new(|| {}));
            }
        });
    }

    /// Runs `ask`. A signal meanwhile ends the program at once.
    pub(super) fn interruptible<T>(&self, ask: impl FnOnce() -> T) -> T {
        let asks = Arc::new(AtomicBool::new(true));
        let (still_asks, screen) = (Arc::clone(&asks), self.screen.clone());
        self.shutdown.on_raise(Phase::Running, move |_| {
            if still_asks.load(Ordering::SeqCst) {
                end_now(&screen, &Arc::new(|| {}));
            }
        });
        let answer = ask();
        asks.store(false, Ordering::SeqCst);
        answer
    }

    /// Makes the first signal end the program at once.
    pub(super) fn end_on_signals(&self) -> anyhow::Result<()> {
        self.end_on_signals_after(|| {})
    }

    /// Makes the first signal call `on_exit` and end the program.
    pub(super) fn end_on_signals_after(&self, on_exit: impl Fn() + Send + Sync + 'static) -> anyhow::Result<()> {
        let (screen, on_exit) = (self.screen.clone(), Arc::new(on_exit));
        library::on_signal(move || end_now(&screen, &on_exit))?;
        Ok(())
    }

    /// Makes the first signal terminate the handler, and the second one kill it.
    pub(super) fn stop_on_signals(&self) -> Arc<CancelToken> {
        let stop = Arc::new(CancelToken::new(None));
        let raised = Arc::clone(&stop);
        self.shutdown.on_raise(Phase::Running, move |phase| {
            raised.raise(Some(if phase == Phase::Ending { CancelReason::Kill } else { CancelReason::Shutdown }));
        });
        stop
    }

    /// Returns a client of the TaskManager whose pauses end at the first signal.
    pub(super) fn client(&self) -> Result<Client, UserError> {
        self.connect(&library::connection(&self.config), Retries::STANDARD)
    }

    /// Returns a client of the TaskManager that this process has started.
    pub(super) fn own_client(&self) -> Result<Client, UserError> {
        let connection = library::connection(&self.config);
        self.connect(&Connection { is_own: true, ..connection }, Retries::STANDARD)
    }

    /// Returns a client without retries, with a time-out.
    pub(super) fn single_try_client(&self, timeout: Duration) -> Result<Client, UserError> {
        let connection = library::connection(&self.config);
        let connect_timeout = connection.connect_timeout.min(timeout);
        self.connect(
            &Connection { connect_timeout, call_timeout: timeout, keep_alive: false, ..connection },
            Retries::NONE,
        )
    }

    fn connect(&self, connection: &Connection, retries: Retries) -> Result<Client, UserError> {
        library::connect(connection, retries, Arc::new(self.clock())).map_err(UserError::usage)
    }

    /// Returns a clock whose sleeps end at the first signal.
    pub(super) fn clock(&self) -> SystemClock {
        SystemClock::new(Arc::clone(&self.shutdown), Phase::Draining)
    }

    /// Opens the results file.
    pub(super) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.config.results)?)
    }

    /// Whether the results file exists. If it is named on the command line and missing, that is an error, since the name may
    /// be mistyped; a file from the settings may just not have been created yet.
    pub(super) fn has_results(&self) -> Result<bool, UserError> {
        let results = &self.config.results;
        // If this fails, opening the file reports why.
        let is_there = results.try_exists().unwrap_or(true);
        if is_there || results.origin != Origin::Flag {
            return Ok(is_there);
        }
        Err(UserError::usage(format!("cannot use the results file {}: no such file", results.display()))
            .hint("choose another with --results or PRISMQ_RESULTS; `prismq work` creates it"))
    }

    /// Opens the results file for reading. A missing file counts as empty and is not created.
    pub(super) fn store_to_read(&self) -> anyhow::Result<Store> {
        if self.has_results()? {
            Ok(Store::open_to_read(&self.config.results)?)
        } else {
            Ok(Store::unmade(&self.config.results)?)
        }
    }

    /// Opens the results file and the database of ideas for writing.
    pub(super) fn store_with_ideas(&self) -> anyhow::Result<Store> {
        Ok(self.store()?.with_ideas_in(&self.config.ideas)?)
    }

    /// Whether a configured type uses a YouTube handler.
    pub(super) fn reads_youtube(&self) -> bool {
        self.config.task_types.iter().any(config::TaskType::reads_youtube)
    }

    /// Returns the YouTube ledger in the results file.
    pub(super) fn youtube_ledger(&self, store: &Arc<Store>) -> Ledger {
        library::youtube_ledger(store, &self.config, Arc::new(self.clock()))
    }

    /// Returns the configured task type called `name`.
    pub(super) fn configured(&self, name: &str) -> Option<&config::TaskType> {
        self.config.task_types.iter().find(|task_type| task_type.name == name)
    }

    /// Returns the configured task type called `name`, for a command that runs its handler.
    pub(super) fn handled(&self, name: &str) -> Result<&config::TaskType, UserError> {
        self.configured(name).ok_or_else(|| {
            UserError::usage(format!("{name} has no handler: it is not configured"))
                .hint("add it to prismq.toml as a [[task_type]]")
        })
    }

    /// Prints `value` as JSON: indented, unless `--json` asks for one line.
    pub(super) fn print_pretty(&self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            return Ok(print_json(value)?);
        }
        Ok(print_line(serde_json::to_string_pretty(value)?)?)
    }

    /// Returns the exit code of a command that has run a handler.
    pub(super) fn exit_of(&self, result: &TaskResult) -> Exit {
        match &result.outcome.failure {
            _ if self.shutdown.get() > Phase::Running => Exit::Interrupted,
            None => Exit::Done,
            Some(_) => Exit::Failed,
        }
    }
}

/// Makes this process supervise everything that its handlers start, with a unique token.
pub(super) fn supervise_handlers() {
    let token = format!("{:016x}", crate::random_id::random_id() >> 2);
    if let Err(error) = handler::supervise(&token) {
        log::warn!("processes that leave their handler's process group cannot be killed with it: {error}");
    }
}

/// Ends the program after a signal. The live lines are removed first.
fn end_now(screen: &MultiProgress, on_exit: &Arc<impl Fn() + Send + Sync + 'static>) {
    screen::erase_echo(screen);
    let exit = || process::exit(Exit::Interrupted as i32);
    let (screen, on_exit) = (screen.clone(), Arc::clone(on_exit));
    termination::run_briefly(move || {
        screen.suspend(|| {
            on_exit();
            exit()
        });
    });
    exit();
}

/// Returns a task type of the TaskManager.
pub(super) fn known_type(client: &Client, name: &str) -> anyhow::Result<TaskTypeView> {
    client.task_type(name)?.ok_or_else(|| errors::unknown_type_at(client, name).into())
}
