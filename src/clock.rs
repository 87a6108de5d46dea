//! Time, passed in, so that backoff and deadlines can be tested without sleeping.

use std::time::Duration;

pub use jiff::Timestamp;

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

    /// Waits for `duration`, or until the program is asked to end.
    fn sleep(&self, duration: Duration) -> Slept;
}

/// `time` later by `duration`, or the last representable time.
#[must_use]
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` earlier by `duration`, or the first representable time.
#[must_use]
pub fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The time from `start` to `end`, zero where `end` comes first.
#[must_use]
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}
