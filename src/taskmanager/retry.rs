//! Exponential backoff with full jitter.

use std::time::Duration;

/// How often and how patiently a call is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Tries in all, the first included.
    pub tries: u32,
    /// The longest wait before the second try.
    pub first: Duration,
    /// The longest wait before any try.
    pub longest: Duration,
    /// Whether to wait as long as the server asks before the next try; else its request is the caller's to obey.
    pub waits_as_told: bool,
}

impl Retries {
    /// Five tries, with up to 250 ms, 500 ms, 1 s and 2 s between them: a restart of the server is bridged, and a
    /// script whose server is away hears of it within four seconds.
    pub const STANDARD: Self =
        Self { tries: 5, first: Duration::from_millis(250), longest: Duration::from_secs(2), waits_as_told: true };

    /// A single try.
    pub const NONE: Self = Self { tries: 1, ..Self::STANDARD };

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.first, 2.0, self.longest)
    }
}

/// Waits that grow by a factor up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    factor: f64,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of `first`, `first * factor`, … up to `longest`.
    #[must_use]
    pub fn new(first: Duration, factor: f64, longest: Duration) -> Self {
        let longest = longest.max(first);
        Self { first, factor, longest, next: first }
    }

    /// The next wait, before jitter. It grows with each call.
    pub fn grow(&mut self) -> Duration {
        let wait = self.next;
        let grown = wait.as_secs_f64() * self.factor;
        self.next = Duration::try_from_secs_f64(grown).unwrap_or(self.longest).min(self.longest);
        wait
    }

    /// The next wait with full jitter: anything from nothing to all of it, so that clients which failed together do
    /// not come back together.
    pub fn jittered(&mut self) -> Duration {
        self.grow().mul_f64(fastrand::f64())
    }

    /// Starts again from the first wait.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(10), 1.5, seconds(60));
        let waits: Vec<f64> = (0..7).map(|_| backoff.grow().as_secs_f64()).collect();
        assert_eq!(waits, [10.0, 15.0, 22.5, 33.75, 50.625, 60.0, 60.0]);
        backoff.reset();
        assert_eq!(backoff.grow(), seconds(10));
    }

    #[test]
    fn full_jitter_spreads_over_the_whole_wait() {
        let waits: Vec<f64> = (0..2000)
            .map(|_| Backoff::new(Duration::from_secs(1), 2.0, Duration::MAX).jittered().as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (0.0..=1.0).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 0.05) && waits.iter().any(|wait| *wait > 0.95), "not spread out");
    }

    #[test]
    fn a_limit_below_the_first_wait_does_not_shorten_it() {
        let mut backoff = Backoff::new(Duration::from_secs(10), 1.5, Duration::from_secs(5));
        assert_eq!((backoff.grow(), backoff.grow()), (Duration::from_secs(10), Duration::from_secs(10)));
    }
}
