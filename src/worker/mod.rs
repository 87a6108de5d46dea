//! The worker: claims tasks, runs them, keeps their results, and reports them.
//!
//! Its parts, each with its own state, and the threads that run them:
//!
//! | Part | What it does | Threads |
//! |---|---|---|
//! | [`Supervisor`] | starts the threads, prunes old rows, sends heartbeats, waits for the end | the caller's |
//! | [`Slots`] | run tasks, and store their results, several at once if that helps ([`storing`]) | one for each slot |
//! | [`Poller`] | claims tasks for the slots that are free | those of the slots |
//! | [`Recovery`] | recovers the tasks of dead processes, and searches for lost claims | the caller's at the start, then those of the slots |
//! | [`Reporter`] | sends and settles what is stored | senders; one for reports that are sent again |
//! | [`Renewals`] | renews the claims of unfinished tasks | its own |
//! | [`StoreHealth`] | stops claiming while the results file cannot be written | one that checks that the files are in place; the rest runs in those that write |
//! | [`OutageTracker`] | tells from all calls whether the TaskManager answers | none |
//! | [`Watchdog`] | knows whether a slot hangs | none |
//!
//! They meet in three tables: [`PollSchedule`] (who may poll, and when), [`InFlight`] (which tasks this process holds),
//! and [`ReportQueue`] (which results are to be sent).
//!
//! Order of writing, so that nothing is lost: claim, note the claim in the results file, run, store the result as
//! unreported, report, mark it as reported.

mod breaker;
mod delivery;
mod event;
mod execute;
mod in_flight;
mod lost_claims;
mod outage;
mod poller;
mod recovery;
mod renewals;
mod report_queue;
mod reporter;
mod schedule;
mod slots;
mod snooze;
mod startup;
mod store_health;
mod storing;
mod supervisor;
mod types;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use delivery::{Completer, Undelivered};
pub(crate) use event::{Event, Observer};
pub(crate) use execute::{Executor, with_sound_ideas};
pub(crate) use poller::order;
pub use types::TypeError;
pub(crate) use types::{HandlerSource, WorkerType, check_schema, default_timeout, no_handler};

use self::in_flight::InFlight;
use self::outage::OutageTracker;
use self::poller::Poller;
use self::recovery::Recovery;
use self::renewals::{ClaimTime, Renewals};
use self::report_queue::ReportQueue;
use self::reporter::Reporter;
use self::schedule::{ClaimedTask, Closed, ExitLimits, PollSchedule};
use self::slots::Slots;
use self::store_health::StoreHealth;
use self::supervisor::Supervisor;
use self::watchdog::Watchdog;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, ConfigError};
use crate::handler::Handler;
use crate::shutdown::{CancelReason, Phase, Shutdown};
use crate::store::{Counters, Process, Store, StoreError, StoredResult};
use crate::task::{Claim, TaskId};
use crate::taskmanager::{Backoff, Client, Error, withdraw_claims};

/// What a worker should do, in addition to its configuration.
#[derive(Default)]
pub(crate) struct WorkerOptions {
    /// The task types to claim.
    pub task_types: Vec<config::TaskType>,
    /// Handlers by type name. For types that are not in it, [`Tools::handlers`] is asked.
    pub handlers: BTreeMap<String, Arc<dyn Handler>>,
    /// Register the types before the first claim.
    pub register: bool,
    /// Exit when the queue is empty and everything is reported.
    pub drain: bool,
    /// Exit after being idle this long.
    pub exit_after_idle: Option<Duration>,
    /// Whoever watches the worker considers it hung if no [`Event::Heartbeat`] comes within this time. `None` acts like
    /// five minutes.
    pub watchdog: Option<Duration>,
}

/// What a worker uses: settings, client, results file, handlers.
pub(crate) struct Tools<'a> {
    pub config: &'a Config,
    pub client: &'a Client,
    /// The results file.
    pub store: &'a Arc<Store>,
    /// Knows the handlers that the configuration names.
    pub handlers: &'a dyn HandlerSource,
    /// Receives the worker's events.
    pub observer: &'a dyn Observer,
    /// Stops the worker.
    pub shutdown: &'a Arc<Shutdown>,
}

