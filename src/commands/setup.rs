//! What the subcommands share: the settings in force, and what is built from them on demand.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use super::{end, errors, screen};
use crate::cli::Cli;
use crate::config::{self, Config, ConfigError, Flags, Origin, Sources};
use crate::exit::{Exit, UserError};
use crate::handler;
use crate::library;
use crate::logging::{self, Sink};
use crate::shutdown::{Phase, Shutdown, Stop, StopReason, SystemClock};
use crate::store::Store;
use crate::taskmanager::{Client, Connection, Retries, TaskType};
use crate::youtube::SharedLedger;

/// The settings in force, and the program's shutdown.
pub(super) struct Setup {
    pub(super) config: Config,
    /// Print JSON.
    pub(super) json: bool,
    pub(super) shutdown: Arc<Shutdown>,
    /// The live lines on standard error, which the log goes above.
    pub(super) screen: MultiProgress,
}

impl Setup {
    pub(super) fn new(cli: &Cli) -> anyhow::Result<Self> {
        Ok(Self::with(cli.flags(), cli.global.json)?)
    }

    pub(super) fn with(flags: Flags, json: bool) -> Result<Self, ConfigError> {
        Ok(Self::of(config::load(Sources::of_process(flags)?)?, json))
    }

    /// By the command line alone: no file and no variable is read, so none can be wrong.
    #[cfg(feature = "server")]
    pub(super) fn of_flags(cli: &Cli) -> Result<Self, ConfigError> {
        Ok(Self::of(config::of_flags(Sources::of_process(cli.flags())?)?, cli.global.json))
    }

    fn of(config: Config, json: bool) -> Self {
        Self { config, json, shutdown: Arc::new(Shutdown::new(Phase::Running)), screen: screen::screen() }
    }

    /// Sets the log up, on standard error, above the live lines where there may be any.
    pub(super) fn log(&self) -> Result<(), UserError> {
        let config = &self.config;
        let set_up = logging::init(
            config.log_format.value,
            &config.log_level,
            &config.worker_id,
            Sink::Above(self.screen.clone()),
        );
        set_up.map_err(UserError::usage)
    }

    /// From now on the first signal drains, and the second ends what runs, and soon after it the program.
    pub(super) fn heed_signals(&self) -> anyhow::Result<()> {
        self.heed_signals_until(|_| false, || Exit::Interrupted)
    }

    /// The same; how the program ends in time is as [`end::in_time`] says.
    pub(super) fn heed_signals_until(
        &self,
        is_due: impl Fn(Instant) -> bool + Send + 'static,
        exit: impl FnOnce() -> Exit + Send + 'static,
    ) -> anyhow::Result<()> {
        let screen = self.screen.clone();
        library::heed_signals(&self.shutdown, move || screen::erase_echo(&screen))?;
        Ok(end::in_time(&self.shutdown, is_due, exit)?)
    }

    /// From now on the second signal ends the program at once, where there is nothing that it would have to end first.
    pub(super) fn end_on_second_signal(&self) {
        let screen = self.screen.clone();
        self.shutdown.on_raise(Phase::Draining, move |phase| {
            if phase == Phase::Ending {
                end_now(&screen, &Arc::new(|| {}));
            }
        });
    }

    /// What `ask` returns. A signal that comes meanwhile ends the program at once: there is nothing to be ended first.
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

    /// From now on a signal ends the program at once, with the exit code for it.
    pub(super) fn end_on_signals(&self) -> anyhow::Result<()> {
        self.end_on_signals_after(|| {})
    }

    /// The same, after these last words.
    pub(super) fn end_on_signals_after(&self, last_words: impl Fn() + Send + Sync + 'static) -> anyhow::Result<()> {
        let (screen, last_words) = (self.screen.clone(), Arc::new(last_words));
        library::on_signal(move || end_now(&screen, &last_words))?;
        Ok(())
    }

