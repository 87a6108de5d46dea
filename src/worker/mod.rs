//! The worker: claims tasks, works them, keeps their results and reports them, in as many slots as it is given.
//!
//! Order of writing, so that nothing is lost: claim, note the claim in the results file, run, store the result as not
//! reported, report, mark it as reported.

mod breaker;
mod capacity;
mod contact;
mod delivery;
mod event;
mod execute;
mod files;
mod give_back;
mod housekeeping;
mod in_flight;
mod long_poll;
mod lost;
mod params;
mod progress;
mod pulse;
mod queue;
mod recovery;
mod refused;
mod report;
mod slot;
mod snooze;
mod startup;
mod stops;
mod sweep;
mod told;
mod trouble;
mod types;
mod unsettled;

use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

pub(crate) use delivery::{Completer, Undelivered};
pub(crate) use event::{Event, Observer};
pub(crate) use execute::{Executor, with_sound_ideas};
pub(crate) use long_poll::LongPoll;
pub(crate) use params::check_schema;
pub use types::TypeError;
pub(crate) use types::{HandlerSource, WorkerType, default_timeout, no_handler};

use self::contact::Contact;
use self::in_flight::InFlight;
use self::lost::{Earlier, LostClaims};
use self::pulse::Pulse;
use self::queue::{Closed, Limits, Queue};
use self::recovery::Left;
use self::report::Waiting;
use self::stops::Stops;
use self::told::Told;
use self::trouble::StoreTrouble;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, ConfigError, Strategy};
use crate::failpoint;
use crate::handler::Handler;
use crate::resources::at_once;
use crate::shutdown::{Phase, Shutdown, StopReason, SystemClock, Watch};
use crate::store::{Counters, Process, Store, StoreError};
use crate::task::TaskId;
use crate::taskmanager::{Backoff, Client, Error, Order, Retries};

/// How long a claim that waits at the TaskManager is called back for, and how long each try has to show.
const WITHDRAW_FOR: Duration = Duration::from_secs(1);
const WITHDRAW_EVERY: Duration = Duration::from_millis(50);

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
    /// Somebody takes the worker for hanging where there is no [`Event::Turning`] for so long. Nobody: as if for five minutes.
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

struct Worker<'a> {
    executor: Executor<'a>,
    completer: Completer<'a>,
    claimer: Client,
    order: Order,
    types: Vec<WorkerType>,
    handlers: &'a dyn HandlerSource,
    queue: Arc<Queue>,
    stops: Arc<Stops>,
    pulse: Pulse,
    in_flight: Arc<InFlight>,
    left: Left,
    lost: LostClaims,
    /// Held by the slot that looks for lost claims before the end.
    settling: Mutex<()>,
    waiting: Waiting,
    told: Told,
    trouble: StoreTrouble,
    contact: Contact<'a>,
    process: Process,
    counters: Mutex<Counters>,
    last_noted_poll: Mutex<Option<Instant>>,
    /// Somebody waits for its end: it is to end when the TaskManager cannot be reached, or has asked to be left alone for
    /// so long.
    patience: Option<Duration>,
    failure: Mutex<Option<WorkerError>>,
}

/// Works tasks until the job is done or the program is asked to end.
pub(crate) fn run(job: &Job, tools: &Tools<'_>) -> Result<Summary, WorkerError> {
    let patience = is_waited_for(job, tools.config).then(|| patience(tools.client));
    // A server that asks to be left alone is left alone by all slots, not by one that waits in its call.
    let client = tools.client.with_patience(Duration::ZERO);
    let tools = &Tools { client: &client, ..*tools };
    let Some(types) = startup::resolve(job, tools, patience)? else {
        tools.observer.event(&Event::Ended(&Summary::default()));
        return Ok(Summary::default());
    };
    let worker = Worker::new(job, tools, types, patience).map_err(WorkerError::Store)?;
    worker.heed(tools.shutdown, tools.store);
    worker.work(tools)
}