/// What a worker did between its start and its exit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Attempts, by how they ended.
    pub counters: Counters,
    /// Results in the results file that the TaskManager has not confirmed.
    pub unreported: usize,
    /// The tasks whose reports the TaskManager refused, and why. The next worker on this results file sends them again.
    pub refused: Vec<(TaskId, Error)>,
    /// The snoozed types, and until when each is snoozed.
    pub snoozed: Vec<(String, Timestamp)>,
}

/// Why a worker could not start, or stopped early. The text is one line for a person.
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
    #[error("cannot start threads for {slots} slots: {}", crate::os_error::message(error))]
    Thread {
        /// Number of slots asked for.
        slots: usize,
        /// What the system says.
        error: std::io::Error,
    },
    /// The slots may need more open files than the process may have.
    #[error("{slots} slots may need {needed} open files, but the limit is {limit}")]
    OpenFiles {
        /// Number of slots asked for.
        slots: usize,
        /// Files needed by the slots and everything else.
        needed: u64,
        /// Open-file limit of the process.
        limit: u64,
        /// Number of slots for which the limit is enough.
        enough_for: usize,
    },
}

/// Runs a worker until it is done or the program is stopped.
pub(crate) fn run(options: &WorkerOptions, tools: &Tools<'_>) -> Result<Summary, WorkerError> {
    let outage_limit = startup::outage_limit(options, tools);
    // If the server sends Retry-After, all slots pause, instead of one slot waiting inside its call.
    let client = tools.client.with_retry_after_budget(Duration::ZERO);
    let tools = &Tools { client: &client, ..*tools };
    let Some(types) = startup::resolve(options, tools, outage_limit)? else {
        tools.observer.event(&Event::Ended(&Summary::default()));
        return Ok(Summary::default());
    };
    let executor = startup::executor(tools);
    let process = startup::start_process(tools, &executor)?;
    if startup::runs_programs(options) {
        recovery::supervise_handlers(&executor, &process);
    }
    recovery::kill_orphans(&executor);
    let unreported = tools.store.take_unreported(client.url(), &process)?;
    let context = Context::new(options, (executor, process, types), &unreported, outage_limit)?;
    let reports = ReportQueue::new(unreported, tools.config);
    let store_health = StoreHealth::new(&context, &reports);
    let recovery = Recovery::new(&context, &store_health)?;
    let poller = Poller::new(&recovery, &reports);
    let reporter = Reporter::new(&context, &store_health, &reports);
    let slots =
        Slots::new(&poller, &recovery, &reporter, Watchdog::new(options.watchdog, tools.config.concurrency.value));
    context.follow_shutdown(tools.shutdown, tools.store);
    let has_recovered = !recovery.claims().is_empty();
    let renewals = Renewals { context: &context, recovery: &recovery, reports: &reports, has_recovered };
    let (context, slots, reporter, reports) = (&context, &slots, &reporter, &reports);
    Supervisor { context, slots, reporter, reports, renewals: &renewals, handlers: tools.handlers }.run()
}

/// Shared state of the worker's parts, including the tables in which they meet.
struct Context<'a> {
    executor: Executor<'a>,
    types: Vec<WorkerType>,
    process: Process,
    in_flight: Arc<InFlight>,
    schedule: Arc<PollSchedule>,
    outage: OutageTracker<'a>,
    claim_time: ClaimTime,
    /// How long the worker continues while the TaskManager is unreachable, or asks for a pause. `None`: without end, since
    /// nobody waits for its exit.
    outage_limit: Option<Duration>,
    counters: Mutex<Counters>,
    failure: Mutex<Option<WorkerError>>,
}

