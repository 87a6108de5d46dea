//! When to poll next, and pauses between polls. Claims slow down if useless ones repeat: of a task that is in
//! flight here already, for example, or whose report the TaskManager refuses.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Flow, PollPermit, PollSchedule, SPREAD, ScheduleState, earliest};
use crate::task::TaskId;
use crate::taskmanager::Backoff;

/// Useless claims that are allowed for a task: failed tasks are retried a few times, and claims expire.
const FREE: u32 = 5;
/// Number of tasks to remember. If there are more, it is not one task that keeps coming back.
const MOST_TASKS: usize = 1000;
/// First pause; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Useless claims since the last useful one.
pub(super) struct RepeatedClaims {
    counts: HashMap<TaskId, u32>,
    pauses: Backoff,
}

impl RepeatedClaims {
    pub(super) fn new() -> Self {
        Self { counts: HashMap::new(), pauses: Backoff::new(FIRST, 2.0, LONGEST) }
    }

    fn reset(&mut self) {
        self.counts.clear();
        self.pauses.reset();
    }

    /// Counts a useless claim. Returns how long to claim nothing.
    fn add(&mut self, id: TaskId) -> Option<Duration> {
        if self.counts.len() >= MOST_TASKS && !self.counts.contains_key(&id) {
            self.counts.clear();
        }
        let count = self.counts.entry(id).or_default();
        *count += 1;
        (*count > FREE).then(|| self.pauses.grow())
    }
}

impl PollSchedule {
    /// Notes whether the claim of a task, by a poll begun at `start`, was useless.
    pub(in crate::worker) fn note_claim(&self, id: TaskId, is_useless: bool, start: Instant) {
        let mut state = self.lock();
        if !is_useless {
            return state.repeats.reset();
        }
        // Polls that began at about the same time count once.
        if start < state.paused_until {
            return;
        }
        let Some(until) = state.repeats.add(id).and_then(|pause| Instant::now().checked_add(pause)) else { return };
        state.paused_until = until;
        // Then one slot polls, not all of them.
        (state.flow, state.called, state.next_poll) = (Flow::Empty, 0, until);
        self.notify(&state);
    }
}

impl PollSchedule {
    /// Notes that a type that is not claimed now may be claimed in `time`, and polls then at the latest. Each poll
    /// notes it anew, so that a time that passes during a poll is not forgotten.
    pub(in crate::worker) fn note_due(&self, time: Duration) {
        let mut state = self.lock();
        state.due = earliest(state.due, Instant::now().checked_add(time));
        let next_poll = state.until_due(state.next_poll).max(state.paused_until);
        if next_poll < state.next_poll {
            state.next_poll = next_poll;
            self.notify(&state);
        }
    }
}

impl ScheduleState {
    /// Returns `time`, or the time at which a type is due if that is earlier.
    pub(super) fn until_due(&self, time: Instant) -> Instant {
        self.due.map_or(time, |due| due.min(time))
    }

    /// Sets the time of the next poll, once for all polls that found nothing at about the same time.
    pub(super) fn schedule(&mut self, permit: &PollPermit, pause: Option<Duration>) {
        let now = Instant::now();
        if let Some(asked) = pause {
            let until = self.pause(permit, asked);
            (self.next_poll, self.flow) = (until, Flow::Empty);
        } else if permit.is_idle || self.flow != Flow::Empty {
            self.flow = Flow::Empty;
            let wait = self.backoff.jittered();
            self.next_poll = if self.may_wait_at_server(permit) { now } else { self.until_due(now + wait) };
        }
    }

    /// Stops all polls for the `asked` time. Returns when they may continue.
    fn pause(&mut self, permit: &PollPermit, asked: Duration) -> Instant {
        let now = Instant::now();
        // Polls that began at about the same time and were refused count as one refusal.
        let is_refused_again = permit.start >= self.paused_until;
        let least = if is_refused_again { self.pauses.jittered() } else { Duration::ZERO };
        let pause = asked.max(least).saturating_add(SPREAD.mul_f64(fastrand::f64()));
        self.paused_until = now.checked_add(pause).unwrap_or(now).max(self.paused_until);
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_where_a_task_comes_too_often_and_grow_to_a_few_seconds() {
        let mut repeats = RepeatedClaims::new();
        for round in 0..FREE {
            for id in 1..=20 {
                assert_eq!(repeats.add(TaskId(id)), None, "{round}");
            }
        }
        let pauses: Vec<u128> = (0..9).map(|_| repeats.add(TaskId(7)).unwrap().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        repeats.reset();
        assert_eq!(repeats.add(TaskId(7)), None);
    }

    #[test]
    fn many_tasks_are_no_circle_and_take_no_memory_without_end() {
        let mut repeats = RepeatedClaims::new();
        assert!((0..10 * MOST_TASKS as u64).all(|id| repeats.add(TaskId(id)).is_none()));
        assert!(repeats.counts.len() <= MOST_TASKS);
    }
}
