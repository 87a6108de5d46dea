//! Clocks that can be replaced in tests, so that backoff and deadlines are tested without sleeping.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::shutdown::{Phase, Shutdown};

/// How a [`Clock::sleep`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// The whole time has passed.
    Whole,
    /// The program is stopping.
    Interrupted,
}

/// The time of day, and sleeping.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the current moment.
    fn moment(&self) -> Moment {
        Moment { time: self.now(), at: Instant::now() }
    }

    /// Sleeps for `duration`, or until the program stops.
    fn sleep(&self, duration: Duration) -> Slept;
}

/// The system's clock. Its sleeps end when the shutdown reaches a phase.
pub struct SystemClock {
    shutdown: Arc<Shutdown>,
    wakes_at: Phase,
}

impl SystemClock {
    /// Creates a clock whose sleeps end when `shutdown` reaches `wakes_at`.
    #[must_use]
    pub fn new(shutdown: Arc<Shutdown>, wakes_at: Phase) -> Self {
        Self { shutdown, wakes_at }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Results, logs and envelopes store milliseconds; finer times would differ from the stored ones.
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn sleep(&self, duration: Duration) -> Slept {
        if self.shutdown.wait_for(self.wakes_at, duration) { Slept::Interrupted } else { Slept::Whole }
    }
}

/// A point in time by two clocks: the time of day, for users and other programs, and the monotonic clock, for measuring,
/// since the time of day may be set while tasks run. (The monotonic clock stands still while the machine is suspended.)
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time of day when the moment was recorded.
    pub time: Timestamp,
    at: Instant,
}

impl Moment {
    /// Converts a time of day, relative to `now`.
    #[must_use]
    pub fn at(time: Timestamp, now: Self) -> Self {
        if time < now.time { now.earlier(between(time, now.time)) } else { now.later(between(now.time, time)) }
    }

    /// Adds a duration.
    #[must_use]
    pub fn later(self, duration: Duration) -> Self {
        /// Replaces durations that are out of range.
        const NEVER: Duration = Duration::from_hours(100 * 365 * 24);
        let at = self.at.checked_add(duration).or_else(|| self.at.checked_add(NEVER));
        Self { time: after(self.time, duration), at: at.unwrap_or(self.at) }
    }

    /// Subtracts a duration, down to the earliest representable instant.
    #[must_use]
    pub fn earlier(self, duration: Duration) -> Self {
        Self { time: before(self.time, duration), at: self.at.checked_sub(duration).unwrap_or(self.at) }
    }

    /// Returns the earlier one.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// Returns the time since then, or zero if it is in the future.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.at.elapsed()
    }

    /// Returns the time until then, or zero if it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Returns the current time of day if the clock had not been set since then, in whole milliseconds.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        after(self.time, Duration::from_millis(elapsed))
    }
}

/// Returns the time of day `now`, but not later than it would be if the clock had not been set forward since `start`, so
/// that nothing is removed too early.
#[must_use]
pub(crate) fn surely_past(start: Moment, now: Timestamp) -> Timestamp {
    start.now().min(now)
}

/// Converts a time of day, by the current clock.
impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self::at(time, Self { time: Timestamp::now(), at: Instant::now() })
    }
}

/// Compares the times of day only.
impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.time.fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.time.serialize(serializer)
    }
}

/// Adds `duration` to `time`, up to the last representable time.
#[must_use]
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// Subtracts `duration` from `time`, down to the first representable time.
#[must_use]
pub(crate) fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// Returns the time from `start` to `end`, or zero if `end` is earlier.
#[must_use]
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// A moment that is now, though the clock says `second`.
    fn now(second: i64) -> Moment {
        Moment { time: Timestamp::from_second(second).unwrap(), at: Instant::now() }
    }

    #[test]
    fn a_moment_is_the_same_on_both_clocks() {
        let noon = now(12 * 3600);
        let one = noon.later(HOUR);
        assert_eq!((one.time, one.elapsed()), (Timestamp::from_second(13 * 3600).unwrap(), Duration::ZERO));
        assert!(one.left() > HOUR / 2 && one.left() <= HOUR);
        assert_eq!(Moment::at(one.time, noon), one);
        assert_eq!(noon.min(one), noon);
        assert!(noon.earlier(Duration::from_secs(1)).elapsed() >= Duration::from_secs(1));
        assert_eq!(noon.later(Duration::MAX).time, Timestamp::MAX);
        assert!(noon.later(Duration::MAX).left() > HOUR);
    }

    #[test]
    fn setting_the_clock_forward_adds_nothing_to_the_past() {
        let (start, day) = (now(0), Timestamp::from_second(24 * 3600).unwrap());
        assert!(surely_past(start, day) < after(start.time, HOUR));
        let back = Timestamp::from_second(-60).unwrap();
        assert_eq!(surely_past(start, back), back);
    }
}
