//! Whether the TaskManager answers. An outage is two events, however many calls fail in it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Event, Observer};
use crate::taskmanager::Error;

struct Outage {
    since: Instant,
    failed_calls: u64,
}

/// Whether somebody who waits for the worker's end has no more `patience` after `error`, which came after calls had failed
/// for `time`: the TaskManager does not answer, or has asked to be left alone for too long.
pub(super) fn is_given_up(error: &Error, time: Duration, patience: Option<Duration>) -> bool {
    patience.is_some_and(|patience| error.retry_after().is_none() || time > patience)
}

/// What all calls together say about the TaskManager.
pub(super) struct Contact<'a> {
    outage: Mutex<Option<Outage>>,
    answers: AtomicU64,
    observer: &'a dyn Observer,
}

impl<'a> Contact<'a> {
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self { outage: Mutex::new(None), answers: AtomicU64::new(0), observer }
    }

    /// A call was answered. True where that ended an outage.
    pub(super) fn answered(&self) -> bool {
        self.answers.fetch_add(1, Relaxed);
        let Some(outage) = self.outage.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        let Outage { since, failed_calls } = outage;
        self.observer.event(&Event::OutageEnded { length: since.elapsed(), failed_calls });
        true
    }

    /// How long no call was answered.
    pub(super) fn outage(&self) -> Duration {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.as_ref().map_or(Duration::ZERO, |outage| outage.since.elapsed())
    }

    /// How many calls were answered so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// A call was not answered.
    pub(super) fn failed(&self, error: &Error) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = outage.as_mut() {
            outage.failed_calls += 1;
            return;
        }
        *outage = Some(Outage { since: Instant::now(), failed_calls: 1 });
        drop(outage);
        self.observer.event(&Event::OutageStarted(error.to_string()));
    }
}
