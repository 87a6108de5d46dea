//! The worker: claims tasks, runs them, keeps their results, and reports them.
//!
//! It has three parts, each with its own state: the [`Poller`] claims tasks for the slots that are free, the [`Slots`] run
//! them and store their results, the [`Reporter`] sends and settles what is stored. They meet in three tables:
//! [`PollSchedule`] (who may poll, and when), [`InFlight`] (which tasks this process holds), and [`ReportQueue`] (which
//! results are to be sent).
//!
//! Order of writing, so that nothing is lost: claim, note the claim in the results file, run, store the result as
//! unreported, report, mark it as reported.

mod breaker;
mod delivery;
mod doubts;
mod event;
mod execute;
mod in_flight;
mod long_poll;
mod outage;
mod params;
mod poller;
mod progress;
mod recovery;
mod report_queue;
mod reporter;
mod schedule;
mod slots;
mod snooze;
mod startup;
mod store_health;
mod supervisor;
mod types;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use delivery::{Completer, Undelivered};
pub(crate) use event::{Event, Observer};
pub(crate) use execute::{Executor, with_sound_ideas};
pub(crate) use long_poll::LongPoll;
pub(crate) use params::check_schema;
pub(crate) use poller::{order, withdraw_claims};
pub use types::TypeError;
pub(crate) use types::{HandlerSource, WorkerType, default_timeout, no_handler};

use self::in_flight::InFlight;
use self::outage::OutageTracker;
use self::poller::Poller;
use self::recovery::Recovery;
use self::report_queue::ReportQueue;
use self::reporter::Reporter;
use self::schedule::{Closed, Limits, PollSchedule};
use self::slots::Slots;
use self::store_health::StoreHealth;
use self::supervisor::Supervisor;
use self::watchdog::Watchdog;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, ConfigError};
use crate::handler::Handler;
use crate::shutdown::{Phase, Shutdown, StopReason};
use crate::store::{Counters, Process, Store, StoreError, StoredResult};
use crate::task::TaskId;
use crate::taskmanager::{Backoff, Client, Error};

/// What a worker is to do, beside what its configuration says.
#[derive(Default)]
pub(crate) struct Job {
    /// The types to work.
    pub task_types: Vec<config::TaskType>,
    /// What works those of them, by name, for which [`Tools::handlers`] are not asked.
    pub handlers: BTreeMap<String, Arc<dyn Handler>>,
    /// Register the types first.
    pub register: bool,
    /// End when nothing is left to do.
    pub drain: bool,
    /// End when there was nothing to do for so long.
    pub exit_after_idle: Option<Duration>,
    /// Somebody takes the worker for hanging if there is no [`Event::Heartbeat`] for so long. Nobody: as if for five minutes.
    pub watchdog: Option<Duration>,
}

/// What a worker works with.
pub(crate) struct Tools<'a> {
    /// The settings in force.
    pub config: &'a Config,
    /// Speaks with the TaskManager.
    pub client: &'a Client,
    /// The results file.
    pub store: &'a Arc<Store>,
    /// Knows the handlers that the configuration names.
    pub handlers: &'a dyn HandlerSource,
    /// Hears what happens.
    pub observer: &'a dyn Observer,
    /// Asks the worker to end.
    pub shutdown: &'a Arc<Shutdown>,
}

/// What a worker has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Attempts, by how they ended.
    pub counters: Counters,
    /// Results that are in the results file and not confirmed by the TaskManager.
    pub unreported: usize,
    /// The tasks of those of them that the TaskManager refused, and why. The next worker on the results file sends them
    /// again.
    pub refused: Vec<(TaskId, Error)>,
    /// The types that are snoozed, and until when.
    pub snoozed: Vec<(String, Timestamp)>,
}

/// Why a worker could not start, or ended before it was done. The text is one line for a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A task type cannot be worked.
    #[error(transparent)]
    Type(TypeError),
    /// The TaskManager refuses the worker, or could not be reached in time.
    #[error(transparent)]
    TaskManager(Error),
    /// The results file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refused a thread.
    #[error("cannot start threads for {slots} slots: {}", crate::os_error::words(error))]
    Thread {
        /// How many slots there were to be.
        slots: usize,
        /// What the system says.
        error: std::io::Error,
    },
    /// The slots may need more open files than the process may have.
    #[error("{slots} slots may need {needed} open files, but the limit is {limit}")]
    OpenFiles {
        /// How many slots there were to be.
        slots: usize,
        /// How many files they need, with all else.
        needed: u64,
        /// How many the process may have.
        limit: u64,
        /// For how many slots those are enough.
        enough_for: usize,
    },
}

