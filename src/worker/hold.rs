//! A type that is not claimed before a time that its handler has named.
//!
//! That is a time of day: the machine may sleep until then, or its clock be set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Event, Worker, WorkerType};
use crate::clock::{Timestamp, after, between};
use crate::task::Outcome;

/// The longest that an outcome keeps its type from being claimed: a slip of the handler's must not do so for ever.
const LONGEST: Duration = Duration::from_hours(24);
/// A drain waits for a hold that is over so soon.
const SOON: Duration = Duration::from_secs(60);

/// What keeps a type from being claimed.
#[derive(Default)]
pub(super) struct Hold {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What an outcome has said.
    until: Option<Timestamp>,
    /// What the observer was told.
    told: Option<Timestamp>,
}

/// What the observer is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Held,
    Over,
}

impl Hold {
    /// Until when the type is held, where that is to come: as outcomes have said, of which `by_outcome` is the latest, and
    /// as the handler itself says now. A hold is told of once, and again only when it goes on beyond the time that was
    /// told.
    fn look(
        &self,
        by_outcome: Option<Timestamp>,
        by_handler: Option<Timestamp>,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<News>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // At each look: the clock may have been set back since.
        state.until = state.until.max(by_outcome).map(|until| until.min(after(now, LONGEST)));
        let until = state.until.max(by_handler).filter(|until| *until > now);
        let news = match until {
            Some(_) if state.told.is_some_and(|told| told > now) => None,
            Some(_) => Some(News::Held),
            None => state.told.map(|_| News::Over),
        };
        if news.is_some() {
            state.told = until;
        }
        (until, news)
    }
}

/// Which types are held, by their index, and when.
pub(super) struct Held {
    until: Vec<Option<Timestamp>>,
    now: Timestamp,
}

impl Held {
    /// Whether a type is.
    pub(super) fn is(&self, index: usize) -> bool {
        self.until[index].is_some()
    }

    /// When the first of them may be claimed again.
    pub(super) fn first_due(&self) -> Option<Duration> {
        self.until.iter().flatten().min().map(|until| between(self.now, *until))
    }

    /// Whether that is so soon that a drain waits for it.
    pub(super) fn is_soon(&self) -> bool {
        self.first_due().is_some_and(|due| due <= SOON)
    }
}

impl Worker<'_> {
    /// Which types are not to be claimed now. The queue is looked at again when the first of them is due.
    pub(super) fn held(&self) -> Held {
        let now = self.executor.clock.now();
        let held = Held { until: self.types.iter().map(|it| self.look(it, None, now).0).collect(), now };
        if let Some(due) = held.first_due() {
            self.queue.note_due(due);
        }
        held
    }

    /// Obeys an outcome, or a handler after it, that says until when its type is not to be claimed. True where one does.
    pub(super) fn hold(&self, worker_type: &WorkerType, outcome: &Outcome) -> bool {
        let now = self.executor.clock.now();
        let (until, news) = self.look(worker_type, Some(outcome), now);
        if let Some(until) = until {
            self.queue.note_due(between(now, until));
        }
        if news == Some(News::Held) {
            // One that waits may be of this type.
            self.withdraw_claims();
        }
        until.is_some()
    }

    /// The types that are held now, and until when.
    pub(super) fn still_held(&self) -> Vec<(String, Timestamp)> {
        let now = self.executor.clock.now();
        let until = |it: &WorkerType| it.hold.look(None, it.not_before(now), now).0;
        self.types.iter().filter_map(|it| Some((it.name.clone(), until(it)?))).collect()
    }

    /// Looks at the hold of a type, and tells of it.
    fn look(
        &self,
        worker_type: &WorkerType,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<News>) {
        let task_type = worker_type.name.as_str();
        let by_outcome = outcome.and_then(|outcome| outcome.not_before);
        let (until, news) = worker_type.hold.look(by_outcome, worker_type.not_before(now), now);
        match (until, news) {
            (Some(until), Some(News::Held)) => {
                let reason = outcome.filter(|it| it.failure.is_some() || by_outcome >= Some(until)).and_then(words);
                self.executor.observer.event(&Event::Held { task_type, until, reason });
            }
            (None, Some(News::Over)) => self.executor.observer.event(&Event::HoldOver(task_type)),
            _ => {}
        }
        (until, news)
    }
}

/// What the handler said of the task.
fn words(outcome: &Outcome) -> Option<&str> {
    let error = outcome.failure.as_ref().map(|failure| failure.error.as_str());
    error.or(outcome.message.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_hold_is_told_of_once_and_so_is_its_end() {
        let hold = Hold::default();
        assert_eq!(hold.look(None, None, at(0)), (None, None));
        assert_eq!(hold.look(Some(at(10)), None, at(0)), (Some(at(10)), Some(News::Held)));
        assert_eq!(hold.look(Some(at(5)), None, at(1)), (Some(at(10)), None), "an earlier time shortens nothing");
        assert_eq!(hold.look(None, None, at(10)), (None, Some(News::Over)));
        assert_eq!(hold.look(Some(at(5)), None, at(11)), (None, None));
    }

    #[test]
    fn a_hold_that_goes_on_is_told_of_when_the_time_that_was_told_is_over() {
        let hold = Hold::default();
        assert_eq!(hold.look(None, Some(at(10)), at(0)), (Some(at(10)), Some(News::Held)));
        assert_eq!(hold.look(Some(at(20)), Some(at(10)), at(9)), (Some(at(20)), None));
        assert_eq!(hold.look(None, None, at(10)), (Some(at(20)), Some(News::Held)));
        assert_eq!(hold.look(None, None, at(20)), (None, Some(News::Over)));
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_hold_beyond_a_day() {
        let (hold, day, year) = (Hold::default(), 24 * 3600, 365 * 24 * 3600);
        assert_eq!(hold.look(Some(at(year + 10)), None, at(year)).0, Some(at(year + 10)));
        assert_eq!(hold.look(None, None, at(0)).0, Some(at(day)));
        assert_eq!(hold.look(None, None, at(day)).0, None);
    }

    #[test]
    fn what_an_outcome_says_counts_for_a_day_at_most() {
        let hold = Hold::default();
        let day = 24 * 3600;
        assert_eq!(hold.look(Some(Timestamp::MAX), None, at(0)).0, Some(at(day)));
        assert_eq!(hold.look(None, Some(at(day + 1)), at(1)).0, Some(at(day + 1)), "a handler is asked each time");
    }
}
