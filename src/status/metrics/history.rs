//! What a worker has done lately, in little room.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::Attempt;
use crate::headline::in_one_line;
use crate::output::printable;

/// The minutes that are remembered.
pub(super) const MINUTES: u64 = 60;
/// The attempts that are remembered one by one, and as many of those that failed.
const RECENT: usize = 12;
/// The durations of a type that are remembered.
const DURATIONS: usize = 200;
/// What is kept of an error's text, its most telling line first.
const ERROR_CHARACTERS: usize = 300;

/// An attempt that has ended lately.
#[derive(Clone)]
pub(super) struct Recent {
    pub(super) id: u64,
    pub(super) task_type: String,
    pub(super) ended: Instant,
    pub(super) seconds: f64,
    /// The type of the error and its text.
    pub(super) failure: Option<(String, String)>,
}

/// What was done in a minute.
struct Minute {
    number: u64,
    completed: u64,
    failed: u64,
}

/// What was done lately.
pub(super) struct History {
    started: Instant,
    minutes: VecDeque<Minute>,
    /// The newest first.
    pub(super) recent: VecDeque<Recent>,
    /// The newest first: the others must not push them out.
    pub(super) failures: VecDeque<Recent>,
    types: BTreeMap<String, OfType>,
}

/// What was done of a type since the worker started.
#[derive(Default)]
pub(super) struct OfType {
    pub(super) completed: u64,
    pub(super) failed: u64,
    /// The last ones, in seconds.
    durations: VecDeque<f64>,
}

impl History {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            minutes: VecDeque::new(),
            recent: VecDeque::new(),
            failures: VecDeque::new(),
            types: BTreeMap::new(),
        }
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / 60
    }

    pub(super) fn add(&mut self, attempt: &Attempt<'_>, now: Instant) {
        let number = self.minute(now);
        if self.minutes.back().is_none_or(|last| last.number != number) {
            self.minutes.push_back(Minute { number, completed: 0, failed: 0 });
            self.minutes.retain(|minute| minute.number + MINUTES > number);
        }
        let completed = attempt.failure.is_none();
        if let Some(minute) = self.minutes.back_mut() {
            *if completed { &mut minute.completed } else { &mut minute.failed } += 1;
        }
        let of_type = self.types.entry(attempt.task_type.to_owned()).or_default();
        *if completed { &mut of_type.completed } else { &mut of_type.failed } += 1;
        of_type.durations.push_back(attempt.seconds);
        of_type.durations.drain(..of_type.durations.len().saturating_sub(DURATIONS));
        let cut = |text: &str| text.chars().take(ERROR_CHARACTERS).collect();
        let recent = Recent {
            id: attempt.id,
            task_type: attempt.task_type.to_owned(),
            ended: now,
            seconds: attempt.seconds,
            failure: attempt.failure.map(|(error_type, text)| (cut(error_type), cut(&printable(&in_one_line(text))))),
        };
        if !completed {
            self.failures.push_front(recent.clone());
            self.failures.truncate(RECENT);
        }
        self.recent.push_front(recent);
        self.recent.truncate(RECENT);
    }

    /// What was done of a type, where anything was.
    pub(super) fn of_type(&self, task_type: &str) -> Option<&OfType> {
        self.types.get(task_type)
    }

    /// What completed and what failed in each of the last minutes, the present one last.
    pub(super) fn minutes(&self, now: Instant) -> Vec<(u64, u64)> {
        let present = self.minute(now);
        let mut minutes = vec![(0, 0); usize::try_from(MINUTES).unwrap_or_default()];
        for minute in &self.minutes {
            let ago = usize::try_from(present.saturating_sub(minute.number)).unwrap_or(usize::MAX);
            if let Some(place) = minutes.iter_mut().rev().nth(ago) {
                *place = (minute.completed, minute.failed);
            }
        }
        minutes
    }
}

impl OfType {
    /// The median and the 95th percentile of the last durations, in seconds.
    pub(super) fn percentiles(&self) -> Option<(f64, f64)> {
        let mut sorted: Vec<f64> = self.durations.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        at(50).zip(at(95))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn attempt(seconds: f64, failure: Option<(&'static str, &'static str)>) -> Attempt<'static> {
        Attempt { id: 1, task_type: "a", seconds, failure }
    }

    #[test]
    fn an_hour_is_remembered_by_the_minute() {
        let start = Instant::now();
        let minute = Duration::from_mins(1);
        let mut history = History::new(start);
        history.add(&attempt(1.0, None), start);
        history.add(&attempt(1.0, Some(("handler", "x"))), start);
        history.add(&attempt(1.0, None), start + minute);
        let seen = history.minutes(start + minute);
        assert_eq!((seen.len(), seen[58], seen[59]), (60, (1, 1), (1, 0)));
        assert_eq!(history.minutes(start + 60 * minute)[0], (1, 0), "the first minute is an hour ago");
        assert!(history.minutes(start + 61 * minute).iter().all(|it| *it == (0, 0)));
        history.add(&attempt(1.0, None), start + 100 * minute);
        assert_eq!(history.minutes.len(), 1);
    }

    #[test]
    fn percentiles_are_those_of_the_last_durations() {
        let mut history = History::new(Instant::now());
        assert!(history.of_type("a").is_none());
        (0..DURATIONS).for_each(|_| history.add(&attempt(9.0, None), Instant::now()));
        (1..=DURATIONS)
            .for_each(|number| history.add(&attempt(f64::from(u8::try_from(number).unwrap()), None), Instant::now()));
        assert_eq!(history.of_type("a").unwrap().percentiles(), Some((100.0, 190.0)));
        assert_eq!(history.recent.len(), RECENT);
    }

    #[test]
    fn what_completes_does_not_push_out_what_failed() {
        let mut history = History::new(Instant::now());
        history.add(&attempt(1.0, Some(("handler", "x"))), Instant::now());
        (0..3 * RECENT).for_each(|_| history.add(&attempt(1.0, None), Instant::now()));
        assert_eq!((history.recent.len(), history.failures.len()), (RECENT, 1));
        let of_type = history.of_type("a").unwrap();
        assert_eq!((of_type.completed, of_type.failed), (3 * RECENT as u64, 1));
    }
}
