//! Tasks that are claimed again and again though nothing comes of it: one that is in flight here already, say, or whose
//! report the TaskManager does not take. Such claims are made ever more rarely, so that nobody is asked in a circle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Flow, PollSchedule};
use crate::task::TaskId;
use crate::taskmanager::Backoff;

/// So often a task may be claimed in vain before that is odd: a failed one is handed out a few times, and claims expire.
const FREE: u32 = 5;
/// So many tasks are remembered. Where there are more of them, it is not one that comes again and again.
const MOST_TASKS: usize = 1000;
/// The first pause; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Claims in vain since the last that was not.
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

    /// Counts one more. Returns how long nothing is to be claimed.
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
    /// Notes, whether something came of a task that was claimed by a poll begun at `start`.
    pub(in crate::worker) fn note_claim(&self, id: TaskId, is_in_vain: bool, start: Instant) {
        let mut state = self.lock();
        if !is_in_vain {
            return state.repeats.reset();
        }
        // Slots that asked at about the same time are one case.
        if start < state.paused_until {
            return;
        }
        let Some(until) = state.repeats.add(id).and_then(|pause| Instant::now().checked_add(pause)) else { return };
        state.paused_until = until;
        // One slot asks then, not all of them.
        (state.flow, state.called, state.next_poll) = (Flow::Empty, 0, until);
        self.tell(&state);
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
