//! When the worker is done by itself, and what its main thread waits for: that nothing more is claimed, and then that all
//! ends.

use std::time::{Duration, Instant};

use super::terms::{Closed, IdlePoll, Limits};
use super::{Breaker, PollSchedule, State, earliest, wait};
use crate::taskmanager::Retries;

impl State {
    /// Whether nothing runs, and no report is sent for the first time.
    fn is_at_rest(&self) -> bool {
        self.delivering == 0 && self.in_flight.iter().all(|in_flight| *in_flight == 0)
    }

    /// When the worker has been idle for too long. While the service behind a type is away it is not idle: tasks of the
    /// type may wait. Nor is it for a while if reports do not get through: failures among them go back to the queue.
    pub(super) fn idle_end(&self, limits: &Limits) -> Option<Instant> {
        let limit = limits.exit_after_idle.filter(|_| self.is_at_rest())?;
        let since = self.unreported_since.and_then(|since| since.checked_add(Retries::STANDARD.retry_after_budget));
        let end = self.last_active.checked_add(limit)?.max(since.unwrap_or(self.last_active));
        Some(self.breakers.iter().filter_map(Breaker::opens_until).fold(end, Instant::max))
    }

    pub(super) fn close_when_done(&mut self, limits: &Limits) {
        if limits.max_tasks > 0 && self.claimed >= limits.max_tasks {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// A poll that found nothing is the end of an idle worker, if it began when that had been idle for long enough.
    /// One that was not answered says nothing: the worker stays until one is.
    pub(super) fn close_when_idle(&mut self, limits: &Limits) {
        let end = self.idle_end(limits).filter(|_| self.asking == 0);
        if end.is_some_and(|end| self.last_in_vain >= Some(end)) {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// A poll that found nothing is the end of a drain, if nothing can come back to the queue any more. Another may
    /// have begun before it, and end after it.
    pub(super) fn close_when_drained(&mut self, limits: &Limits) {
        let quiet = self.asking == 0 && self.unreported == 0 && self.is_at_rest();
        if limits.drain && quiet && self.nothing_left_after == Some(self.finished) {
            self.closed.get_or_insert(Closed::Done);
        }
    }
}

impl PollSchedule {
    /// Whether nothing more is claimed.
    pub(in crate::worker) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Whether nothing more is claimed since all is done.
    pub(in crate::worker) fn is_done(&self) -> bool {
        self.lock().closed == Some(Closed::Done)
    }

    /// Counts a task that is run though nothing more is claimed.
    pub(in crate::worker) fn enter(&self, index: usize) {
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
    pub(in crate::worker) fn wait_not_held(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.idle_poll == IdlePoll::Held && Instant::now() < deadline {
            wait(&self.ending, &mut state, Some(deadline));
        }
        state.idle_poll != IdlePoll::Held
    }

    /// Notes whether reports do not get through, for too long.
    pub(in crate::worker) fn note_stuck(&self, stuck: bool) {
        let mut state = self.lock();
        state.stuck = stuck;
        self.tell(&state);
    }

    /// Waits until the first report of each stored result is settled or postponed; false if that does not come within
    /// `limit`.
    pub(in crate::worker) fn wait_delivered(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.delivering > 0 && Instant::now() < until {
            wait(&self.ending, &mut state, Some(until));
        }
        state.delivering == 0
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

    /// Whether it is longer than `slack` since a slot should have asked, slots have nothing else to do, and none asks.
    pub(in crate::worker) fn is_stalled(&self, slack: Duration) -> bool {
        let state = self.lock();
        let due = self.may_ask_at(&state);
        let is_overdue = due.is_some_and(|due| due.max(state.last_active) + slack < Instant::now());
        state.closed.is_none() && state.asking == 0 && state.working() < state.slots && is_overdue
    }
}