impl<'a> Context<'a> {
    fn new(
        options: &WorkerOptions,
        (executor, process, types): (Executor<'a>, Process, Vec<WorkerType>),
        unreported: &[StoredResult],
        outage_limit: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let config = executor.config;
        let limits = ExitLimits {
            max_tasks: config.max_tasks.value,
            drain: options.drain,
            exit_after_idle: options.exit_after_idle,
        };
        let backoff = Backoff::new(config.poll_interval.value, 1.5, config.max_backoff.value);
        let concurrency = types.iter().map(|worker_type| worker_type.concurrency).collect();
        let earlier = recovery::earlier_workers(&executor, &process)?;
        Ok(Self {
            in_flight: Arc::new(InFlight::new(unreported, earlier)),
            schedule: Arc::new(PollSchedule::new(limits, concurrency, config.concurrency.value, backoff)),
            outage: OutageTracker::answering(executor.completer.observer),
            claim_time: ClaimTime::default(),
            executor,
            types,
            process,
            outage_limit,
            counters: Mutex::default(),
            failure: Mutex::new(None),
        })
    }

    /// Returns a claimed task for a slot. From now on its claim is renewed, and it can be cancelled.
    fn claimed_task(&self, index: usize, claim: Claim, is_recovered: bool, polled_at: Instant) -> ClaimedTask {
        let stop = self.in_flight.cancel_token(Some(&claim));
        ClaimedTask { index, claim, stop, is_recovered, polled_at, noted: None }
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

    /// Whether somebody waits for the worker's exit. Then it does not wait for the end of an outage or of a full disk.
    fn is_exit_awaited(&self) -> bool {
        self.outage_limit.is_some()
    }

    /// Sends an event to the observer.
    fn emit(&self, event: &Event<'_>) {
        self.executor.completer.observer.event(event);
    }

    /// Makes the worker react to a shutdown at once, whatever its threads are waiting for.
    fn follow_shutdown(&self, shutdown: &Shutdown, store: &Arc<Store>) {
        let (schedule, in_flight, store) = (Arc::clone(&self.schedule), Arc::clone(&self.in_flight), Arc::clone(store));
        shutdown.on_raise(Phase::Running, move |phase| {
            schedule.ask_to_end();
            if phase == Phase::Ending {
                store.end_waits();
                in_flight.cancel_all(CancelReason::Kill);
                in_flight.end();
            }
        });
    }

    /// Stops the worker because of an error that waiting cannot fix. The first error is kept.
    fn fail(&self, error: WorkerError) {
        self.note_failure(error);
        self.schedule.close(Closed::Failed);
        self.in_flight.end();
    }

    /// Gives up a claim that this process holds but does not work. A search checks whether it has really expired.
    fn give_up_claim(&self, claim: &Claim) {
        // First, since a search ignores tasks whose claim is noted. If this fails, the next required write reports a
        // failure.
        let _ = self.store().forget_claim(claim, self.client().url());
        self.in_flight.abandon((claim.task.id, claim.task.attempt));
        self.in_flight.lost_claims.add(1);
    }

    /// Whether [`run`] will return an error.
    fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// Records an error that [`run`] returns once the worker is done. The first error is kept.
    fn note_failure(&self, error: WorkerError) {
        self.failure.lock().get_or_insert(error);
    }

    /// Records that some work may remain that this worker cannot do, if somebody waits for its exit.
    fn note_incomplete(&self, error: Error) {
        if self.is_exit_awaited() {
            self.note_failure(WorkerError::TaskManager(error));
        }
    }

    /// Whether waiting cannot fix the error: the key is refused, or somebody waits for the worker's exit and the call
    /// is not retryable.
    fn is_fatal(&self, error: &Error) -> bool {
        match error {
            Error::KeyRefused { .. } => true,
            Error::NotATaskManager { .. } | Error::Interrupted => false,
            other => self.is_exit_awaited() && !other.is_retryable(),
        }
    }

    /// Ends this worker's open long polls.
    fn withdraw_claims(&self) {
        let has_ended = |time| self.schedule.wait_long_poll_ended(time);
        withdraw_claims(self.client(), &self.config().worker_id.value, has_ended);
    }
}
