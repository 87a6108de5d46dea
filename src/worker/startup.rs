//! Before the first claim: the handlers can run, the TaskManager answers, takes the key and knows the types.

use std::sync::Arc;
use std::time::Duration;

use super::capacity;
use super::contact::Contact;
use super::pulse::{again, beat_of};
use super::{Event, Job, Tools, TypeError, WorkerError, WorkerType};
use crate::clock::{Clock, Slept};
use crate::config;
use crate::handler::Handler;
use crate::shutdown::{Phase, SystemClock};
use crate::taskmanager::{Backoff, Client, Error};

/// The job's types, ready to be worked; `None` where the program was asked to end before the TaskManager answered.
pub(super) fn resolve(
    job: &Job,
    tools: &Tools<'_>,
    patience: Option<Duration>,
) -> Result<Option<Vec<WorkerType>>, WorkerError> {
    let handlers: Result<Vec<_>, _> = job.task_types.iter().map(|it| checked_handler(it, job, tools)).collect();
    let handlers = handlers.map_err(|error| WorkerError::Type(TypeError::Configuration(error)))?;
    capacity::check(tools.config.concurrency.value, job.task_types.iter().zip(&handlers))?;
    let clock = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining));
    let client = tools.client.with_clock(clock.clone());
    let contact = Contact::new(tools.observer);
    let max_backoff = tools.config.max_backoff.value;
    let mut backoff = Backoff::new(tools.config.poll_interval.value, 1.5, max_backoff);
    let mut when_asked_to_wait = Backoff::when_asked_to_wait(max_backoff);
    loop {
        let error = match try_resolve(job, &handlers, tools, &client, &contact) {
            Ok(types) => return Ok(Some(types)),
            Err(TypeError::TaskManager(Error::Interrupted)) => return Ok(None),
            Err(TypeError::TaskManager(error)) if error.is_retryable() => error,
            Err(TypeError::TaskManager(error)) => return Err(WorkerError::TaskManager(error)),
            Err(error) => return Err(WorkerError::Type(error)),
        };
        // Who waits for the worker's end hears at once that nobody answers at all.
        let is_away = patience.is_some() && contact.answers() == 0 && error.retry_after().is_none();
        if is_away || contact.is_given_up(&error, patience) {
            return Err(WorkerError::TaskManager(error));
        }
        contact.failed(&error);
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
        let step = beat_of(again(job.watchdog)).min(left);
        left -= step;
        let slept = clock.sleep(step);
        if slept == Slept::Interrupted || left.is_zero() {
            return slept;
        }
    }
}

/// Says that the worker does not hang. A call to come may take its time.
fn beat(job: &Job, tools: &Tools<'_>) {
    tools.observer.event(&Event::Turning { again: again(job.watchdog) });
}

fn try_resolve(
    job: &Job,
    handlers: &[Arc<dyn Handler>],
    tools: &Tools<'_>,
    client: &Client,
    contact: &Contact<'_>,
) -> Result<Vec<WorkerType>, TypeError> {
    if job.register {
        for settings in &job.task_types {
            beat(job, tools);
            let schema = tools.handlers.schema(settings);
            let registered = client.register_type(&settings.name, &settings.version, &schema);
            let registered = registered.map_err(TypeError::TaskManager)?;
            contact.answered();
            tools.observer.event(&Event::Registered { task_type: &settings.name, id: registered.id });
        }
    }
    let mut warn = |warning| tools.observer.event(&Event::Warning(warning));
    let mut resolve = |(settings, handler): (_, &Arc<_>)| {
        beat(job, tools);
        let resolved = WorkerType::resolve(settings, Arc::clone(handler), tools.config, client, &mut warn);
        if resolved.is_ok() {
            contact.answered();
        }
        resolved
    };
    job.task_types.iter().zip(handlers).map(&mut resolve).collect()
}
