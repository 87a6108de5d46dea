//! Recent history of a worker, in limited memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::AttemptOutcome;
use crate::headline::in_one_line;
use crate::output::printable;

/// Number of minutes kept.
pub(super) const MINUTES: u64 = 60;
/// Number of recent attempts kept, and of recent failed attempts.
const RECENT: usize = 12;
/// Number of durations kept for each type.
const DURATIONS: usize = 200;
/// Maximum length of an error text, in characters.
const ERROR_CHARACTERS: usize = 300;

/// A recently finished attempt.
#[derive(Clone)]
pub(super) struct RecentAttempt {
    pub(super) id: u64,
    pub(super) task_type: String,
    pub(super) ended: Instant,
    pub(super) seconds: f64,
    /// The type and the text of the error.
    pub(super) failure: Option<(String, String)>,
}

/// Attempts that finished in one minute.
struct MinuteCounts {
    number: u64,
    completed: u64,
    failed: u64,
}

/// The recent history of a worker.
pub(super) struct History {
    started: Instant,
    minutes: VecDeque<MinuteCounts>,
    /// Newest first.
    pub(super) recent: VecDeque<RecentAttempt>,
    /// Newest first. A separate list, so that successful attempts do not push them out.
    pub(super) failures: VecDeque<RecentAttempt>,
    types: BTreeMap<String, TypeHistory>,
}

/// Attempts of a type since the worker started.
#[derive(Default)]
pub(super) struct TypeHistory {
    pub(super) completed: u64,
    pub(super) failed: u64,
    /// The most recent ones, in seconds.
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

    pub(super) fn add(&mut self, attempt: &AttemptOutcome<'_>, now: Instant) {
        let number = self.minute(now);
        if self.minutes.back().is_none_or(|last| last.number != number) {
            self.minutes.push_back(MinuteCounts { number, completed: 0, failed: 0 });
            self.minutes.retain(|minute| minute.number + MINUTES > number);
        }
        let completed = attempt.failure.is_none();
        if let Some(minute) = self.minutes.back_mut() {
            *if completed { &mut minute.completed } else { &mut minute.failed } += 1;
        }
        let type_history = self.types.entry(attempt.task_type.to_owned()).or_default();
        *if completed { &mut type_history.completed } else { &mut type_history.failed } += 1;
        type_history.durations.push_back(attempt.seconds);
        type_history.durations.drain(..type_history.durations.len().saturating_sub(DURATIONS));
        let cut = |text: &str| text.chars().take(ERROR_CHARACTERS).collect();
        let recent = RecentAttempt {
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

    /// Returns the history of a type, if there is any.
    pub(super) fn type_history(&self, task_type: &str) -> Option<&TypeHistory> {
        self.types.get(task_type)
    }

    /// Returns the completed and failed attempts of each of the last minutes, the current one last.
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

impl TypeHistory {
    /// Returns the median and the 95th percentile of the recent durations, in seconds.
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

    fn attempt(seconds: f64, failure: Option<(&'static str, &'static str)>) -> AttemptOutcome<'static> {
        AttemptOutcome { id: 1, task_type: "a", seconds, failure }
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
        assert!(history.type_history("a").is_none());
        (0..DURATIONS).for_each(|_| history.add(&attempt(9.0, None), Instant::now()));
        (1..=DURATIONS)
            .for_each(|number| history.add(&attempt(f64::from(u8::try_from(number).unwrap()), None), Instant::now()));
        assert_eq!(history.type_history("a").unwrap().percentiles(), Some((100.0, 190.0)));
        assert_eq!(history.recent.len(), RECENT);
    }

    #[test]
    fn completed_attempts_do_not_displace_failures() {
        let mut history = History::new(Instant::now());
        history.add(&attempt(1.0, Some(("handler", "x"))), Instant::now());
        (0..3 * RECENT).for_each(|_| history.add(&attempt(1.0, None), Instant::now()));
        assert_eq!((history.recent.len(), history.failures.len()), (RECENT, 1));
        let type_history = history.type_history("a").unwrap();
        assert_eq!((type_history.completed, type_history.failed), (3 * RECENT as u64, 1));
    }
}
