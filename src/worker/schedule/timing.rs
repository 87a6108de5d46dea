//! When to poll next.

use std::time::{Duration, Instant};

use super::{Flow, PollPermit, PollSchedule, SPREAD, State, earliest};

impl PollSchedule {
    /// Notes that a type that is not claimed now may be claimed in `time`, and polls then at the latest. Each poll
    /// notes it anew, so that a time that passes during a poll is not forgotten.
    pub(in crate::worker) fn note_due(&self, time: Duration) {
        let mut state = self.lock();
        state.due = earliest(state.due, Instant::now().checked_add(time));
        let next_poll = state.until_due(state.next_poll).max(state.paused_until);
        if next_poll < state.next_poll {
            state.next_poll = next_poll;
            self.notify(&state);
        }
    }
}

impl State {
    /// Returns `time`, or the time at which a type is due if that is earlier.
    pub(super) fn until_due(&self, time: Instant) -> Instant {
        self.due.map_or(time, |due| due.min(time))
    }
}

impl State {
    /// Sets the time of the next poll, once for all polls that found nothing at about the same time.
    pub(super) fn schedule(&mut self, permit: &PollPermit, pause: Option<Duration>) {
        let now = Instant::now();
        if let Some(asked) = pause {
            let until = self.pause(permit, asked);
            (self.next_poll, self.flow) = (until, Flow::Empty);
        } else if permit.is_idle || self.flow != Flow::Empty {
            self.flow = Flow::Empty;
            let wait = self.backoff.jittered();
            self.next_poll = if self.may_wait_at_server(permit) { now } else { self.until_due(now + wait) };
        }
    }

    /// Stops all polls for the `asked` time. Returns when they may continue.
    fn pause(&mut self, permit: &PollPermit, asked: Duration) -> Instant {
        let now = Instant::now();
        // Polls that began at about the same time and were refused count as one refusal.
        let is_refused_again = permit.start >= self.paused_until;
        let least = if is_refused_again { self.pauses.jittered() } else { Duration::ZERO };
        let pause = asked.max(least).saturating_add(SPREAD.mul_f64(fastrand::f64()));
        self.paused_until = now.checked_add(pause).unwrap_or(now).max(self.paused_until);
        self.paused_until
    }
}
