//! Current activity of a worker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Quota;
#[derive(Debug, Clone)]
pub(super) struct InFlightTask {
    pub(super) task_type: String,
    pub(super) since: Instant,
    /// Percentage and message.
    pub(super) progress: Option<(u8, String)>,
}

/// What the worker last reported about its loop.
#[derive(Debug, Clone)]
pub(super) enum Heartbeat {
    /// It is alive, and the next heartbeat is due by this time.
    Alive(Instant),
    /// It is stuck, and why.
    Stuck(String),
}

/// State of the connection to the TaskManager.
#[derive(Debug, Clone, Default)]
pub(super) enum TaskManagerState {
    /// No call has been answered yet.
    #[default]
    None,
    Reachable,
    /// The last call failed, and why.
    Unreachable(String),
}

/// What a worker is doing, according to its events.
pub(super) struct Activity {
    /// `None` before the first heartbeat.
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) polled: Option<Instant>,
    pub(super) in_flight: BTreeMap<u64, InFlightTask>,
    pub(super) taskmanager: TaskManagerState,
    pub(super) last_call: Option<Duration>,
    pub(super) types: BTreeMap<String, Option<u64>>,
    /// Types whose circuit breaker is open, and until when.
    pub(super) circuit_open: BTreeMap<String, Instant>,
    pub(super) snoozed: BTreeMap<String, Instant>,
    pub(super) quota: Option<Quota>,
    pub(super) unreported: usize,
    pub(super) refused: usize,
    pub(super) last_refused: Option<String>,
    pub(super) oldest_unreported: Option<Instant>,
    pub(super) store_error: Option<String>,
    /// Why a required file is gone, so that the worker has to exit.
    pub(super) files_gone: Option<String>,
    pub(super) processed: u64,
    pub(super) failed: u64,
    pub(super) consecutive_errors: u32,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            heartbeat: None,
            polled: None,
            in_flight: BTreeMap::new(),
            taskmanager: TaskManagerState::None,
            last_call: None,
            types: BTreeMap::new(),
            circuit_open: BTreeMap::new(),
            snoozed: BTreeMap::new(),
            quota: None,
            unreported: 0,
            refused: 0,
            last_refused: None,
            oldest_unreported: None,
            store_error: None,
            files_gone: None,
            processed: 0,
            failed: 0,
            consecutive_errors: 0,
        }
    }

    /// Returns why the worker is stuck, if it is: a file is gone or cannot be written, the loop reports that it is stuck, or
    /// its heartbeat is overdue.
    pub(super) fn stuck_reason(&self, now: Instant) -> Option<String> {
        if self.files_gone.is_some() {
            return self.files_gone.clone();
        }
        if self.store_error.is_some() {
            return self.store_error.clone();
        }
        match self.heartbeat.as_ref()? {
            Heartbeat::Stuck(reason) => Some(reason.clone()),
            Heartbeat::Alive(until) if now > *until => {
                let silent = now.saturating_duration_since(*until).as_secs();
                Some(format!("no heartbeat from the worker's main thread for {silent} s"))
            }
            Heartbeat::Alive(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_when_it_says_so_or_says_nothing() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut activity = Activity::new();
        assert_eq!(activity.stuck_reason(start), None, "it starts");
        activity.heartbeat = Some(Heartbeat::Alive(start + second));
        assert_eq!(activity.stuck_reason(start + second), None);
        assert!(activity.stuck_reason(start + 8 * second).unwrap().contains("for 7 s"));
        activity.heartbeat = Some(Heartbeat::Stuck("why".into()));
        assert_eq!(activity.stuck_reason(start).as_deref(), Some("why"));
    }
}
