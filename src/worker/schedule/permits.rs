//! Who may poll, and for how many tasks, and what a poll changes.

use std::time::{Duration, Instant};

use super::messages::{Flow, IdlePoll};
use super::{CALLED_BY_A_TASK, ClaimedTask, ExitLimits, PollPermit, PollSchedule, Polled, ScheduleState};

impl ScheduleState {
    /// Returns how many tasks may still be asked for, at most `usize::MAX`.
    pub(super) fn left_to_claim(&self, limits: &ExitLimits) -> usize {
        let asked_for = self.asked_for as u64;
        match limits.max_tasks {
            0 => usize::MAX,
            most => usize::try_from(most.saturating_sub(self.claimed + asked_for)).unwrap_or(usize::MAX),
        }
    }

    /// Whether one call may claim several tasks.
    pub(super) fn is_batch(&self) -> bool {
        self.most_per_call > 1
    }

    /// Whether a slot is the one to poll next. `fresh`: it has just become free.
    pub(super) fn may_poll_next(&self, fresh: bool, is_idle: bool) -> bool {
        // One that waits at the server is no reason not to ask for what there is room for since.
        let in_call = self.polling - usize::from(self.idle_poll == IdlePoll::LongPoll);
        let called = match self.flow {
            Flow::Tasks => self.is_batch() || fresh || self.called > 0,
            Flow::Unknown | Flow::Empty => is_idle,
        };
        called && !(self.alone && self.polling > 0) && !(self.is_batch() && in_call > 0)
    }

    /// Hands claimed tasks to the slot that polled and to those that wait.
    pub(super) fn take_over(
        &mut self,
        permit: &PollPermit,
        tasks: Vec<ClaimedTask>,
        limits: &ExitLimits,
    ) -> Option<ClaimedTask> {
        let (count, is_recovered) = (tasks.len(), tasks.iter().any(|task| task.is_recovered));
        for task in &tasks {
            self.claimed += 1;
            self.reserved[task.index] -= 1;
            self.first = (task.index + 1) % self.reserved.len();
        }
        self.last_active = Instant::now();
        self.backoff.reset();
        if permit.is_batch && count == permit.limit && permit.wait.is_zero() {
            self.ahead.note_full(self.last_active - permit.start, self.last_active, count);
        } else {
            self.ahead.reset();
        }
        let was_all = permit.is_batch && count < permit.limit && !is_recovered;
        if was_all && limits.runs_until_stopped() && self.long_poll.is_for_any() {
            // There are no more: the next poll waits for some.
            (self.flow, self.next_poll) = (Flow::Empty, Instant::now());
        } else {
            (self.flow, self.called) = (Flow::Tasks, CALLED_BY_A_TASK);
        }
        let mut tasks = tasks.into_iter();
        let own = tasks.next();
        self.handed.extend(tasks);
        own
    }

    /// Decides when to poll next after a poll without a task.
    pub(super) fn found_nothing(&mut self, permit: &PollPermit, polled: &Polled) {
        let types = self.reserved.len();
        self.ahead.reset();
        match *polled {
            // A task that ended meanwhile has made room, or has returned to the queue: poll again.
            Polled::Empty { .. } if permit.finished_before != self.finished => {}
            // A drain must know of all types that they are empty: poll again.
            Polled::Partial if self.alone => {}
            Polled::Tasks(_) | Polled::Partial | Polled::Empty { .. } => {
                // Rotate the types: only the last is long-polled.
                self.first = (permit.first + 1) % types;
                self.schedule(permit, None);
                self.last_empty_poll = self.last_empty_poll.max(Some(permit.start));
                if matches!(polled, Polled::Empty { left_out: false }) {
                    self.nothing_left_after = Some(permit.finished_before);
                }
            }
            // The next types come first next time: their claims may succeed.
            Polled::Failed { index, pause } => {
                self.first = (index + 1) % types;
                self.nothing_left_after = None;
                self.schedule(permit, pause);
            }
        }
    }

    pub(super) fn permit(&mut self, is_idle: bool, limits: &ExitLimits) -> PollPermit {
        let start = Instant::now();
        let others = if self.is_batch() { self.waiting.saturating_sub(self.engaged()) } else { 0 };
        let free = self.slots.saturating_sub(self.working());
        self.ahead.begin(start, self.most_ahead);
        let startable = (1 + others).min(free);
        let limit = (startable + self.ahead.tasks()).min(self.left_to_claim(limits)).clamp(1, self.most_per_call);
        let promised = others.min(limit - 1);
        self.polling += 1;
        self.asked_for += limit;
        self.promised += promised;
        self.due = None;
        self.last_poll_began = Some(start);
        let may_wait = is_idle && limits.runs_until_stopped() && !self.last_poll_failed;
        let wait = if may_wait { self.long_poll.longest(self.backoff.clone().grow()) } else { Duration::ZERO };
        if !wait.is_zero() {
            self.idle_poll = IdlePoll::LongPoll;
        }
        let (first, is_batch, finished_before) = (self.first, self.is_batch(), self.finished);
        PollPermit { first, wait, limit, is_batch, start, is_idle, promised, finished_before }
    }

    /// Whether the next poll may be a long poll, after one without a task. Not if the server failed, or answered the
    /// last long poll at once: that would be a busy loop.
    pub(super) fn may_wait_at_server(&self, permit: &PollPermit) -> bool {
        !self.last_poll_failed && self.long_poll.may_long_poll(permit.start, !permit.wait.is_zero())
    }
}

/// Room reserved in the schedule: indexes of types, each with a number of tasks. Dropping it releases what was not used.
pub(in crate::worker) struct Reserved<'a> {
    pub(in crate::worker) schedule: &'a PollSchedule,
    pub(in crate::worker) types: Vec<(usize, usize)>,
}

impl Reserved<'_> {
    /// Returns the indexes of the types with room.
    pub(in crate::worker) fn types(&self) -> impl Iterator<Item = usize> + Clone {
        self.types.iter().filter(|(_, count)| *count > 0).map(|(index, _)| *index)
    }

    /// Releases the last reservation.
    pub(in crate::worker) fn release_last(&mut self) {
        if let Some((index, count)) = self.types.pop().filter(|(_, count)| *count > 0) {
            self.schedule.release(index, count);
        }
    }

    /// Uses up the room for one task of this type.
    pub(in crate::worker) fn use_up(&mut self, index: usize) {
        let room = self.types.iter_mut().find(|(reserved, count)| *reserved == index && *count > 0);
        if let Some((_, count)) = room {
            *count -= 1;
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let unused = self.types.iter().filter(|(_, count)| *count > 0);
        unused.for_each(|(index, count)| self.schedule.release(*index, *count));
    }
}
