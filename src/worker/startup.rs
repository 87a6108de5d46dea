//! Checks before the first claim: handlers can run, the open-file limit is high enough, the TaskManager answers,
//! accepts the key and knows the types.

use std::sync::Arc;
use std::time::Duration;

use super::outage::OutageTracker;
use super::watchdog::{heartbeat_interval, heartbeat_timeout};
use super::{Completer, Event, Executor, Tools, TypeError, WorkerError, WorkerOptions, WorkerType};
use crate::clock::{Clock, Slept, SystemClock};
use crate::config;
use crate::failpoint;
use crate::handler::{Handler, OpenFiles};
use crate::resources;
use crate::shutdown::Phase;
use crate::store::{Process, StoreError};
use crate::taskmanager::{Backoff, Client, Error};

/// Open files of each slot: connections to claim and to report, and their other ends if the TaskManager is embedded.
const CONNECTIONS: usize = 4;
/// Open files for everything else: health checks, the reporter's connection, SQLite's sorting.
const SPARE: u64 = 32;

/// Returns how long a worker whose exit somebody waits for continues without an answer of the TaskManager; `None` if
/// nobody does.
pub(super) fn outage_limit(options: &WorkerOptions, tools: &Tools<'_>) -> Option<Duration> {
    let is_waited_for = options.drain || tools.config.max_tasks.value > 0;
    let budget = tools.client.retries().retry_after_budget;
    is_waited_for.then(|| failpoint::timeout("short_timeouts", budget, Duration::from_secs(1)))
}

/// Builds the executor, which runs tasks and delivers their results until the worker is stopped at once.
pub(super) fn executor<'a>(tools: &Tools<'a>) -> Executor<'a> {
    let ending = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Ending));
    let completer = Completer {
        store: tools.store,
        client: tools.client.with_clock(ending),
        observer: tools.observer,
        clock: Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining)),
    };
    Executor { config: tools.config, completer }
}

/// Registers this process in the results file.
pub(super) fn start_process(tools: &Tools<'_>, executor: &Executor<'_>) -> Result<Process, StoreError> {
    let now = executor.completer.clock.now();
    tools.store.start_process(&tools.config.worker_id.value, tools.client.url(), now)
}

/// Whether a handler is a program. If all are the process's own code, its children are not ours to kill.
pub(super) fn runs_programs(options: &WorkerOptions) -> bool {
    options.task_types.iter().any(|it| !options.handlers.contains_key(&it.name))
}

/// Resolves the types to work; `None` if the program was stopped before the TaskManager answered.
pub(super) fn resolve(
    options: &WorkerOptions,
    tools: &Tools<'_>,
    outage_limit: Option<Duration>,
) -> Result<Option<Vec<WorkerType>>, WorkerError> {
    let handlers: Result<Vec<_>, _> = options.task_types.iter().map(|it| checked_handler(it, options, tools)).collect();
    let handlers = handlers.map_err(|error| WorkerError::Type(TypeError::Configuration(error)))?;
    check_open_files(tools.config.concurrency.value, options.task_types.iter().zip(&handlers))?;
    let clock = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining));
    let client = tools.client.with_clock(clock.clone());
    let outage = OutageTracker::new(tools.observer);
    let max_backoff = tools.config.max_backoff.value;
    let mut backoff = Backoff::new(tools.config.poll_interval.value, 1.5, max_backoff);
    let mut when_asked_to_wait = Backoff::when_asked_to_wait(max_backoff);
    loop {
        let error = match try_resolve(options, &handlers, tools, &client, &outage) {
            Ok(types) => return Ok(Some(types)),
            Err(TypeError::TaskManager(Error::Interrupted)) => return Ok(None),
            Err(TypeError::TaskManager(error)) if error.is_retryable() => error,
            Err(TypeError::TaskManager(error)) => return Err(WorkerError::TaskManager(error)),
            Err(error) => return Err(WorkerError::Type(error)),
        };
        // If somebody waits for the worker's exit, an unreachable TaskManager is an error at once.
        let is_away = outage_limit.is_some() && outage.answers() == 0 && error.retry_after().is_none();
        if is_away || outage.is_given_up(&error, outage_limit) {
            return Err(WorkerError::TaskManager(error));
        }
        outage.failed(&error);
        // A long wait sends heartbeats, which the client cannot do.
        let wait = match error.retry_after() {
            Some(asked) => asked.max(when_asked_to_wait.jittered()),
            None => backoff.jittered(),
        };
        if sleep_with_heartbeats(wait, options, tools, &*clock) == Slept::Interrupted {
            return Ok(None);
        }
    }
}

