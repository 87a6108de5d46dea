//! A worker's events as log lines, as a live line where there is one, and for the service manager where there is one.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::end::Running;
use super::live::Live;
use super::systemd::Systemd;
use crate::library::EventLog;
use crate::worker::{Event, Observer, Summary};

/// Passes on what happens in a worker.
pub(super) struct WorkerLog {
    pub(super) live: Option<Live>,
    /// They hear the same.
    pub(super) also: Vec<Box<dyn Observer>>,
    pub(super) systemd: Option<Systemd>,
    pub(super) running: Arc<Running>,
    /// What the worker has done, also where it failed in the end.
    pub(super) ended: OnceLock<Value>,
}

impl WorkerLog {
    /// What the worker has done, once it has ended.
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
