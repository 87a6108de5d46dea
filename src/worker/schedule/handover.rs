//! What slots leave to each other: claimed tasks, results to store, and the room of tasks that have ended.

use std::time::Instant;

use super::super::breaker::{CircuitChange, Verdict};
use super::messages::{Flow, IdlePoll, NextStep, RanTask};
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
        if !state.returned.is_empty() || !state.handed.is_empty() || state.can_store() {
            return true;
        }
        let due = self.may_poll_at(state);
        match state.flow {
            Flow::Tasks => state.may_poll_next(false, false) && due.is_some_and(|due| due <= Instant::now()),
            Flow::Unknown | Flow::Empty => state.idle_poll == IdlePoll::Nobody && due.is_some(),
        }
    }

    /// Leaves a result to the slot that stores: the caller, unless there is a claimed task or another slot stores.
    pub(in crate::worker) fn set_aside(&self, ran: RanTask) {
        self.lock().ran.push(ran);
    }

    /// Returns results that could not be stored together.
    pub(in crate::worker) fn hand_back(&self, ran: Vec<RanTask>) {
        let mut state = self.lock();
        state.storing = 0;
        state.returned.extend(ran);
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

    /// Notes that tasks have finished running, with their types and verdicts, and that their results are stored. Returns
    /// the changes of circuits, by type.
    pub(in crate::worker) fn finish_runs(&self, runs: &[(usize, Verdict)]) -> Vec<(usize, CircuitChange)> {
        self.finish_all(&mut self.lock(), runs)
    }

    /// Notes that gathered results are stored, with their types and verdicts; none if they could not be. Returns the
    /// changes of circuits, by type.
    pub(in crate::worker) fn finish_stored(&self, runs: &[(usize, Verdict)]) -> Vec<(usize, CircuitChange)> {
        let mut state = self.lock();
        state.storing = 0;
        self.finish_all(&mut state, runs)
    }

    fn finish_all(&self, state: &mut ScheduleState, runs: &[(usize, Verdict)]) -> Vec<(usize, CircuitChange)> {
        let finish = |(index, verdict): &(usize, Verdict)| {
            self.finish(state, *index, *verdict, true).map(|change| (*index, change))
        };
        let changes = runs.iter().filter_map(finish).collect();
        // Otherwise the caller does what is next.
        self.notify_if_ending(state);
        changes
    }

    fn finish(
        &self,
        state: &mut ScheduleState,
        index: usize,
        verdict: Verdict,
        is_stored: bool,
    ) -> Option<CircuitChange> {
        // If there was no room, or the task may have created another, there may be more to claim.
        let was_full = state.occupied[index] >= self.concurrency[index] || state.working() >= state.slots;
        if was_full || self.limits.drain {
            state.flow = Flow::Tasks;
        }
        if verdict != Verdict::Works {
            state.ahead.reset();
        }
        state.occupied[index] -= 1;
        state.first_reports_pending += usize::from(is_stored);
        state.finished += 1;
        state.last_active = Instant::now();
        state.breakers[index].record(verdict, state.last_active)
    }

    /// Wakes all if the worker is about to exit, or will be once it has been idle for long enough: to wake all for each
    /// task would be costly.
    pub(super) fn notify_if_ending(&self, state: &ScheduleState) {
        if state.closed.is_some() || self.limits.exit_after_idle.is_some() && state.is_at_rest() {
            self.notify(state);
        }
    }
}

impl ScheduleState {
    /// Returns how many of the waiting slots are not free: something is left to them, or a poll may bring them a task,
    /// or their results are not stored yet. The slot that stores does not wait.
    pub(super) fn engaged(&self) -> usize {
        let unstored = self.ran.len() + self.storing - usize::from(self.storing > 0);
        self.promised + self.handed.len() + self.returned.len() + unstored
    }

    fn can_store(&self) -> bool {
        self.storing == 0 && !self.ran.is_empty()
    }

    /// Takes what another slot has left to do, or what has gathered.
    pub(super) fn take_work(&mut self) -> Option<NextStep> {
        if let Some(ran) = self.returned.pop() {
            return Some(NextStep::Store(Box::new(ran)));
        }
        // Nobody else could store if this slot ran a task that takes long.
        let must_store = self.can_store() && self.waiting == 0;
        if !must_store && let Some(task) = self.handed.pop_front() {
            return Some(NextStep::Run(task));
        }
        if !self.can_store() {
            return None;
        }
        self.storing = self.ran.len();
        Some(NextStep::StoreAll(std::mem::take(&mut self.ran)))
    }
}
