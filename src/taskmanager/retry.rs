//! Retries with exponential backoff and full jitter.

use std::time::Duration;

use super::Error;

/// Maximum pause of our own choice after an answer with `Retry-After`.
const LONGEST_UNREQUESTED: Duration = Duration::from_secs(5);

/// Maximum pause after a deadlock in the server's database: the other transaction has won and is done soon.
const DEADLOCK_WAIT: Duration = Duration::from_millis(20);

/// Retry policy of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Maximum number of tries, including the first.
    pub tries: u32,
    /// Maximum pause before the second try.
    pub first: Duration,
    /// Maximum pause before any try.
    pub longest: Duration,
    /// Maximum total time to wait because of `Retry-After`. If a pause would exceed it, the call fails. Such pauses do not
    /// count as tries. Zero: the caller handles `Retry-After`.
    pub retry_after_budget: Duration,
}

impl Retries {
    /// Five tries, with pauses of up to 250 ms, 500 ms, 1 s and 2 s: enough for a restart of the server, and a script learns
    /// within four seconds that the server is down. Two minutes are enough for servers that limit calls per minute.
    pub const STANDARD: Self = Self {
        tries: 5,
        first: Duration::from_millis(250),
        longest: Duration::from_secs(2),
        retry_after_budget: Duration::from_mins(2),
    };

    /// A single try.
    pub const NONE: Self = Self { tries: 1, retry_after_budget: Duration::ZERO, ..Self::STANDARD };

    pub(super) fn start(&self) -> RetryState {
        let backoff = Backoff::new(self.first, 2.0, self.longest);
        RetryState { backoff, tries_left: self.tries.saturating_sub(1), retry_after_budget: self.retry_after_budget }
    }
}

/// The remaining tries of one call.
#[derive(Debug)]
pub(super) struct RetryState {
    backoff: Backoff,
    tries_left: u32,
    retry_after_budget: Duration,
}

impl RetryState {
    /// Returns the pause before the next try; `None` if there are no tries left.
    pub(super) fn next(&mut self, error: &Error) -> Option<Duration> {
        /// Prevents busy waiting if the server asks for zero.
        const SHORTEST: Duration = Duration::from_millis(10);
        let backoff = self.backoff.jittered();
        let Some(requested) = error.retry_after() else {
            self.tries_left = self.tries_left.checked_sub(1)?;
            return Some(if error.says_deadlock() { DEADLOCK_WAIT.mul_f64(fastrand::f64()) } else { backoff });
        };
        let wait = requested.max(backoff).max(SHORTEST);
        self.retry_after_budget = self.retry_after_budget.checked_sub(wait)?;
        Some(wait)
    }
}

/// Returns how many extra look-ups to make between a look-up and its call, after `failures` failed pairs. If a balancer
/// has a dead server behind it and every second call fails, strictly alternating look-ups and calls would let every
/// look-up succeed and every call fail.
pub(super) fn extra_lookups(failures: u32) -> u32 {
    if failures < 2 { 0 } else { fastrand::u32(0..4) }
}

/// Pauses that grow by a factor up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    factor: f64,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Creates pauses of `first`, `first * factor`, … up to `longest`.
    #[must_use]
    pub(crate) fn new(first: Duration, factor: f64, longest: Duration) -> Self {
        let longest = longest.max(first);
        Self { first, factor, longest, next: first }
    }

    /// Creates the minimum pauses after answers with `Retry-After`: a few seconds, and at most `most`. The first one is
    /// short, since a server that limits calls per minute may say zero in the last second.
    #[must_use]
    pub(crate) fn when_asked_to_wait(most: Duration) -> Self {
        Self::new(Retries::STANDARD.first, 2.0, most.min(LONGEST_UNREQUESTED))
    }

    /// Returns the next pause, without jitter, and grows it.
    pub(crate) fn grow(&mut self) -> Duration {
        let wait = self.next;
        let grown = wait.as_secs_f64() * self.factor;
        self.next = Duration::try_from_secs_f64(grown).unwrap_or(self.longest).min(self.longest);
        wait
    }

    /// Returns the next pause with full jitter, a random part of it, so that clients that failed together do not retry
    /// together.
    pub(crate) fn jittered(&mut self) -> Duration {
        self.grow().mul_f64(fastrand::f64())
    }

    /// Returns the longest pause.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Starts again with the first pause.
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
    fn pauses_without_retry_after_are_at_most_a_few_seconds() {
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
