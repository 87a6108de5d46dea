//! While the slots work, the thread that waits for them keeps the results file from growing for ever.

use std::time::Duration;

use super::Worker;
use super::queue::Closed;
use crate::clock::{Moment, surely_past};
use crate::store::Pruning;

/// The pause between two steps while there is something to take out: the slots have the file for most of the time.
const BETWEEN_STEPS: Duration = Duration::from_millis(20);
/// How often it is looked whether there is.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Worker<'_> {
    /// Takes out old results, and what handlers need no more, in small steps until nothing more is claimed; says why that is.
    pub(super) fn keep_house(&self) -> Closed {
        // Where this fails, the next write that matters says so.
        let _ = self.executor.store.forget_ended(&self.process, self.executor.clock.now());
        let (start, mut pruning) = (self.executor.clock.moment(), None);
        loop {
            let next = self.prune(&mut pruning, start).min(self.prune_of_handlers()).min(self.pulse.every());
            self.beat();
            if let Some(closed) = self.queue.wait_closed(next) {
                return closed;
            }
        }
    }

    /// Takes out some old results, where there are any; returns when to come again.
    fn prune(&self, under_way: &mut Option<Pruning>, start: Moment) -> Duration {
        let keep = self.executor.config.keep_results.value;
        let before = surely_past(start, self.executor.clock.now()).checked_sub(keep);
        let (false, Ok(before)) = (keep.is_zero(), before) else { return Duration::MAX };
        let mut pruning = under_way.take().unwrap_or_else(|| Pruning::new(before));
        if self.executor.store.prune(&mut pruning) != Ok(true) {
            return LOOK_EVERY;
        }
        *under_way = Some(pruning);
        BETWEEN_STEPS
    }

    fn prune_of_handlers(&self) -> Duration {
        if self.handlers.prune() { BETWEEN_STEPS } else { LOOK_EVERY }
    }
}
