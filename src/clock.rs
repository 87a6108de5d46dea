//! Time, passed in, so that backoff and deadlines can be tested without sleeping.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

pub use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What a [`Clock::sleep`] ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// The whole time has passed.
    Whole,
    /// Somebody asked the program to end; what waited gives up.
    Interrupted,
}

/// The time of day, and a way to let it pass.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// The same on both clocks.
    fn moment(&self) -> Moment {
        Moment { time: self.now(), at: Instant::now() }
    }

    /// Waits for `duration`, or until the program is asked to end.
    fn sleep(&self, duration: Duration) -> Slept;
}

/// A moment as the time of day, for people and other programs, and on the clock that nobody sets, by which we measure: a
/// time of day is set forward or back while tasks run. (That clock stands still while the machine is suspended.)
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time of day, by the clock as it was set when the moment was noted.
    pub time: Timestamp,
    at: Instant,
}

impl Moment {
    /// That of a time of day, by the clock as it is set `now`.
    #[must_use]
    pub fn at(time: Timestamp, now: Self) -> Self {
        if time < now.time { now.earlier(between(time, now.time)) } else { now.later(between(now.time, time)) }
    }

    /// So much later.
    #[must_use]
    pub fn later(self, duration: Duration) -> Self {
        /// What is further away than the clock can tell is as good as never.
        const NEVER: Duration = Duration::from_hours(100 * 365 * 24);
        let at = self.at.checked_add(duration).or_else(|| self.at.checked_add(NEVER));
        Self { time: after(self.time, duration), at: at.unwrap_or(self.at) }
    }

    /// So much earlier, or as early as the clock can tell.
    #[must_use]
    pub fn earlier(self, duration: Duration) -> Self {
        Self { time: before(self.time, duration), at: self.at.checked_sub(duration).unwrap_or(self.at) }
    }

    /// The one of the two that comes first.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// How long ago it was; nothing where it is to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.at.elapsed()
    }

    /// How long it is until then; nothing where it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The time of day now, had nobody set the clock since then: to the millisecond, as results keep it.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        after(self.time, Duration::from_millis(elapsed))
    }
}

/// Until when something counts as long past, in what must not be removed too early: by the time of day `now`, but no later
/// than it would be had nobody set the clock forward since `start`.
#[must_use]
pub(crate) fn surely_past(start: Moment, now: Timestamp) -> Timestamp {
    start.now().min(now)
}

/// As the clock is set now.
impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self::at(time, Self { time: Timestamp::now(), at: Instant::now() })
    }
}

/// Moments are the same that are the same to others.
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

/// `time` later by `duration`, or the last representable time.
#[must_use]
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` earlier by `duration`, or the first representable time.
#[must_use]
pub(crate) fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The time from `start` to `end`, zero where `end` comes first.
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
    fn what_is_past_is_not_made_more_by_setting_the_clock_forward() {
        let (start, day) = (now(0), Timestamp::from_second(24 * 3600).unwrap());
        assert!(surely_past(start, day) < after(start.time, HOUR));
        let back = Timestamp::from_second(-60).unwrap();
        assert_eq!(surely_past(start, back), back);
    }
}
