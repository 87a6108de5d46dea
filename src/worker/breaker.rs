//! A circuit breaker for each task type: while the service that its handler needs is away, waiting tasks keep their
//! attempts.

use std::time::{Duration, Instant};

use crate::taskmanager::Backoff;

/// After so many retryable failures in a row, a type is not claimed for a while.
const FAILURES: u32 = 5;
/// The first pause; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// What an attempt says about the service behind a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers, whatever it thinks of the task.
    Works,
    /// It may be away: the attempt failed in a way that trying again may mend.
    Fails,
    /// Nothing: the attempt was ended from outside.
    Unknown,
}

/// What a verdict has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The type is not claimed for so long.
    Opened(Duration),
    /// The type is claimed again as usual.
    Closed,
}

/// The state of one type.
pub(super) struct Breaker {
    failures: u32,
    pause: Backoff,
    /// While it is open: when one task may be tried.
    opens_until: Option<Instant>,
    /// That one task is being tried.
    trying: bool,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, pause: Backoff::new(FIRST, 2.0, LONGEST), opens_until: None, trying: false }
    }

    /// Whether a task may be claimed; where the breaker is open, that one is the trial.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let Some(until) = self.opens_until else { return true };
        let admitted = now >= until && !self.trying;
        self.trying |= admitted;
        admitted
    }

    /// When one task may be tried, where it is open.
    pub(super) fn opens_until(&self) -> Option<Instant> {
        self.opens_until
    }

    /// There was no task to claim after all.
    pub(super) fn withdraw(&mut self) {
        self.trying = false;
    }

    /// Takes in how an attempt ended.
    pub(super) fn judge(&mut self, verdict: Verdict, now: Instant) -> Option<Change> {
        let tried = std::mem::take(&mut self.trying);
        match verdict {
            Verdict::Unknown => None,
            Verdict::Works => {
                let was_open = self.opens_until.take().is_some();
                self.failures = 0;
                self.pause.reset();
                was_open.then_some(Change::Closed)
            }
            Verdict::Fails => {
                self.failures += 1;
                // What was in flight when it opened says nothing new; only the trial does.
                let opens = if self.opens_until.is_some() { tried } else { self.failures >= FAILURES };
                opens.then(|| {
                    let pause = self.pause.grow();
                    self.opens_until = Some(now + pause);
                    Change::Opened(pause)
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
            assert!(breaker.admit(now));
            assert_eq!(breaker.judge(Verdict::Fails, now), None);
        }
        assert_eq!(breaker.judge(Verdict::Fails, now), Some(Change::Opened(seconds(10))));
        (breaker, now)
    }

    #[test]
    fn one_task_tries_after_the_pause() {
        let (mut breaker, now) = opened();
        assert!(!breaker.admit(now + seconds(9)));
        assert!(breaker.admit(now + seconds(10)));
        assert!(!breaker.admit(now + seconds(10)), "one is enough");
        breaker.withdraw();
        assert!(breaker.admit(now + seconds(11)), "there was none: the next may try");
        assert_eq!(breaker.judge(Verdict::Works, now), Some(Change::Closed));
        assert!(breaker.admit(now) && breaker.admit(now));
    }

    #[test]
    fn pauses_grow_to_ten_minutes_and_start_again() {
        let (mut breaker, mut now) = opened();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            now += seconds(600);
            assert!(breaker.admit(now));
            let Some(Change::Opened(pause)) = breaker.judge(Verdict::Fails, now) else { panic!("it stays open") };
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(breaker.admit(now + seconds(600)));
        breaker.judge(Verdict::Works, now);
        for _ in 1..FAILURES {
            assert_eq!(breaker.judge(Verdict::Fails, now), None);
        }
        assert_eq!(breaker.judge(Verdict::Fails, now), Some(Change::Opened(seconds(10))));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES {
                assert_eq!(breaker.judge(Verdict::Fails, now), None);
            }
            breaker.judge(Verdict::Unknown, now);
            assert_eq!(breaker.judge(Verdict::Works, now), None);
        }
    }

    #[test]
    fn what_was_ended_from_outside_says_nothing() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 1..FAILURES {
            breaker.judge(Verdict::Fails, now);
            assert_eq!(breaker.judge(Verdict::Unknown, now), None);
        }
        assert!(breaker.judge(Verdict::Fails, now).is_some());
        assert!(breaker.admit(now + seconds(10)));
        assert_eq!(breaker.judge(Verdict::Unknown, now), None);
        assert!(!breaker.admit(now + seconds(9)), "it stays open");
        assert!(breaker.admit(now + seconds(10)), "the next may try");
    }

    #[test]
    fn what_was_in_flight_does_not_prolong_the_pause() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.judge(Verdict::Fails, now + seconds(5)), None);
        assert!(breaker.admit(now + seconds(10)));
    }
}
