//! When a type that is not claimed for a while may be claimed again.

use std::time::{Duration, Instant};

use super::{Queue, State, earliest};

impl Queue {
    /// Notes that a type that is not claimed now may be in `time`. The watch looks then, if not before. Each turn notes
    /// it anew, so that a time that passes during a turn is not forgotten.
    pub(in crate::worker) fn note_due(&self, time: Duration) {
        let mut state = self.lock();
        state.due = earliest(state.due, Instant::now().checked_add(time));
        let next_poll = state.until_due(state.next_poll).max(state.paused_until);
        if next_poll < state.next_poll {
            state.next_poll = next_poll;
            self.tell(&state);
        }
    }
}

impl State {
    /// `time`, or before that the time when a type is due.
    pub(super) fn until_due(&self, time: Instant) -> Instant {
        self.due.map_or(time, |due| due.min(time))
    }
}
