//! What slots leave to each other: claimed tasks, results to store, and the room of tasks that have ended.

use std::time::Instant;

use super::super::breaker::{CircuitChange, Verdict};
use super::messages::{Flow, IdlePoll, NextStep};
use super::{PollSchedule, ScheduleState};

impl PollSchedule {
    /// Wakes one waiting slot if there is something to do for it. Before that slot begins, it wakes the next.
    pub(super) fn wake_next(&self, state: &mut ScheduleState) {
        if state.woken == 0 && state.waiting > 0 && self.has_work(state) {
            state.woken = usize::from(self.changed.notify_one());
        }
    }

    /// Whether one of the waiting slots has something to do.
    pub(super) fn has_work(&self, state: &ScheduleState) -> bool {
        if state.to_store > 0 || !state.handed.is_empty() {
            return true;
        }
        let due = self.may_poll_at(state).filter(|_| state.waiting > state.engaged());
        match state.flow {
            Flow::Tasks => state.may_poll_next(false, false) && due.is_some_and(|due| due <= Instant::now()),
            Flow::Unknown | Flow::Empty => state.idle_poll == IdlePoll::Nobody && due.is_some(),
        }
    }

    /// Notes that a slot leaves its result to the one that stores, and is free for what others have claimed.
    pub(in crate::worker) fn set_aside(&self) {
        self.lock().set_aside += 1;
    }

    /// Notes that `count` results could not be stored together, `set_aside` of them of other slots.
    pub(in crate::worker) fn hand_back(&self, count: usize, set_aside: usize) {
        let mut state = self.lock();
        state.set_aside = state.set_aside.saturating_sub(set_aside);
        state.to_store += count;
        self.notify(&state);
    }

    /// Notes that a task has finished running, and its verdict on the type's service. If its result `is_stored`, its
    /// first report is pending until [`PollSchedule::first_report_done`].
    pub(in crate::worker) fn finish_run(
        &self,
        index: usize,
        verdict: Verdict,
        is_stored: bool,
    ) -> Option<CircuitChange> {
        let mut state = self.lock();
        let change = self.finish(&mut state, index, verdict, is_stored);
        self.notify_if_ending(&state);
        change
    }

    /// Notes that the results of several tasks are stored, `set_aside` of them of other slots. Returns the changes of
    /// circuits, by type.
    pub(in crate::worker) fn finish_runs(
        &self,
        runs: &[(usize, Verdict)],
        set_aside: usize,
    ) -> Vec<(usize, CircuitChange)> {
        let mut state = self.lock();
        let finish = |(index, verdict): &(usize, Verdict)| {
            self.finish(&mut state, *index, *verdict, true).map(|change| (*index, change))
        };
        let changes = runs.iter().filter_map(finish).collect();
        state.set_aside = state.set_aside.saturating_sub(set_aside);
        // Otherwise the caller polls itself: it has no more to store.
        if !self.notify_if_ending(&state) && state.set_aside > 0 {
            self.wake_next(&mut state);
        }
        changes
    }

    fn finish(
        &self,
        state: &mut ScheduleState,
        index: usize,
        verdict: Verdict,
        is_stored: bool,
    ) -> Option<CircuitChange> {
        // If the type was full, or the task may have created another, there may be more to claim.
        if state.occupied[index] == self.concurrency[index] || self.limits.drain {
            state.flow = Flow::Tasks;
        }
        state.occupied[index] -= 1;
        state.first_reports_pending += usize::from(is_stored);
        state.finished += 1;
        state.last_active = Instant::now();
        state.breakers[index].record(verdict, state.last_active)
    }

    /// Wakes all if the worker is about to exit, or will be once it has been idle for long enough: to wake all for each
    /// task would be costly. True if it did.
    pub(super) fn notify_if_ending(&self, state: &ScheduleState) -> bool {
        let is_ending = state.closed.is_some() || self.limits.exit_after_idle.is_some() && state.is_at_rest();
        if is_ending {
            self.notify(state);
        }
        is_ending
    }
}

impl ScheduleState {
    /// Returns how many of the waiting slots are not free: something is left to them, or a poll may bring them a task,
    /// or their results are not stored yet.
    pub(super) fn engaged(&self) -> usize {
        self.promised + self.handed.len() + self.to_store + self.set_aside
    }

    /// Takes what another slot has left to do.
    pub(super) fn take_work(&mut self) -> Option<NextStep> {
        if self.to_store > 0 {
            self.to_store -= 1;
            return Some(NextStep::Store);
        }
        self.handed.pop_front().map(NextStep::Run)
    }
}
