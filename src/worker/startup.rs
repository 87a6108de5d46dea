//! Before the first claim: the handlers can run, the TaskManager answers, takes the key and knows the types.

use std::sync::Arc;
use std::time::Duration;

use super::contact::Contact;
use super::pulse::{again, beat_of};
use super::{Event, Job, SharedLedger, Tools, TypeError, WorkerError, WorkerType, handler, is_impatient, register};
use crate::clock::{Clock, Slept};
use crate::shutdown::{Phase, SystemClock};
use crate::taskmanager::{Backoff, Client, Error, Retries};

/// The job's types, ready to be worked; `None` where the program was asked to end before the TaskManager answered.
pub(super) fn resolve(
    job: &Job,
    tools: &Tools<'_>,
    ledger: &Arc<SharedLedger>,
) -> Result<Option<Vec<WorkerType>>, WorkerError> {
    for settings in &job.task_types {
        let checked = handler(settings, tools.config, None).and_then(|handler| {
            handler.check().map_err(|error| format!("the handler of {} cannot run: {error}", settings.name))
        });
        checked.map_err(|error| WorkerError::Type(TypeError::Configuration(error)))?;
    }
    let clock = Arc::new(SystemClock::new(Arc::clone(tools.shutdown), Phase::Draining));
    let mut client = tools.client.with_clock(clock.clone());
    if !is_impatient(job, tools.config) {
        // Who has to wait for long says meanwhile that it does, which a client cannot.
        client = client.with_retries(Retries { waits_as_told: false, ..Retries::STANDARD });
    }
    let contact = Contact::new(tools.observer);
    let mut backoff = Backoff::new(tools.config.poll_interval.value, 1.5, tools.config.max_backoff.value);
    loop {
        let error = match try_resolve(job, tools, &client, ledger) {
            Ok(types) => {
                contact.answered();
                return Ok(Some(types));
            }
            Err(TypeError::TaskManager(Error::Interrupted)) => return Ok(None),
            Err(TypeError::TaskManager(error)) if error.is_retryable() && !is_impatient(job, tools.config) => error,
            Err(TypeError::TaskManager(error)) => return Err(WorkerError::TaskManager(error)),
            Err(error) => return Err(WorkerError::Type(error)),
        };
        contact.failed(&error);
        let wait = error.retry_after().unwrap_or_else(|| backoff.jittered());
        if rest(wait, job, tools, &*clock) == Slept::Interrupted {
            return Ok(None);
        }
    }
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
    tools: &Tools<'_>,
    client: &Client,
    ledger: &Arc<SharedLedger>,
) -> Result<Vec<WorkerType>, TypeError> {
    if job.register {
        for settings in &job.task_types {
            beat(job, tools);
            let registered = register(settings, client).map_err(TypeError::TaskManager)?;
            tools.observer.event(&Event::Registered { task_type: &settings.name, id: registered.id });
        }
    }
    let mut warn = |warning| tools.observer.event(&Event::Warning(warning));
    let mut resolve = |settings| {
        beat(job, tools);
        WorkerType::resolve(settings, tools.config, client, ledger, &mut warn)
    };
    job.task_types.iter().map(&mut resolve).collect()
}
