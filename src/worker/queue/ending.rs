//! What the worker's main thread waits for: that nothing more is claimed, and then that all ends.

use std::time::{Duration, Instant};

use super::terms::{Closed, Watch};
use super::{Queue, earliest, wait};

impl Queue {
    /// Whether nothing more is claimed.
    pub(in crate::worker) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Whether nothing more is claimed since all is done.
    pub(in crate::worker) fn is_done(&self) -> bool {
        self.lock().closed == Some(Closed::Done)
    }

    /// Takes a place for a task that is worked though nothing more is claimed.
    pub(in crate::worker) fn take_place(&self, index: usize) {
        self.lock().in_flight[index] += 1;
    }

    /// Waits until nothing more is claimed, and says why; `None` where that does not come within `limit`.
    pub(in crate::worker) fn wait_closed(&self, limit: Duration) -> Option<Closed> {
        let until = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while state.closed.is_none() && until.is_none_or(|until| Instant::now() < until) {
            wait(&self.ending, &mut state, until);
        }
        state.closed.clone()
    }

    /// Waits for up to `timeout` until no slot asks in such a way that the server may let it wait; true where none does.
    pub(in crate::worker) fn wait_not_waiting(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.watch == Watch::MayWait && Instant::now() < deadline {
            wait(&self.ending, &mut state, Some(deadline));
        }
        state.watch != Watch::MayWait
    }

    /// Notes whether reports do not get through, for too long.
    pub(in crate::worker) fn note_stuck(&self, stuck: bool) {
        let mut state = self.lock();
        state.stuck = stuck;
        self.tell(&state);
    }

    /// Waits until all results are reported, unless somebody asked the worker to end, or reports are stuck; false where
    /// none of this comes within `limit`.
    pub(in crate::worker) fn wait_reported(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.unreported > 0 && !state.stuck && state.asked_at.is_none() {
            if until <= Instant::now() {
                return false;
            }
            wait(&self.ending, &mut state, Some(until));
        }
        true
    }

    /// Waits until all slots have ended, or until `grace_period` has passed since somebody asked the worker to end;
    /// true where they have, `None` where neither comes within `limit`.
    pub(in crate::worker) fn wait_slots_ended(&self, grace_period: Option<Duration>, limit: Duration) -> Option<bool> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.slots > 0 {
            let asked = grace_period.zip(state.asked_at);
            let deadline = asked.and_then(|(grace_period, asked_at)| asked_at.checked_add(grace_period));
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Some(false);
            }
            if until <= Instant::now() {
                return None;
            }
            wait(&self.ending, &mut state, earliest(deadline, Some(until)));
        }
        Some(true)
    }
}
