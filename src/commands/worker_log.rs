//! Sends a worker's events to the log, the live line and the service manager.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::end::RunningTasks;
use super::live::Live;
use super::systemd::Systemd;
use crate::library::EventLog;
use crate::worker::{Event, Observer, Summary};

/// Forwards the events of a worker.
pub(super) struct WorkerLog {
    pub(super) live: Option<Live>,
    /// Further observers.
    pub(super) also: Vec<Box<dyn Observer>>,
    pub(super) systemd: Option<Systemd>,
    pub(super) running: Arc<RunningTasks>,
    /// The worker's summary, also if it failed.
    pub(super) ended: OnceLock<Value>,
}

impl WorkerLog {
    /// Returns the worker's summary after its end.
    pub(super) fn summary(&self) -> Option<&Value> {
        self.ended.get()
    }
}

impl Observer for WorkerLog {
    fn event(&self, event: &Event<'_>) {
        self.running.event(event);
        if let Some(live) = &self.live {
            live.event(event);
        }
        for also in &self.also {
            also.event(event);
        }
        if let Some(systemd) = &self.systemd {
            systemd.event(event);
        }
        if let Event::Ended(summary) = event {
            let _ = self.ended.set(to_json(summary));
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
