//! When the worker is done by itself.

use std::time::Instant;

use super::terms::{Closed, Limits};
use super::{Breaker, State};
use crate::taskmanager::Retries;

impl State {
    /// When the worker has been idle for too long. While the service behind a type is away it is not idle: tasks of the
    /// type may wait. Nor is it for a while if reports do not get through: failures among them go back to the queue.
    pub(super) fn idle_end(&self, limits: &Limits) -> Option<Instant> {
        let limit = limits.exit_after_idle.filter(|_| self.in_flight.iter().all(|in_flight| *in_flight == 0))?;
        let since = self.unreported_since.and_then(|since| since.checked_add(Retries::STANDARD.patience));
        let end = self.last_active.checked_add(limit)?.max(since.unwrap_or(self.last_active));
        Some(self.breakers.iter().filter_map(Breaker::opens_until).fold(end, Instant::max))
    }

    pub(super) fn close_when_done(&mut self, limits: &Limits) {
        if limits.max_tasks > 0 && self.claimed >= limits.max_tasks {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// A sweep that found nothing is the end of an idle worker, where it began when that had been idle for long enough.
    /// One that was not answered says nothing: the worker stays until one is.
    pub(super) fn close_when_idle(&mut self, limits: &Limits) {
        let end = self.idle_end(limits).filter(|_| self.asking == 0);
        if end.is_some_and(|end| self.last_in_vain >= Some(end)) {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// A sweep that found nothing is the end of a drain, where nothing can come back to the queue any more. Another may
    /// have begun before it, and end after it.
    pub(super) fn close_when_drained(&mut self, limits: &Limits) {
        let quiet = self.asking == 0 && self.unreported == 0 && self.in_flight.iter().all(|count| *count == 0);
        if limits.drain && quiet && self.nothing_left_after == Some(self.finished) {
            self.closed.get_or_insert(Closed::Done);
        }
    }
}