/// Returns the handler of a type: the caller's own, or the configured one. The error is one line on why it cannot run.
fn checked_handler(
    settings: &config::TaskType,
    options: &WorkerOptions,
    tools: &Tools<'_>,
) -> Result<Arc<dyn Handler>, String> {
    let handler = match options.handlers.get(&settings.name) {
        Some(handler) => Arc::clone(handler),
        None => tools.handlers.handler(settings)?,
    };
    handler.check().map_err(|error| format!("the handler of {} cannot run: {error}", settings.name))?;
    Ok(handler)
}

/// Waits while sending heartbeats.
fn sleep_with_heartbeats(wait: Duration, options: &WorkerOptions, tools: &Tools<'_>, clock: &dyn Clock) -> Slept {
    let mut left = wait;
    loop {
        heartbeat(options, tools);
        let step = heartbeat_interval(heartbeat_timeout(options.watchdog)).min(left);
        left -= step;
        let slept = clock.sleep(step);
        if slept == Slept::Interrupted || left.is_zero() {
            return slept;
        }
    }
}

/// Sends a heartbeat. The next call may take its time.
fn heartbeat(options: &WorkerOptions, tools: &Tools<'_>) {
    tools.observer.event(&Event::Heartbeat { timeout: heartbeat_timeout(options.watchdog) });
}

fn try_resolve(
    options: &WorkerOptions,
    handlers: &[Arc<dyn Handler>],
    tools: &Tools<'_>,
    client: &Client,
    outage: &OutageTracker<'_>,
) -> Result<Vec<WorkerType>, TypeError> {
    if options.register {
        for settings in &options.task_types {
            heartbeat(options, tools);
            let schema = tools.handlers.schema(settings);
            let registered = client.register_type(&settings.name, &settings.version, &schema);
            let registered = registered.map_err(TypeError::TaskManager)?;
            outage.answered();
            tools.observer.event(&Event::Registered { task_type: &settings.name, id: registered.id });
        }
    }
    let mut warn = |warning| tools.observer.event(&Event::Warning(warning));
    let mut resolve = |(settings, handler): (_, &Arc<_>)| {
        heartbeat(options, tools);
        let resolved = WorkerType::resolve(settings, Arc::clone(handler), tools.config, client, &mut warn);
        if resolved.is_ok() {
            outage.answered();
        }
        resolved
    };
    let types = options.task_types.iter().zip(handlers).map(&mut resolve).collect::<Result<_, _>>()?;
    heartbeat(options, tools);
    if !client.features().renew {
        warn_of_limits(options, tools);
    }
    Ok(types)
}

/// Warns of timeouts that are longer than claims, which are not renewed.
fn warn_of_limits(options: &WorkerOptions, tools: &Tools<'_>) {
    let claim_timeout = tools.config.claim_timeout.value;
    let warning =
        |it: &config::TaskType| it.timeout_beyond(claim_timeout, ", since the TaskManager does not renew claims");
    for warning in options.task_types.iter().filter_map(warning) {
        tools.observer.event(&Event::Warning(warning));
    }
}

/// What a type needs: its maximum of tasks in flight, and the open files of each.
type Need = (usize, OpenFiles);

/// Checks that the open-file limit is enough for the slots. Files open by now stay open.
fn check_open_files<'a>(
    slots: usize,
    types: impl Iterator<Item = (&'a config::TaskType, &'a Arc<dyn Handler>)>,
) -> Result<(), WorkerError> {
    let Some(limit) = resources::open_files_limit() else { return Ok(()) };
    let types: Vec<Need> =
        types.map(|(it, handler)| (it.concurrency.unwrap_or(usize::MAX), handler.open_files())).collect();
    let others = resources::open_files() + SPARE;
    let needed = |slots| others.saturating_add(files(slots, &types) as u64);
    if needed(slots) <= limit {
        return Ok(());
    }
    let enough_for = (1..slots).rev().find(|slots| needed(*slots) <= limit).unwrap_or(0);
    Err(WorkerError::OpenFiles { slots, needed: needed(slots), limit, enough_for })
}

/// Returns how many files the slots may have open at once: one task each, of the type that needs most, plus all idle
/// processes.
fn files(slots: usize, types: &[Need]) -> usize {
    let running = types.iter().map(|(_, files)| files.running).max().unwrap_or(0);
    let idle: usize = types.iter().map(|(most, files)| slots.min(*most).saturating_mul(files.idle)).sum();
    slots.saturating_mul(CONNECTIONS + running).saturating_add(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_processes_of_each_type_come_on_top_of_what_the_slots_need() {
        let (once, kept) = (OpenFiles { running: 10, idle: 0 }, OpenFiles { running: 3, idle: 8 });
        assert_eq!(files(4, &[(usize::MAX, once)]), 4 * 14);
        assert_eq!(files(4, &[(usize::MAX, kept)]), 4 * 15);
        assert_eq!(files(4, &[(usize::MAX, once), (2, kept), (9, kept)]), 4 * 14 + 2 * 8 + 4 * 8);
    }
}
