//! How long a claim is held open at the server: one policy, for `work` and for `claim`.

use std::time::{Duration, Instant};

use crate::taskmanager::LongPolling;

/// The longest time for which a server is asked to hold a claim open: shorter than what proxies take for a dead
/// connection.
const LONGEST: Duration = Duration::from_secs(20);
/// A server that has held a claim open for so long did wait.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is known of a server that may hold claims open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongPoll {
    /// `None` until it has answered a claim that it could have held open.
    server: Option<LongPolling>,
    /// How many types are claimed.
    types: usize,
}

impl LongPoll {
    /// For claims of so many types at a server of which nothing is known.
    #[must_use]
    pub(crate) fn new(types: usize) -> Self {
        Self { server: None, types }
    }

    /// For a worker that is to hear at once that there is no task.
    pub(super) fn never() -> Self {
        Self { server: Some(LongPolling::No), types: 0 }
    }

    /// Notes how the server has answered a claim that it was asked to hold open.
    pub(crate) fn note(&mut self, waits: LongPolling) {
        self.server = Some(waits);
    }

    /// What the server has shown so far.
    #[must_use]
    pub(crate) fn server(&self) -> LongPolling {
        self.server.unwrap_or(LongPolling::No)
    }

    /// Whether one claim waits for tasks of all types.
    #[must_use]
    pub(crate) fn is_for_any(&self) -> bool {
        self.server == Some(LongPolling::AllTypes)
    }

    /// How long the server may hold the next claim. If it waits for a task of one type, and there are others, no longer
    /// than until these are asked for again, after `pause`.
    #[must_use]
    pub(crate) fn longest(&self, pause: Duration) -> Duration {
        if self.types == 1 || self.is_for_any() { LONGEST } else { LONGEST.min(pause) }
    }

    /// Whether the next claim may follow at once after one that began at `start`, as the server does the waiting. One
    /// that was asked to wait and did not would be asked in a circle.
    #[must_use]
    pub(crate) fn has_waited(&self, start: Instant) -> bool {
        matches!(self.server, Some(LongPolling::ClaimedType | LongPolling::AllTypes)) && start.elapsed() >= SHORTEST
    }

    /// Whether the server may do the waiting from now on, after a claim that began at `start` and `was_held` open if the
    /// server can do that.
    pub(super) fn may_wait(&self, start: Instant, was_held: bool) -> bool {
        self.server != Some(LongPolling::No) && (!was_held || start.elapsed() >= SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    #[test]
    fn a_server_that_waits_for_one_of_several_types_waits_until_the_others_are_due() {
        let mut several = LongPoll::new(2);
        assert_eq!((LongPoll::new(1).longest(PAUSE), several.longest(PAUSE)), (LONGEST, PAUSE));
        assert_eq!(several.longest(LONGEST * 3), LONGEST);
        several.note(LongPolling::ClaimedType);
        assert_eq!(several.longest(PAUSE), PAUSE);
        several.note(LongPolling::AllTypes);
        assert_eq!(several.longest(PAUSE), LONGEST);
    }

    #[test]
    fn a_server_that_was_asked_to_wait_and_did_not_is_not_asked_in_a_circle() {
        let mut one = LongPoll::new(1);
        assert!(one.may_wait(Instant::now(), false) && !one.may_wait(Instant::now(), true));
        assert!(!one.has_waited(Instant::now()));
        one.note(LongPolling::No);
        assert!(!one.may_wait(Instant::now(), false));
        assert!(!LongPoll::never().may_wait(Instant::now(), false));
    }
}