/// Runs a worker until its job is done or the program is asked to end.
pub(crate) fn run(job: &Job, tools: &Tools<'_>) -> Result<Summary, WorkerError> {
    let exit_on_outage = startup::exit_on_outage(job, tools);
    // A server that asks to be left alone is left alone by all slots, not by one that waits in its call.
    let client = tools.client.with_retry_after_budget(Duration::ZERO);
    let tools = &Tools { client: &client, ..*tools };
    let Some(types) = startup::resolve(job, tools, exit_on_outage)? else {
        tools.observer.event(&Event::Ended(&Summary::default()));
        return Ok(Summary::default());
    };
    let executor = startup::executor(tools);
    let process = startup::start_process(job, tools, &executor)?;
    let unreported = tools.store.take_unreported(client.url(), &process)?;
    let context = Context::new(job, (executor, process, types), &unreported, exit_on_outage)?;
    let reports = ReportQueue::new(unreported, tools.config);
    let store_health = StoreHealth::new(&context, &reports);
    let recovery = Recovery::new(&context, &store_health)?;
    let poller = Poller::new(&recovery, &reports);
    let reporter = Reporter::new(&context, &store_health, &reports);
    let slots = Slots::new(&poller, &recovery, &reporter, Watchdog::new(job.watchdog, tools.config.concurrency.value));
    context.obey(tools.shutdown, tools.store);
    Supervisor { context: &context, slots: &slots, reporter: &reporter, reports: &reports, handlers: tools.handlers }
        .run()
}

/// What the parts of a worker share: what they work with, and the tables in which they meet.
struct Context<'a> {
    executor: Executor<'a>,
    types: Vec<WorkerType>,
    process: Process,
    in_flight: Arc<InFlight>,
    schedule: Arc<PollSchedule>,
    outage: OutageTracker<'a>,
    /// Somebody waits for the worker's end: it is to end when the TaskManager cannot be reached, or has asked to be left
    /// alone, for so long.
    exit_on_outage: Option<Duration>,
    counters: Mutex<Counters>,
    failure: Mutex<Option<WorkerError>>,
}

impl<'a> Context<'a> {
    fn new(
        job: &Job,
        (executor, process, types): (Executor<'a>, Process, Vec<WorkerType>),
        unreported: &[StoredResult],
        exit_on_outage: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let config = executor.config;
        let limits =
            Limits { max_tasks: config.max_tasks.value, drain: job.drain, exit_after_idle: job.exit_after_idle };
        let backoff = Backoff::new(config.poll_interval.value, 1.5, config.max_backoff.value);
        let concurrency = types.iter().map(|worker_type| worker_type.concurrency).collect();
        let earlier = recovery::earlier(&executor, &process)?;
        Ok(Self {
            in_flight: Arc::new(InFlight::new(unreported, earlier)),
            schedule: Arc::new(PollSchedule::new(limits, concurrency, config.concurrency.value, backoff)),
            outage: OutageTracker::answering(executor.completer.observer),
            executor,
            types,
            process,
            exit_on_outage,
            counters: Mutex::default(),
            failure: Mutex::new(None),
        })
    }

    fn config(&self) -> &'a Config {
        self.executor.config
    }

    fn store(&self) -> &'a Store {
        self.executor.completer.store
    }

    fn client(&self) -> &Client {
        &self.executor.completer.client
    }

    fn clock(&self) -> &dyn Clock {
        &*self.executor.completer.clock
    }

    /// Tells the observer.
    fn tell(&self, event: &Event<'_>) {
        self.executor.completer.observer.event(event);
    }

    /// Makes the worker obey the program's shutdown at once, whatever its threads wait for.
    fn obey(&self, shutdown: &Shutdown, store: &Arc<Store>) {
        let (schedule, in_flight, store) = (Arc::clone(&self.schedule), Arc::clone(&self.in_flight), Arc::clone(store));
        shutdown.on_raise(Phase::Running, move |phase| {
            schedule.ask_to_end();
            if phase == Phase::Ending {
                store.end_waits();
                in_flight.cancel_all(StopReason::Kill);
                in_flight.end();
            }
        });
    }

    /// Ends the worker for a reason that waiting cannot mend. The first reason stands.
    fn fail(&self, error: WorkerError) {
        self.note_failure(error);
        self.schedule.close(Closed::Failed);
        self.in_flight.end();
    }

    /// Whether it fails at its end.
    fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// Lets the worker go on, and fail at its end. The first reason stands.
    fn note_failure(&self, error: WorkerError) {
        self.failure.lock().get_or_insert(error);
    }

    /// Something may be left that the worker cannot see to: who waits until all is done is told so at the end.
    fn not_done(&self, error: Error) {
        if self.exit_on_outage.is_some() {
            self.note_failure(WorkerError::TaskManager(error));
        }
    }

    /// Whether waiting cannot mend what has failed: the key is refused, or, for who waits for the worker's end, the call.
    fn is_decided(&self, error: &Error) -> bool {
        match error {
            Error::KeyRefused { .. } => true,
            Error::NotATaskManager { .. } | Error::Interrupted => false,
            other => self.exit_on_outage.is_some() && !other.is_retryable(),
        }
    }

    /// Has claims that are held open at the TaskManager answered.
    fn withdraw_claims(&self) {
        let has_ended = |time| self.schedule.wait_not_held(time);
        withdraw_claims(self.client(), &self.config().worker_id.value, has_ended);
    }
}
