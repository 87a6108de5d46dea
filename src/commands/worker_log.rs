//! A worker's events as log lines, as a live line where there is one, and for the service manager where there is one.

use super::live::Live;
use super::systemd::Systemd;
use crate::library::EventLog;
use crate::worker::{Event, Observer};

/// Passes on what happens in a worker.
pub(super) struct WorkerLog {
    pub(super) live: Option<Live>,
    /// Hears the same.
    pub(super) also: Option<Box<dyn Observer>>,
    pub(super) systemd: Option<Systemd>,
}

impl Observer for WorkerLog {
    fn event(&self, event: &Event<'_>) {
        if let Some(live) = &self.live {
            live.event(event);
        }
        if let Some(also) = &self.also {
            also.event(event);
        }
        if let Some(systemd) = &self.systemd {
            systemd.event(event);
        }
        EventLog.event(event);
    }
}
