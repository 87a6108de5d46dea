//! How many tasks to claim beyond those for free slots, so that slots do not wait for calls that take longer than the
//! tasks.

use std::time::{Duration, Instant};

/// Claimed tasks should not wait longer for a slot than this many calls, or this long. Others could run them.
const LONGEST_IN_CALLS: u32 = 2;
const LONGEST: Duration = Duration::from_millis(500);
/// If they have waited this many times longer, tasks take longer now, and calls ask only for those that can start.
const RESET_AFTER: u32 = 2;

/// A call that brought as many tasks as it asked for.
struct FullBatch {
    took: Duration,
    answered: Instant,
    tasks: usize,
}

/// Grows as long as the queue has more tasks than a call asks for and slots run them sooner than the next call is
/// answered. It starts again with none if a task fails, or if there are no more tasks: the next may take longer.
#[derive(Default)]
pub(super) struct ClaimAhead {
    tasks: usize,
    last: Option<FullBatch>,
}

impl ClaimAhead {
    /// Returns how many tasks there may be without a slot.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Begins the next call, when all tasks of the last have a slot. At most `most` tasks are claimed ahead.
    pub(super) fn begin(&mut self, now: Instant, most: usize) {
        if let Some(batch) = self.last.take() {
            let waited = now.saturating_duration_since(batch.answered);
            let longest = (LONGEST_IN_CALLS * batch.took).min(LONGEST);
            if waited <= longest {
                self.tasks = batch.tasks.max(2 * self.tasks);
            } else if waited > RESET_AFTER * longest {
                self.tasks = 0;
            }
        }
        self.tasks = self.tasks.min(most);
    }

    /// Notes a call that has brought as many `tasks` as it asked for, without waiting for them.
    pub(super) fn note_full(&mut self, took: Duration, answered: Instant, tasks: usize) {
        self.last = Some(FullBatch { took, answered, tasks });
    }

    /// Claims none ahead for now.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many tasks are claimed ahead after a call of `took` ms whose tasks waited `waited` ms for a slot.
    fn after(ahead: &mut ClaimAhead, took: u64, waited: u64) -> usize {
        let answered = Instant::now();
        ahead.note_full(Duration::from_millis(took), answered, 16 + ahead.tasks());
        ahead.begin(answered + Duration::from_millis(waited), 84);
        ahead.tasks()
    }

    #[test]
    fn short_tasks_are_claimed_ahead_of_slow_calls() {
        let mut ahead = ClaimAhead::default();
        assert_eq!([1, 2, 40, 3].map(|waited| after(&mut ahead, 20, waited)), [16, 32, 64, 84]);
        // Neither too long nor much shorter than the calls.
        assert_eq!(after(&mut ahead, 20, 50), 84);
        ahead.reset();
        assert_eq!(ahead.tasks(), 0);
    }

    #[test]
    fn tasks_that_take_longer_are_not() {
        let mut ahead = ClaimAhead::default();
        assert_eq!(after(&mut ahead, 20, 60), 0);
        assert_eq!(after(&mut ahead, 20, 1), 16);
        assert_eq!(after(&mut ahead, 20, 81), 0);
        // However long a call takes.
        assert_eq!([400, 600, 1100].map(|waited| after(&mut ahead, 10_000, waited)), [16, 16, 0]);
        // A server that has no renewals.
        let answered = Instant::now();
        ahead.note_full(Duration::from_millis(20), answered, 16);
        ahead.begin(answered, 0);
        assert_eq!(ahead.tasks(), 0);
    }
}
