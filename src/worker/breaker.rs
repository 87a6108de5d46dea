//! Circuit breakers, one for each task type: while the service behind a handler is down, its tasks are not claimed and
//! keep their attempts.

use std::time::{Duration, Instant};

use crate::taskmanager::Backoff;

/// Retryable failures in a row that open the circuit.
const FAILURES: u32 = 5;
/// First pause; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// What an attempt says about the service behind a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The service answers, whether or not the task succeeded.
    Works,
    /// The service may be down: the attempt failed with a retryable error.
    Fails,
    /// Says nothing: not run, not stored, cancelled, or snoozed by its handler.
    Unknown,
}

/// A change of the circuit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CircuitChange {
    /// The circuit opened: the type is not claimed for this long.
    Opened(Duration),
    /// The circuit closed: the type is claimed again.
    Closed,
}

/// The circuit breaker of one type.
pub(super) struct Breaker {
    failures: u32,
    pause: Backoff,
    /// While the circuit is open: when one trial task may be claimed.
    opens_until: Option<Instant>,
    /// Whether the trial task is being claimed or run.
    trying: bool,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, pause: Backoff::new(FIRST, 2.0, LONGEST), opens_until: None, trying: false }
    }

    /// Returns how many tasks may be claimed, at most `most`. If the circuit is open, one: the trial.
    pub(super) fn admit(&mut self, most: usize, now: Instant) -> usize {
        if self.opens_until.is_none() { most } else { usize::from(self.try_claim(now)) }
    }

    /// Whether a task may be claimed. If the circuit is open, that task is the trial.
    fn try_claim(&mut self, now: Instant) -> bool {
        let Some(until) = self.opens_until else { return true };
        let admitted = now >= until && !self.trying;
        self.trying |= admitted;
        admitted
    }

    /// Returns when a trial task may be claimed; `None` if the circuit is closed.
    pub(super) fn opens_until(&self) -> Option<Instant> {
        self.opens_until
    }

    /// Takes a trial back that found no task.
    pub(super) fn withdraw(&mut self) {
        self.trying = false;
    }

    /// Records how an attempt ended.
    pub(super) fn record(&mut self, verdict: Verdict, now: Instant) -> Option<CircuitChange> {
        let tried = std::mem::take(&mut self.trying);
        match verdict {
            Verdict::Unknown => None,
            Verdict::Works => {
                let was_open = self.opens_until.take().is_some();
                self.failures = 0;
                self.pause.reset();
                was_open.then_some(CircuitChange::Closed)
            }
            Verdict::Fails => {
                self.failures += 1;
                // Attempts in flight when the circuit opened say nothing new; only the trial does.
                let opens = if self.opens_until.is_some() { tried } else { self.failures >= FAILURES };
                opens.then(|| {
                    let pause = self.pause.grow();
                    self.opens_until = Some(now + pause);
                    CircuitChange::Opened(pause)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A breaker that has just opened, and when.
    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 1..FAILURES {
            assert!(breaker.try_claim(now));
            assert_eq!(breaker.record(Verdict::Fails, now), None);
        }
        assert_eq!(breaker.record(Verdict::Fails, now), Some(CircuitChange::Opened(seconds(10))));
        (breaker, now)
    }

    #[test]
    fn one_task_tries_after_the_pause() {
        let (mut breaker, now) = opened();
        assert!(!breaker.try_claim(now + seconds(9)));
        assert!(breaker.try_claim(now + seconds(10)));
        assert!(!breaker.try_claim(now + seconds(10)), "one is enough");
        breaker.withdraw();
        assert!(breaker.try_claim(now + seconds(11)), "there was none: the next may try");
        assert_eq!(breaker.record(Verdict::Works, now), Some(CircuitChange::Closed));
        assert!(breaker.try_claim(now) && breaker.try_claim(now));
    }

    #[test]
    fn pauses_grow_to_ten_minutes_and_start_again() {
        let (mut breaker, mut now) = opened();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            now += seconds(600);
            assert!(breaker.try_claim(now));
            let Some(CircuitChange::Opened(pause)) = breaker.record(Verdict::Fails, now) else {
                panic!("it stays open")
            };
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(breaker.try_claim(now + seconds(600)));
        breaker.record(Verdict::Works, now);
        for _ in 1..FAILURES {
            assert_eq!(breaker.record(Verdict::Fails, now), None);
        }
        assert_eq!(breaker.record(Verdict::Fails, now), Some(CircuitChange::Opened(seconds(10))));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES {
                assert_eq!(breaker.record(Verdict::Fails, now), None);
            }
            breaker.record(Verdict::Unknown, now);
            assert_eq!(breaker.record(Verdict::Works, now), None);
        }
    }

    #[test]
    fn attempts_that_were_cancelled_do_not_count() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 1..FAILURES {
            breaker.record(Verdict::Fails, now);
            assert_eq!(breaker.record(Verdict::Unknown, now), None);
        }
        assert!(breaker.record(Verdict::Fails, now).is_some());
        assert!(breaker.try_claim(now + seconds(10)));
        assert_eq!(breaker.record(Verdict::Unknown, now), None);
        assert!(!breaker.try_claim(now + seconds(9)), "it stays open");
        assert!(breaker.try_claim(now + seconds(10)), "the next may try");
    }

    #[test]
    fn attempts_in_flight_do_not_prolong_the_pause() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.record(Verdict::Fails, now + seconds(5)), None);
        assert!(breaker.try_claim(now + seconds(10)));
    }
}
