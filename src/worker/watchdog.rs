//! The watchdog: whether the worker's loop is alive. Nothing else judges that: the service manager and the health
//! endpoint get the same answer.
//!
//! The main thread sends heartbeats unless a slot hangs. A slot whose handler runs for an hour does not hang, nor does
//! one in a long poll: before anything that may take long, each slot says when it will be done at the latest.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Assumed interval if no service manager watches: longer than a call with all its retries to a TaskManager that lets
/// each of them hang.
const UNWATCHED: Duration = Duration::from_secs(300);

/// Tracks when each slot must be done with what it does.
pub(super) struct Watchdog {
    /// Maximum time between two heartbeats.
    timeout: Duration,
    /// Time that calls, the results file and the end of a handler may take. Far more than they do: all have time-outs.
    slack: Duration,
    /// Deadline by slot; `None` while the slot waits for a permit.
    back_by: Mutex<Vec<Option<Instant>>>,
}

impl Watchdog {
    /// Starts a watchdog for a service manager that expects a heartbeat every `watchdog`, if there is one.
    pub(super) fn new(watchdog: Option<Duration>, slots: usize) -> Self {
        let timeout = heartbeat_timeout(watchdog);
        Self { timeout, slack: timeout * 2, back_by: Mutex::new(vec![None; slots]) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.back_by.lock()
    }

    /// Returns how long the main thread may wait before the next heartbeat.
    pub(super) fn interval(&self) -> Duration {
        heartbeat_interval(self.timeout)
    }

    /// Returns the maximum time between two heartbeats.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns how much later than announced a slot may be done.
    pub(super) fn slack(&self) -> Duration {
        self.slack
    }

    /// Announces that the slot will be done in `time`, plus the slack.
    pub(super) fn expect_within(&self, slot: usize, time: Duration) {
        self.lock()[slot] = Instant::now().checked_add(time.saturating_add(self.slack));
    }

    /// Notes that the slot waits for a permit, or has ended.
    pub(super) fn clear(&self, slot: usize) {
        self.lock()[slot] = None;
    }

    /// Returns the first slot that hangs.
    pub(super) fn hung_slot(&self, now: Instant) -> Option<usize> {
        self.lock().iter().position(|back_by| back_by.is_some_and(|back_by| back_by < now))
    }
}

/// Returns the maximum time between two heartbeats for a service manager that expects one every `watchdog`, or for
/// none.
pub(super) fn heartbeat_timeout(watchdog: Option<Duration>) -> Duration {
    watchdog.unwrap_or(UNWATCHED)
}

/// Returns how often to send a heartbeat that is expected within `timeout`: twice as often, as systemd advises.
pub(super) fn heartbeat_interval(timeout: Duration) -> Duration {
    (timeout / 2).max(Duration::from_millis(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_hangs_when_its_time_and_the_slack_are_over() {
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let watchdog = Watchdog::new(Some(minute), 2);
        assert_eq!((watchdog.interval(), watchdog.hung_slot(Instant::now() + hour)), (minute / 2, None));
        watchdog.expect_within(1, hour);
        assert_eq!(watchdog.hung_slot(Instant::now() + hour + minute), None);
        assert_eq!(watchdog.hung_slot(Instant::now() + hour + 3 * minute), Some(1));
        watchdog.expect_within(1, 2 * hour);
        assert_eq!(watchdog.hung_slot(Instant::now() + hour + 3 * minute), None);
        watchdog.clear(1);
        watchdog.expect_within(0, Duration::MAX);
        assert_eq!(watchdog.hung_slot(Instant::now() + 24 * hour), None);
    }
}
