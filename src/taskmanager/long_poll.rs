//! Long polling: the request, the answer, and how long the server may hold a claim open. One policy for `work` and
//! `claim`.

use std::time::{Duration, Instant};

use super::{Client, Retries};

/// Maximum time of a long poll: shorter than proxies' time-outs for idle connections.
const LONGEST: Duration = Duration::from_secs(20);
/// A server that has held a claim open for this long supports long polls.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long to keep withdrawing an open long poll, and how long to wait after each request.
const WITHDRAW_FOR: Duration = Duration::from_secs(1);
const WITHDRAW_EVERY: Duration = Duration::from_millis(50);

/// Parameters of a long poll.
#[derive(Debug, Clone, Copy, Default)]
pub struct LongPollRequest<'a> {
    /// Maximum time to wait, in whole seconds. Less than one second means no long poll.
    pub time: Duration,
    /// Ids of further types of which a task is accepted.
    pub others: &'a [u64],
}

impl LongPollRequest<'_> {
    /// Whether a long poll is requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.time.as_secs() > 0
    }

    /// Returns the value of `Prefer` (RFC 7240). `task-types` is our own extension; other servers ignore it.
    pub(super) fn preference(&self) -> String {
        let others: Vec<String> = self.others.iter().map(u64::to_string).collect();
        let others = if others.is_empty() { String::new() } else { format!(", task-types=\"{}\"", others.join(" ")) };
        format!("wait={}{others}", self.time.as_secs())
    }
}

/// Whether a server supports long polls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LongPollSupport {
    /// No: it answers at once.
    #[default]
    No,
    /// For the type of the claim only.
    ClaimedType,
    /// For all requested types.
    AllTypes,
}

impl LongPollSupport {
    /// Reads `Preference-Applied` of the answer to `wait`.
    pub(super) fn applied(preferences: &str, wait: &LongPollRequest<'_>) -> Self {
        let applied = |wanted| preferences.split(',').any(|name| name.trim().eq_ignore_ascii_case(wanted));
        match applied("wait") {
            false => Self::No,
            true if wait.others.is_empty() || applied("task-types") => Self::AllTypes,
            true => Self::ClaimedType,
        }
    }
}

/// What is known about a server's long polling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongPollPolicy {
    /// `None` until it has answered a long poll.
    server: Option<LongPollSupport>,
    /// Number of types claimed.
    types: usize,
}

impl LongPollPolicy {
    /// Creates the policy for claims of `types` types, with nothing known about the server.
    #[must_use]
    pub(crate) fn new(types: usize) -> Self {
        Self { server: None, types }
    }

    /// Creates the policy of a worker that never long-polls.
    pub(crate) fn never() -> Self {
        Self { server: Some(LongPollSupport::No), types: 0 }
    }

    /// Notes how the server answered a long poll.
    pub(crate) fn note(&mut self, waits: LongPollSupport) {
        self.server = Some(waits);
    }

    /// Returns what the server supports, as far as is known.
    #[must_use]
    pub(crate) fn server(&self) -> LongPollSupport {
        self.server.unwrap_or(LongPollSupport::No)
    }

    /// Whether one long poll waits for tasks of all types.
    #[must_use]
    pub(crate) fn is_for_any(&self) -> bool {
        self.server == Some(LongPollSupport::AllTypes)
    }

    /// Returns how long the server may hold the next claim open. If it waits for one type only and there are others, no
    /// longer than `pause`, after which these are polled again.
    #[must_use]
    pub(crate) fn longest(&self, pause: Duration) -> Duration {
        if self.types == 1 || self.is_for_any() { LONGEST } else { LONGEST.min(pause) }
    }

    /// Whether the next claim may follow at once after one that began at `start`, because the server has waited. If it
    /// answered a long poll at once, that would be a busy loop.
    #[must_use]
    pub(crate) fn was_held_open(&self, start: Instant) -> bool {
        matches!(self.server, Some(LongPollSupport::ClaimedType | LongPollSupport::AllTypes))
            && start.elapsed() >= SHORTEST
    }

    /// Whether the next claim may be a long poll, after one that began at `start` and, if `was_held`, was a long poll
    /// itself.
    pub(crate) fn may_long_poll(&self, start: Instant, was_held: bool) -> bool {
        self.server != Some(LongPollSupport::No) && (!was_held || start.elapsed() >= SHORTEST)
    }
}

/// Withdraws an open long poll, until `has_ended` within the given time. The server still answers it, with a task if it
/// has just claimed one; that is why the connection is not simply closed. Repeats the request, since the poll may not
/// have reached the server yet.
pub(crate) fn withdraw_claims(client: &Client, worker_id: &str, has_ended: impl Fn(Duration) -> bool) {
    let client = client.with_retries(Retries::NONE);
    let start = Instant::now();
    while !has_ended(WITHDRAW_EVERY) && start.elapsed() < WITHDRAW_FOR {
        // A TaskManager without long polling answers the claim itself soon enough.
        let _ = client.withdraw_claims(worker_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    #[test]
    fn a_server_that_waits_for_one_of_several_types_waits_until_the_others_are_due() {
        let mut several = LongPollPolicy::new(2);
        assert_eq!((LongPollPolicy::new(1).longest(PAUSE), several.longest(PAUSE)), (LONGEST, PAUSE));
        assert_eq!(several.longest(LONGEST * 3), LONGEST);
        several.note(LongPollSupport::ClaimedType);
        assert_eq!(several.longest(PAUSE), PAUSE);
        several.note(LongPollSupport::AllTypes);
        assert_eq!(several.longest(PAUSE), LONGEST);
    }

    #[test]
    fn a_server_that_ignores_long_polls_is_not_polled_in_a_tight_loop() {
        let mut one = LongPollPolicy::new(1);
        assert!(one.may_long_poll(Instant::now(), false) && !one.may_long_poll(Instant::now(), true));
        assert!(!one.was_held_open(Instant::now()));
        one.note(LongPollSupport::No);
        assert!(!one.may_long_poll(Instant::now(), false));
        assert!(!LongPollPolicy::never().may_long_poll(Instant::now(), false));
    }
}
