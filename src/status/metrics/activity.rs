//! What a worker is doing now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Quota;
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) task_type: String,
    pub(super) since: Instant,
    /// In percent, with the handler's own words.
    pub(super) progress: Option<(u8, String)>,
}

/// What the worker last said of its loop.
#[derive(Debug, Clone)]
pub(super) enum Loop {
    /// It turns, and that is said again before this time.
    Turns(Instant),
    /// It does not, and why.
    Hangs(String),
}

/// What the calls say about the TaskManager.
#[derive(Debug, Clone, Default)]
pub(super) enum Contact {
    /// It has not answered yet.
    #[default]
    None,
    Answers,
    /// It does not, and why.
    Lost(String),
}

/// What a worker is doing, as of its last events.
pub(super) struct Activity {
    /// Nothing before its first word.
    pub(super) its_loop: Option<Loop>,
    pub(super) polled: Option<Instant>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) contact: Contact,
    pub(super) last_call: Option<Duration>,
    pub(super) types: BTreeMap<String, Option<u64>>,
    /// Types that are not claimed, and when that ends.
    pub(super) paused: BTreeMap<String, Instant>,
    pub(super) held: BTreeMap<String, Instant>,
    pub(super) quota: Option<Quota>,
    pub(super) unreported: usize,
    pub(super) refused: usize,
    pub(super) last_refused: Option<String>,
    pub(super) oldest_unreported: Option<Instant>,
    pub(super) store_error: Option<String>,
    /// What became of a file without which the worker can only end.
    pub(super) files_gone: Option<String>,
    pub(super) processed: u64,
    pub(super) failed: u64,
    pub(super) consecutive_errors: u32,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            its_loop: None,
            polled: None,
            in_flight: BTreeMap::new(),
            contact: Contact::None,
            last_call: None,
            types: BTreeMap::new(),
            paused: BTreeMap::new(),
            held: BTreeMap::new(),
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

    /// Why the worker can do nothing, where that is so: a file is gone or cannot be written, or its loop does not turn, since
    /// the worker says so, or says nothing any more.
    pub(super) fn stuck(&self, now: Instant) -> Option<String> {
        if self.files_gone.is_some() {
            return self.files_gone.clone();
        }
        if self.store_error.is_some() {
            return self.store_error.clone();
        }
        match self.its_loop.as_ref()? {
            Loop::Hangs(reason) => Some(reason.clone()),
            Loop::Turns(until) if now > *until => {
                let silent = now.saturating_duration_since(*until).as_secs();
                Some(format!("no heartbeat from the worker's main thread for {silent} s"))
            }
            Loop::Turns(_) => None,
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
        assert_eq!(activity.stuck(start), None, "it starts");
        activity.its_loop = Some(Loop::Turns(start + second));
        assert_eq!(activity.stuck(start + second), None);
        assert!(activity.stuck(start + 8 * second).unwrap().contains("for 7 s"));
        activity.its_loop = Some(Loop::Hangs("why".into()));
        assert_eq!(activity.stuck(start).as_deref(), Some("why"));
    }
}
