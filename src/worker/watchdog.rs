//! The watchdog: whether the worker's loop is alive. Nobody else judges it: a service manager that restarts what hangs and
//! whoever asks for the worker's health hear the same words.
//!
//! The main thread says so, again and again, unless a slot hangs. A slot whose handler runs for an hour does not, nor one
//! that waits at the TaskManager: before it does what may take long, each slot says when it will be back at the latest.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// As if a manager wanted to hear so often, where none does: longer than a call with all its tries at a TaskManager that
/// keeps every one of them hanging.
const UNWATCHED: Duration = Duration::from_secs(300);

/// When each slot will be back.
pub(super) struct Watchdog {
    /// How long at most until it is said again that the loop is alive.
    again: Duration,
    /// What calls, the results file and the end of a handler may take. Far more than they do: all have time-outs.
    slack: Duration,
    /// By slot; `None` while it waits for a permit.
    back_by: Mutex<Vec<Option<Instant>>>,
}

impl Watchdog {
    /// For a manager that wants to hear at least every `watchdog`, where there is one.
    pub(super) fn new(watchdog: Option<Duration>, slots: usize) -> Self {
        let again = again(watchdog);
        Self { again, slack: again * 2, back_by: Mutex::new(vec![None; slots]) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.back_by.lock()
    }

    /// How long the main thread may wait before it speaks again.
    pub(super) fn every(&self) -> Duration {
        heartbeat_interval(self.again)
    }

    /// Within which time it is said again that the loop is alive.
    pub(super) fn again(&self) -> Duration {
        self.again
    }

    /// How much later than it has said a slot may be back.
    pub(super) fn slack(&self) -> Duration {
        self.slack
    }

    /// The slot will be back in `time`, and what is around that.
    pub(super) fn back_in(&self, slot: usize, time: Duration) {
        self.lock()[slot] = Instant::now().checked_add(time.saturating_add(self.slack));
    }

    /// The slot waits for a permit, or has ended.
    pub(super) fn rests(&self, slot: usize) {
        self.lock()[slot] = None;
    }

    /// The first slot that should be back and is not.
    pub(super) fn overdue(&self, now: Instant) -> Option<usize> {
        self.lock().iter().position(|back_by| back_by.is_some_and(|back_by| back_by < now))
    }
}

/// How long at most until a manager that wants to hear of us every `watchdog`, or nobody, hears of us again.
pub(super) fn again(watchdog: Option<Duration>) -> Duration {
    watchdog.unwrap_or(UNWATCHED)
}

/// How often who must hear of us `again` within some time does: twice as often, as systemd advises.
pub(super) fn heartbeat_interval(again: Duration) -> Duration {
    (again / 2).max(Duration::from_millis(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_overdue_when_its_time_and_the_slack_are_over() {
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let watchdog = Watchdog::new(Some(minute), 2);
        assert_eq!((watchdog.every(), watchdog.overdue(Instant::now() + hour)), (minute / 2, None));
        watchdog.back_in(1, hour);
        assert_eq!(watchdog.overdue(Instant::now() + hour + minute), None);
        assert_eq!(watchdog.overdue(Instant::now() + hour + 3 * minute), Some(1));
        watchdog.back_in(1, 2 * hour);
        assert_eq!(watchdog.overdue(Instant::now() + hour + 3 * minute), None);
        watchdog.rests(1);
        watchdog.back_in(0, Duration::MAX);
        assert_eq!(watchdog.overdue(Instant::now() + 24 * hour), None);
    }
}
