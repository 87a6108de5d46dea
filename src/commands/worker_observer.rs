//! The observers of `work`: they send a worker's events to the log, the live line, the service manager, and the results
//! file.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::live::Live;
use super::systemd::Systemd;
use super::termination::RunningTasks;
use crate::clock::{Clock, SystemClock, after};
use crate::library::EventLog;
use crate::resources;
use crate::store::{Cause, ClaimingPause, Store, StoreError};
use crate::worker::{Event, Observer, Summary};

/// Forwards the events of a worker.
pub(super) struct WorkerObserver {
    pub(super) live: Option<Live>,
    /// Further observers.
    pub(super) others: Vec<Box<dyn Observer>>,
    pub(super) systemd: Option<Systemd>,
    pub(super) running: Arc<RunningTasks>,
    /// The worker's summary, also if it failed.
    pub(super) ended: OnceLock<Value>,
}

impl WorkerObserver {
    /// Returns the worker's summary after its end.
    pub(super) fn summary(&self) -> Option<&Value> {
        self.ended.get()
    }
}

impl Observer for WorkerObserver {
    fn event(&self, event: &Event<'_>) {
        self.running.event(event);
        if let Some(live) = &self.live {
            live.event(event);
        }
        for other in &self.others {
            other.event(event);
        }
        if let Some(systemd) = &self.systemd {
            systemd.event(event);
        }
        match event {
            Event::Ready { .. } => resources::release_memory(),
            Event::Ended(summary) => _ = self.ended.set(to_json(summary)),
            _ => {}
        }
        EventLog.event(event);
    }
}

fn to_json(Summary { counters, unreported, refused, .. }: &Summary) -> Value {
    let mut summary = json!({"completed": counters.completed, "failed": counters.failed, "unreported": unreported});
    if !refused.is_empty() {
        summary["refused"] = json!(refused.len());
    }
    summary
}

/// Records in the results file which types the worker does not claim, for `explain`.
pub(super) struct PauseRecorder {
    pub(super) store: Arc<Store>,
    pub(super) worker_id: String,
    pub(super) clock: SystemClock,
}

impl PauseRecorder {
    fn begin(&self, task_type: &str, pause: ClaimingPause<'_>) -> Result<(), StoreError> {
        self.store.note_unclaimed(&self.worker_id, task_type, pause)
    }

    fn end(&self, task_type: &str, cause: Cause) -> Result<(), StoreError> {
        self.store.note_claimable(&self.worker_id, task_type, cause)
    }
}

impl Observer for PauseRecorder {
    fn event(&self, event: &Event<'_>) {
        let noted = match event {
            Event::CircuitOpened { task_type, pause } => {
                let until = after(self.clock.now(), *pause);
                let reason = "circuit open: too many retryable failures";
                self.begin(task_type, ClaimingPause { cause: Cause::CircuitOpen, until, reason })
            }
            Event::CircuitClosed(task_type) => self.end(task_type, Cause::CircuitOpen),
            Event::Snoozed { task_type, until, reason } => {
                let reason = reason.unwrap_or("requested by the handler");
                self.begin(task_type, ClaimingPause { cause: Cause::Snoozed, until: *until, reason })
            }
            Event::SnoozeEnded(task_type) => self.end(task_type, Cause::Snoozed),
            _ => return,
        };
        if let Err(error) = noted {
            // The worker itself does not depend on this record.
            log::debug!("cannot record that claiming is paused: {error}");
        }
    }
}
