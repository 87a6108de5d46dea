//! When the worker is done, and what the main thread waits for: until the schedule is closed, and then until everything
//! has ended.

use std::time::{Duration, Instant};

use super::messages::{Closed, ExitLimits, Flow, IdlePoll};
use super::{Breaker, PollSchedule, ScheduleState, earliest, wait};
use crate::taskmanager::Retries;

impl ScheduleState {
    /// Whether no task runs and no first report is pending.
    pub(super) fn is_at_rest(&self) -> bool {
        self.first_reports_pending == 0 && self.occupied.iter().all(|occupied| *occupied == 0)
    }

    /// Returns when the worker will have been idle for too long. An open circuit is not idle: tasks of its type may be
    /// waiting. Nor, for a while, are failing reports: failures among them return tasks to the queue.
    pub(super) fn idle_end(&self, limits: &ExitLimits) -> Option<Instant> {
        let limit = limits.exit_after_idle.filter(|_| self.is_at_rest())?;
        let since = self.unreported_since.and_then(|since| since.checked_add(Retries::STANDARD.retry_after_budget));
        let end = self.last_active.checked_add(limit)?.max(since.unwrap_or(self.last_active));
        Some(self.breakers.iter().filter_map(Breaker::opens_until).fold(end, Instant::max))
    }

    pub(super) fn close_when_done(&mut self, limits: &ExitLimits) {
        if limits.max_tasks > 0 && self.claimed >= limits.max_tasks {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// Closes the schedule after a poll that found nothing, if the worker had been idle for long enough when the poll
    /// began. A failed poll says nothing: the worker stays until one is answered.
    pub(super) fn close_when_idle(&mut self, limits: &ExitLimits) {
        let end = self.idle_end(limits).filter(|_| self.polling == 0);
        if end.is_some_and(|end| self.last_empty_poll >= Some(end)) {
            self.closed.get_or_insert(Closed::Done);
        }
    }

    /// Closes the schedule of a drain after a poll that found nothing, if no task can return to the queue any more.
    /// Another poll may have begun before it, and end after it.
    pub(super) fn close_when_drained(&mut self, limits: &ExitLimits) {
        let quiet = self.polling == 0 && self.unreported == 0 && self.is_at_rest();
        if limits.drain && quiet && self.nothing_left_after == Some(self.finished) {
            self.closed.get_or_insert(Closed::Done);
        }
    }
}

impl PollSchedule {
    /// Notes that the first report of a stored result is settled or postponed, and whether the task `may_be_back` in
    /// the queue.
    pub(in crate::worker) fn first_report_done(&self, may_be_back: bool) {
        let mut state = self.lock();
        let was_held_up = state.first_reports_pending >= self.most_first_reports(&state);
        state.first_reports_pending -= 1;
        state.last_active = Instant::now();
        if may_be_back {
            state.finished += 1;
            if self.limits.drain {
                (state.flow, state.called) = (Flow::Tasks, state.called.max(1));
            }
        }
        state.close_when_drained(&self.limits);
        // Most reports change nothing for the slots: waking all of them would be costly.
        if may_be_back || was_held_up {
            self.notify(&state);
        } else {
            self.notify_if_ending(&state);
        }
    }

    /// Notes the number of unreported results, counted under the lock so that the latest count wins.
    pub(in crate::worker) fn note_unreported(&self, count: impl FnOnce() -> usize) {
        let mut state = self.lock();
        let unreported = count();
        let now = Instant::now();
        // A failure that has only now arrived returns the task to the queue.
        if unreported < state.unreported {
            state.last_active = now;
            if self.limits.drain {
                (state.flow, state.called, state.finished) = (Flow::Tasks, 1, state.finished + 1);
            }
        }
        state.unreported = unreported;
        state.unreported_since = (unreported > 0).then(|| state.unreported_since.unwrap_or(now));
        self.notify(&state);
    }

    /// Whether the schedule is closed.
    pub(in crate::worker) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Whether the worker ends by itself: everything is done, or its reports have failed for too long. Claims may be
    /// answered although reports are not.
    pub(in crate::worker) fn ends_by_itself(&self) -> bool {
        matches!(self.lock().closed, Some(Closed::Done | Closed::GaveUp))
    }

    /// Counts a task that runs although the schedule is closed.
    pub(in crate::worker) fn enter(&self, index: usize) {
        self.lock().occupied[index] += 1;
    }

    /// Waits until the schedule is closed, and returns why; `None` if that takes longer than `limit`.
    pub(in crate::worker) fn wait_closed(&self, limit: Duration) -> Option<Closed> {
        let until = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while state.closed.is_none() && until.is_none_or(|until| Instant::now() < until) {
            wait(&self.ending, &mut state, until);
        }
        state.closed
    }

    /// Waits for up to `timeout` until no long poll is open; true if none is.
    pub(in crate::worker) fn wait_long_poll_ended(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.idle_poll == IdlePoll::LongPoll && Instant::now() < deadline {
            wait(&self.ending, &mut state, Some(deadline));
        }
        state.idle_poll != IdlePoll::LongPoll
    }

    /// Notes whether reports have failed for too long.
    pub(in crate::worker) fn note_reports_failing(&self, reports_failing: bool) {
        let mut state = self.lock();
        state.reports_failing = reports_failing;
        self.notify(&state);
    }

    /// Waits until the first report of each stored result is settled or postponed; false if that takes longer than
    /// `limit`.
    pub(in crate::worker) fn wait_first_reports(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.first_reports_pending > 0 && Instant::now() < until {
            wait(&self.ending, &mut state, Some(until));
        }
        state.first_reports_pending == 0
    }

    /// Waits until all results are reported, the worker is stopped, or reports have failed for too long; false if that
    /// takes longer than `limit`.
    pub(in crate::worker) fn wait_reported(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.unreported > 0 && !state.reports_failing && state.asked_at.is_none() {
            if until <= Instant::now() {
                return false;
            }
            wait(&self.ending, &mut state, Some(until));
        }
        true
    }

    /// Waits until all slots have ended, or until `grace_period` has passed since the worker was stopped. True if all
    /// have ended; `None` if neither happens within `limit`.
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

    /// Whether a poll should have begun more than `slack` ago although slots are free.
    pub(in crate::worker) fn is_hung(&self, slack: Duration) -> bool {
        let state = self.lock();
        let due = self.may_poll_at(&state);
        let is_late = due.is_some_and(|due| due.max(state.last_active) + slack < Instant::now());
        state.closed.is_none() && state.polling == 0 && state.working() < state.slots && is_late
    }
}
