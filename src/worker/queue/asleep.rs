//! Whether slots sleep that should ask.

use std::time::{Duration, Instant};

use super::Queue;

impl Queue {
    /// Whether it is longer than `slack` since a slot should have asked, slots have nothing else to do, and none asks.
    pub(in crate::worker) fn is_asleep(&self, slack: Duration) -> bool {
        let state = self.lock();
        let due = state.may_ask_at(&self.limits, &self.concurrency);
        let is_overdue = due.is_some_and(|due| due.max(state.last_active) + slack < Instant::now());
        state.closed.is_none() && state.asking == 0 && state.working() < state.slots && is_overdue
    }
}
