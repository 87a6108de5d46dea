//! Before the first claim: the handlers can run, the process may open as many files as the slots need, the TaskManager
//! answers, takes the key and knows the types.

use std::sync::Arc;
use std::time::Duration;

use super::outage::OutageTracker;
use super::watchdog::{again, heartbeat_interval};
use super::{Completer, Event, Executor, Job, Tools, TypeError, WorkerError, WorkerType, recovery};
use crate::clock::{Clock, Slept};
use crate::config;
use crate::failpoint;
use crate::handler::{Handler, OpenFiles};
use crate::resources;
use crate::shutdown::{Phase, SystemClock};
use crate::store::{Process, StoreError};
use crate::taskmanager::{Backoff, Client, Error};

/// For each slot: a connection to the TaskManager to claim and one to report, and their other ends if that is embedded.
const CONNECTIONS: usize = 4;
/// For all else that comes and goes: who looks at the worker's health, the reporter's connection, what SQLite sorts.
const SPARE: u64 = 32;

/// How long who waits for a worker's end goes on without an answer of the TaskManager; `None` if nobody waits for it.
pub(super) fn exit_on_outage(job: &Job, tools: &Tools<'_>) -> Option<Duration> {
    let is_waited_for = job.drain || tools.config.max_tasks.value > 0;
    // A test that wants to see the end of it does not wait for minutes.
    let is_patient = failpoint::check("impatient").is_ok();
    is_waited_for.then(|| if is_patient { tools.client.retries().retry_after_budget } else { Duration::from_secs(1) })
}

/// What runs tasks, and reports their results until the worker is asked to end at once.
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

/// Enters this process in the results file, and ends what the handlers of dead ones left running.
pub(super) fn start_process(job: &Job, tools: &Tools<'_>, executor: &Executor<'_>) -> Result<Process, StoreError> {
    let now = executor.completer.clock.now();
    let process = tools.store.start_process(&tools.config.worker_id.value, tools.client.url(), now)?;
    let runs_programs = job.task_types.iter().any(|it| !job.handlers.contains_key(&it.name));
    recovery::kill_orphans(executor, &process, runs_programs);
    Ok(process)
}

/// The job's types, ready to be worked; `None` where the program was asked to end before the TaskManager answered.
pub(super) fn resolve(
    job: &Job,
    tools: &Tools<'_>,
    exit_on_outage: Option<Duration>,
) -> Result<Option<Vec<WorkerType>>, WorkerError> {
    let handlers: Result<Vec<_>, _> = job.task_types.iter().map(|it| checked_handler(it, job, tools)).collect();
    let handlers = handlers.map_err(|error| WorkerError::Type(TypeError::Configuration(error)))?;
    check_open_files(tools.config.concurrency.value, job.task_types.iter().zip(&handlers))?;
    let clock = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining));
    let client = tools.client.with_clock(clock.clone());
    let outage = OutageTracker::new(tools.observer);
    let max_backoff = tools.config.max_backoff.value;
    let mut backoff = Backoff::new(tools.config.poll_interval.value, 1.5, max_backoff);
    let mut when_asked_to_wait = Backoff::when_asked_to_wait(max_backoff);
    loop {
        let error = match try_resolve(job, &handlers, tools, &client, &outage) {
            Ok(types) => return Ok(Some(types)),
            Err(TypeError::TaskManager(Error::Interrupted)) => return Ok(None),
            Err(TypeError::TaskManager(error)) if error.is_retryable() => error,
            Err(TypeError::TaskManager(error)) => return Err(WorkerError::TaskManager(error)),
            Err(error) => return Err(WorkerError::Type(error)),
        };
        // Who waits for the worker's end hears at once that nobody answers at all.
        let is_away = exit_on_outage.is_some() && outage.answers() == 0 && error.retry_after().is_none();
        if is_away || outage.is_given_up(&error, exit_on_outage) {
            return Err(WorkerError::TaskManager(error));
        }
        outage.failed(&error);
        // Who has to wait for long says meanwhile that it does, which a client cannot.
        let wait = match error.retry_after() {
            Some(asked) => asked.max(when_asked_to_wait.jittered()),
            None => backoff.jittered(),
        };
        if rest(wait, job, tools, &*clock) == Slept::Interrupted {
            return Ok(None);
        }
    }
}

/// The handler of a type: the caller's own, or what the configuration says. The error is one line on why it cannot run.
fn checked_handler(settings: &config::TaskType, job: &Job, tools: &Tools<'_>) -> Result<Arc<dyn Handler>, String> {
    let handler = match job.handlers.get(&settings.name) {
        Some(handler) => Arc::clone(handler),
        None => tools.handlers.handler(settings)?,
    };
    handler.check().map_err(|error| format!("the handler of {} cannot run: {error}", settings.name))?;
    Ok(handler)
}

/// Waits, and says meanwhile that it does.
fn rest(wait: Duration, job: &Job, tools: &Tools<'_>, clock: &dyn Clock) -> Slept {
    let mut left = wait;
    loop {
        beat(job, tools);
        let step = heartbeat_interval(again(job.watchdog)).min(left);
        left -= step;
        let slept = clock.sleep(step);
        if slept == Slept::Interrupted || left.is_zero() {
            return slept;
        }
    }
}

/// Says that the worker does not hang. A call to come may take its time.
fn beat(job: &Job, tools: &Tools<'_>) {
    tools.observer.event(&Event::Heartbeat { again: again(job.watchdog) });
}

fn try_resolve(
    job: &Job,
    handlers: &[Arc<dyn Handler>],
    tools: &Tools<'_>,
    client: &Client,
    outage: &OutageTracker<'_>,
) -> Result<Vec<WorkerType>, TypeError> {
    if job.register {
        for settings in &job.task_types {
            beat(job, tools);
            let schema = tools.handlers.schema(settings);
            let registered = client.register_type(&settings.name, &settings.version, &schema);
            let registered = registered.map_err(TypeError::TaskManager)?;
            outage.answered();
            tools.observer.event(&Event::Registered { task_type: &settings.name, id: registered.id });
        }
    }
    let mut warn = |warning| tools.observer.event(&Event::Warning(warning));
    let mut resolve = |(settings, handler): (_, &Arc<_>)| {
        beat(job, tools);
        let resolved = WorkerType::resolve(settings, Arc::clone(handler), tools.config, client, &mut warn);
        if resolved.is_ok() {
            outage.answered();
        }
        resolved
    };
    job.task_types.iter().zip(handlers).map(&mut resolve).collect()
}

/// What a type needs: at most so many tasks of it at once, and that for each.
type Need = (usize, OpenFiles);

/// Refuses more slots than this process may have open files for. Those that are open by now stay open.
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

/// How many files the slots may have open at once: for a task each, of the type that needs most, beside all processes
/// that were ever kept.
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