    /// There is a person at hand: the first signal asks the handler to end, the second kills it.
    pub(super) fn stop_on_signals(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop::new(None));
        let raised = Arc::clone(&stop);
        self.shutdown.on_raise(Phase::Running, move |phase| {
            raised.raise(Some(if phase == Phase::Ending { StopReason::Kill } else { StopReason::Shutdown }));
        });
        stop
    }

    /// A client of the TaskManager, whose waits end at the first signal.
    pub(super) fn client(&self) -> Result<Client, UserError> {
        self.connect(&library::connection(&self.config), Retries::STANDARD)
    }

    /// The same of a TaskManager that this process has started.
    pub(super) fn own_client(&self) -> Result<Client, UserError> {
        let connection = library::connection(&self.config);
        self.connect(&Connection { is_own: true, ..connection }, Retries::STANDARD)
    }

    /// A client that tries each call once, for no longer than `timeout`.
    pub(super) fn impatient_client(&self, timeout: Duration) -> Result<Client, UserError> {
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

    /// A clock whose sleeps end at the first signal.
    pub(super) fn clock(&self) -> SystemClock {
        SystemClock::new(Arc::clone(&self.shutdown), Phase::Draining)
    }

    /// The results file.
    pub(super) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.config.results)?)
    }

    /// Whether the results file is there. One that was named on the command line and is not is an error: its name may be
    /// mistyped. A setting is the worker's too, which may not have run yet.
    pub(super) fn has_results(&self) -> Result<bool, UserError> {
        let results = &self.config.results;
        // Where it cannot be seen, opening it says why.
        let is_there = results.try_exists().unwrap_or(true);
        if is_there || results.origin != Origin::Flag {
            return Ok(is_there);
        }
        Err(UserError::usage(format!("cannot use the results file {}: no such file", results.display()))
            .hint("choose another with --results or PRISMQ_RESULTS; `prismq work` creates it"))
    }

    /// The results file, for who only reads. Where there is none yet, it is empty, and is not made.
    pub(super) fn store_to_read(&self) -> anyhow::Result<Store> {
        if self.has_results()? {
            Ok(Store::open_to_read(&self.config.results)?)
        } else {
            Ok(Store::unmade(&self.config.results)?)
        }
    }

    /// The results file, to store results in, and the place for their ideas.
    pub(super) fn store_with_ideas(&self) -> anyhow::Result<Store> {
        Ok(self.store()?.with_ideas_in(&self.config.ideas)?)
    }

    /// Whether a configured type is worked by a handler that reads YouTube.
    pub(super) fn reads_youtube(&self) -> bool {
        self.config.task_types.iter().any(config::TaskType::reads_youtube)
    }

    /// What all workers on the results file share of YouTube.
    pub(super) fn youtube_ledger(&self, store: &Arc<Store>) -> SharedLedger {
        library::youtube_ledger(store, &self.config, Arc::new(self.clock()))
    }

    /// The configured task type of that name.
    pub(super) fn configured(&self, name: &str) -> Option<&config::TaskType> {
        self.config.task_types.iter().find(|task_type| task_type.name == name)
    }
}

/// From now on this process answers for what its handlers start, under a name that no other process has.
pub(super) fn supervise_handlers() {
    let token = format!("{:016x}", crate::name::unique() >> 2);
    if let Err(error) = handler::supervise(&token) {
        log::warn!("processes that leave their handler's process group cannot be killed with it: {error}");
    }
}

/// Ends the program for a signal. The live lines are taken away, and nobody draws them again.
fn end_now(screen: &MultiProgress, last_words: &Arc<impl Fn() + Send + Sync + 'static>) {
    screen::erase_echo(screen);
    let exit = || process::exit(Exit::Interrupted as i32);
    let (screen, last_words) = (screen.clone(), Arc::clone(last_words));
    end::for_a_moment(move || {
        screen.suspend(|| {
            last_words();
            exit()
        });
    });
    exit();
}

/// The task type of that name as the TaskManager knows it.
pub(super) fn known_type(client: &Client, name: &str) -> anyhow::Result<TaskType> {
    client.task_type(name)?.ok_or_else(|| errors::unknown_type_at(client, name).into())
}
