//! Exponential backoff with full jitter.

use std::time::Duration;

use super::Error;

/// The longest wait that nobody has asked for, before a call is made again that the server wants to be made later.
const LONGEST_UNASKED: Duration = Duration::from_secs(5);

/// How often and how patiently a call is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Tries in all, the first included.
    pub tries: u32,
    /// The longest wait before the second try.
    pub first: Duration,
    /// The longest wait before any try.
    pub longest: Duration,
    /// How long to wait in all where the server asks to be left alone; not at all where it asks for more. Such waits use
    /// up no tries: who counts calls lets them through later. Zero: what it asks is the caller's to obey.
    pub patience: Duration,
}

impl Retries {
    /// Five tries, with up to 250 ms, 500 ms, 1 s and 2 s between them: a restart of the server is bridged, and a
    /// script whose server is away hears of it within four seconds. One that limits calls by the minute has begun the next
    /// minute before the patience ends.
    pub const STANDARD: Self = Self {
        tries: 5,
        first: Duration::from_millis(250),
        longest: Duration::from_secs(2),
        patience: Duration::from_mins(2),
    };

    /// A single try.
    pub const NONE: Self = Self { tries: 1, patience: Duration::ZERO, ..Self::STANDARD };

    pub(super) fn start(&self) -> Tries {
        let backoff = Backoff::new(self.first, 2.0, self.longest);
        Tries { backoff, left: self.tries.saturating_sub(1), patience: self.patience }
    }
}

/// The further tries of one call.
#[derive(Debug)]
pub(super) struct Tries {
    backoff: Backoff,
    left: u32,
    patience: Duration,
}

impl Tries {
    /// How long to wait before the call is tried again after `error`; `None` where it is given up.
    pub(super) fn next(&mut self, error: &Error) -> Option<Duration> {
        /// Less is no wait.
        const SHORTEST: Duration = Duration::from_millis(10);
        let backoff = self.backoff.jittered();
        let Some(asked) = error.retry_after() else {
            self.left = self.left.checked_sub(1)?;
            return Some(backoff);
        };
        let wait = asked.max(backoff).max(SHORTEST);
        self.patience = self.patience.checked_sub(wait)?;
        Some(wait)
    }
}

/// How often to look once more, between a look that was answered and the call that it is about, after so many failures of
/// the two. A balancer with a dead server behind it may let every second call fail: were the two always made in turn,
/// each look would get through and never the call.
pub(super) fn out_of_step(failures: u32) -> u32 {
    if failures < 2 { 0 } else { fastrand::u32(0..4) }
}

/// Waits that grow by a factor up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    factor: f64,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of `first`, `first * factor`, … up to `longest`.
    #[must_use]
    pub(crate) fn new(first: Duration, factor: f64, longest: Duration) -> Self {
        let longest = longest.max(first);
        Self { first, factor, longest, next: first }
    }

    /// The waits after calls that the server asks to be made later, where it does not ask for longer ones: of a few seconds,
    /// and no more than `most`. The first is short: who counts calls by the second or the minute may say zero in the last
    /// second.
    #[must_use]
    pub(crate) fn when_asked_to_wait(most: Duration) -> Self {
        Self::new(Retries::STANDARD.first, 2.0, most.min(LONGEST_UNASKED))
    }

    /// The next wait, before jitter. It grows with each call.
    pub(crate) fn grow(&mut self) -> Duration {
        let wait = self.next;
        let grown = wait.as_secs_f64() * self.factor;
        self.next = Duration::try_from_secs_f64(grown).unwrap_or(self.longest).min(self.longest);
        wait
    }

    /// The next wait with full jitter: anything from nothing to all of it, so that clients which failed together do
    /// not come back together.
    pub(crate) fn jittered(&mut self) -> Duration {
        self.grow().mul_f64(fastrand::f64())
    }

    /// The longest wait.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Starts again from the first wait.
    pub(crate) fn reset(&mut self) {
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
    fn waits_that_nobody_asked_for_end_at_a_few_seconds() {
        for (most, longest) in [(60, 5), (3, 3)] {
            let mut backoff = Backoff::when_asked_to_wait(Duration::from_secs(most));
            (0..20).for_each(|_| _ = backoff.grow());
            assert_eq!(backoff.grow(), Duration::from_secs(longest));
        }
    }

    #[test]
    fn a_limit_below_the_first_wait_does_not_shorten_it() {
        let mut backoff = Backoff::new(Duration::from_secs(10), 1.5, Duration::from_secs(5));
        assert_eq!((backoff.grow(), backoff.grow()), (Duration::from_secs(10), Duration::from_secs(10)));
    }
}
