//! What a worker is doing now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than anything that a slot does between two turns beside a task or a planned wait: a claim or a report, each
/// with all its tries at a TaskManager that keeps every one of them hanging.
const LONGEST_TURN: Duration = Duration::from_mins(10);

/// A task that runs.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) task_type: String,
    pub(super) since: Instant,
    /// In percent, with the handler's own words.
    pub(super) progress: Option<(u8, String)>,
    ends_by: Instant,
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
    /// When a slot last turned.
    turned: Instant,
    /// When the next poll is due, where there is room for a task.
    next_poll: Instant,
    pub(super) polled: Option<Instant>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) contact: Contact,
    pub(super) last_call: Option<Duration>,
    pub(super) types: BTreeMap<String, Option<u64>>,
    /// Types that are not claimed, and when that ends.
    pub(super) paused: BTreeMap<String, Instant>,
    pub(super) held: BTreeMap<String, String>,
    pub(super) unreported: usize,
    pub(super) oldest_unreported: Option<Instant>,
    pub(super) store_error: Option<String>,
    pub(super) processed: u64,
    pub(super) failed: u64,
    pub(super) consecutive_errors: u32,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            turned: now,
            next_poll: now,
            polled: None,
            in_flight: BTreeMap::new(),
            contact: Contact::None,
            last_call: None,
            types: BTreeMap::new(),
            paused: BTreeMap::new(),
            held: BTreeMap::new(),
            unreported: 0,
            oldest_unreported: None,
            store_error: None,
            processed: 0,
            failed: 0,
            consecutive_errors: 0,
        }
    }

    pub(super) fn polled(&mut self, next: Duration, now: Instant) {
        (self.turned, self.polled) = (now, Some(now));
        // A wait beyond what time can hold is none that a loop could be late after.
        self.next_poll = now.checked_add(next).unwrap_or(self.next_poll);
    }

    pub(super) fn claimed(&mut self, id: u64, task_type: &str, time: Duration, now: Instant) {
        self.turned = now;
        let ends_by = now.checked_add(time).unwrap_or(now);
        self.in_flight.insert(id, InFlight { task_type: task_type.to_owned(), since: now, progress: None, ends_by });
    }

    /// Takes a task out that runs no more.
    pub(super) fn ended(&mut self, id: u64, now: Instant) -> Option<InFlight> {
        self.turned = now;
        self.in_flight.remove(&id)
    }

    /// Why the loop does not turn any more, where that is so: by now it should have, whatever it was doing.
    pub(super) fn stuck(&self, now: Instant) -> Option<String> {
        let busy_until = self.in_flight.values().map(|it| it.ends_by).max();
        let due = self.turned.max(self.next_poll).max(busy_until.unwrap_or(self.turned));
        let late = now.saturating_duration_since(due) > LONGEST_TURN;
        late.then(|| {
            let silent = now.saturating_duration_since(self.turned).as_secs();
            format!("no slot has turned for {silent} s: the worker hangs; restart it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_loop_that_does_not_turn_is_stuck() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        assert_eq!(activity.stuck(start + LONGEST_TURN), None);
        assert!(activity.stuck(start + LONGEST_TURN + SECOND).unwrap().contains("turned for 601 s"));
        activity.polled(Duration::ZERO, start + LONGEST_TURN);
        assert_eq!(activity.stuck(start + LONGEST_TURN + SECOND), None, "it has turned since");
    }

    #[test]
    fn a_wait_that_the_server_asked_for_is_no_hang() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        let wait = Duration::from_hours(2);
        activity.polled(wait, start);
        assert_eq!(activity.stuck(start + wait + LONGEST_TURN), None);
        assert!(activity.stuck(start + wait + LONGEST_TURN + SECOND).is_some());
    }

    #[test]
    fn a_long_task_is_no_hang_and_one_beyond_its_deadline_is() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        let hour = Duration::from_hours(1);
        activity.claimed(1, "a", hour, start);
        activity.claimed(2, "a", SECOND, start);
        assert_eq!(activity.stuck(start + hour), None);
        assert!(activity.stuck(start + hour + LONGEST_TURN + SECOND).is_some());
        activity.ended(1, start + SECOND);
        assert!(activity.stuck(start + hour).is_some(), "the long one is no excuse once it has ended");
    }
}
