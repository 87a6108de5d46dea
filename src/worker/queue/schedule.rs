//! When it is asked for tasks again.

use std::time::{Duration, Instant};

use super::{Flow, SPREAD, State, Turn};

impl State {
    /// Sets the time of the next poll, once for all slots that found nothing at about the same time.
    pub(super) fn schedule(&mut self, turn: &Turn, pause: Option<Duration>) {
        let now = Instant::now();
        if let Some(asked) = pause {
            let until = self.pause(turn, asked);
            (self.next_poll, self.flow) = (until, Flow::Dry);
        } else if turn.on_watch || self.flow != Flow::Dry {
            self.flow = Flow::Dry;
            let wait = self.backoff.jittered();
            self.next_poll = if self.may_wait_at_server(turn) { now } else { self.until_due(now + wait) };
        }
    }

    /// Has no slot ask for a task before the time `asked` for is over. Returns when they may.
    fn pause(&mut self, turn: &Turn, asked: Duration) -> Instant {
        let now = Instant::now();
        // Slots that asked at about the same time were refused together: that is one refusal.
        let is_refused_again = turn.start >= self.paused_until;
        let least = if is_refused_again { self.pauses.jittered() } else { Duration::ZERO };
        let pause = asked.max(least).saturating_add(SPREAD.mul_f64(fastrand::f64()));
        self.paused_until = now.checked_add(pause).unwrap_or(now).max(self.paused_until);
        self.paused_until
    }
}