/// The order in which a strategy takes tasks.
#[must_use]
pub(crate) fn order(strategy: Strategy) -> Order {
    match strategy {
        Strategy::Fifo => Order::OldestFirst,
        Strategy::Lifo => Order::NewestFirst,
        Strategy::Priority => Order::HighestPriorityFirst,
    }
}

impl<'a> Worker<'a> {
    fn new(
        job: &Job,
        tools: &Tools<'a>,
        types: Vec<WorkerType>,
        patience: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let (config, store) = (tools.config, tools.store);
        let draining: Arc<dyn Clock> = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining));
        let ending = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Ending));
        let limits =
            Limits { max_tasks: config.max_tasks.value, drain: job.drain, exit_after_idle: job.exit_after_idle };
        let backoff = Backoff::new(config.poll_interval.value, 1.5, config.max_backoff.value);
        let concurrency = types.iter().map(|worker_type| worker_type.concurrency).collect();
        let client = tools.client.with_clock(ending);
        let completer =
            Completer { store, client: client.clone(), observer: tools.observer, clock: Arc::clone(&draining) };
        let executor = Executor { config, client, store, observer: tools.observer, clock: Arc::clone(&draining) };
        let process = store.start_process(&config.worker_id.value, tools.client.url(), draining.now())?;
        let runs_programs = job.task_types.iter().any(|it| !job.handlers.contains_key(&it.name));
        recovery::end_leftovers(&executor, &process, runs_programs);
        let unreported = store.take_unreported(tools.client.url(), &process)?;
        let earlier = Earlier::of(&executor, &process)?;
        Ok(Self {
            claimer: tools.client.with_clock(draining),
            order: order(config.strategy.value),
            queue: Arc::new(Queue::new(limits, concurrency, config.concurrency.value, backoff)),
            stops: Arc::default(),
            pulse: Pulse::new(job.watchdog, config.concurrency.value),
            in_flight: Arc::new(InFlight::with(&unreported)),
            left: recovery::find(&executor, &process, &types)?,
            lost: LostClaims::new(earlier),
            settling: Mutex::default(),
            waiting: Waiting::new(unreported, config.max_backoff.value),
            told: Told::default(),
            trouble: StoreTrouble::default(),
            contact: Contact::answering(tools.observer),
            types,
            handlers: tools.handlers,
            process,
            counters: Mutex::default(),
            last_noted_poll: Mutex::new(None),
            patience,
            failure: Mutex::new(None),
            executor,
            completer,
        })
    }

    /// Makes the worker obey the program's shutdown at once, whatever its threads wait for.
    fn heed(&self, shutdown: &Shutdown, store: &Arc<Store>) {
        let (queue, stops, tasks) = (Arc::clone(&self.queue), Arc::clone(&self.stops), Arc::clone(&self.in_flight));
        let store = Arc::clone(store);
        shutdown.on_raise(Phase::Running, move |phase| {
            queue.ask_to_end();
            if phase == Phase::Ending {
                store.end_waits();
                stops.stop_all(StopReason::Kill);
                tasks.end();
            }
        });
    }

    fn work(&self, tools: &Tools<'_>) -> Result<Summary, WorkerError> {
        let concurrency = tools.config.concurrency.value;
        let task_types = self.types.iter().map(|it| (it.name.as_str(), it.id())).collect();
        tools.observer.event(&Event::Ready { task_types, concurrency });
        self.note_unreported();
        // What does not get through now waits for the reporter's next try.
        let _ = self.send_waiting(Retries::NONE, || self.beat());
        thread::scope(|scope| {
            let ended = Arc::new(Watch::new(false));
            self.start_threads(scope, concurrency, &ended);
            self.wait_for_slots(tools.config.grace_period.value);
            self.end_idle_handlers();
            self.wait_reported();
            self.waiting.end();
            ended.raise(true);
        });
        self.conclude(tools)
    }

    /// Starts the slots, and what helps them; they claim nothing before all of them are there.
    fn start_threads<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, slots: usize, ended: &Arc<Watch<bool>>) {
        let all_started = Arc::new(RwLock::new(()));
        let starting = all_started.write();
        let spawn = |name: String, run: Box<dyn FnOnce() + Send + 'scope>| {
            failpoint::check("thread")?;
            thread::Builder::new().name(name).spawn_scoped(scope, run)
        };
        let ended = Arc::clone(ended);
        let watch = move || self.watch_files(&ended);
        let mut refused = spawn("reporter".into(), Box::new(|| self.run_reporter())).err();
        refused = refused.or_else(|| spawn("files".into(), Box::new(watch)).err());
        for number in 0..slots {
            let all_started = Arc::clone(&all_started);
            let run = move || {
                drop(all_started.read());
                slot::run(self, number);
            };
            let refused = refused.take().or_else(|| spawn(format!("slot-{number}"), Box::new(run)).err());
            if let Some(error) = refused {
                self.queue.slot_ended();
                self.fail(WorkerError::Thread { slots, error });
            }
        }
        drop(starting);
    }

    fn wait_for_slots(&self, grace_period: Duration) {
        let closed = self.keep_house();
        let in_flight = self.queue.in_flight();
        self.executor.observer.event(&Event::Closing { asked: closed == Closed::Asked, in_flight });
        self.withdraw_claims();
        if !self.wait_slots_ended(Some(grace_period)) {
            self.stops.stop_all(StopReason::Shutdown);
            self.in_flight.end();
            self.wait_slots_ended(None);
        }
    }

    fn withdraw_claims(&self) {
        let worker_id = &self.executor.config.worker_id.value;
        withdraw_claims(&self.executor.client, worker_id, |time| self.queue.wait_not_waiting(time));
    }

    /// Ends what handlers keep for tasks to come, all at once: none of them is to wait for another.
    fn end_idle_handlers(&self) {
        let stop = self.stops.add();
        at_once(self.types.iter().collect(), |worker_type: &WorkerType| worker_type.end_idle(&stop));
    }

    fn conclude(&self, tools: &Tools<'_>) -> Result<Summary, WorkerError> {
        let counters = *self.counters.lock();
        let stopped = tools.store.stop_process(&self.process, counters, self.executor.clock.now());
        let (unreported, refused) = (self.waiting.unreported(), self.waiting.refused());
        let summary = Summary { counters, unreported, refused, snoozed: self.still_snoozed() };
        self.executor.observer.event(&Event::Ended(&summary));
        if let Some(failure) = self.failure.lock().take() {
            return Err(failure);
        }
        stopped.map_err(WorkerError::Store)?;
        Ok(summary)
    }

    /// Ends the worker for a reason that waiting cannot mend. The first reason stands.
    fn fail(&self, error: WorkerError) {
        self.note_failure(error);
        self.queue.close(Closed::Failed);
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
}

/// Calls back a claim that waits at the TaskManager, until it `has_ended` within the time that is given. It is answered
/// even so, with the task where it has just got one: that is why we do not simply hang up. Several tries, since it may
/// have been on its way there only.
pub(crate) fn withdraw_claims(client: &Client, worker_id: &str, has_ended: impl Fn(Duration) -> bool) {
    let client = client.with_retries(Retries::NONE);
    let start = Instant::now();
    while !has_ended(WITHDRAW_EVERY) && start.elapsed() < WITHDRAW_FOR {
        // A TaskManager that knows nothing of waiting answers the claim itself soon enough.
        let _ = client.withdraw_claims(worker_id);
    }
}

/// How long who waits for a worker's end goes on without an answer of the TaskManager.
fn patience(client: &Client) -> Duration {
    // A test that wants to see the end of it does not wait for minutes.
    if failpoint::check("impatient").is_ok() { client.retries().patience } else { Duration::from_secs(1) }
}

/// Whether somebody waits for a worker's end.
fn is_waited_for(job: &Job, config: &Config) -> bool {
    job.drain || config.max_tasks.value > 0
}
