//! Snoozing: a type is not claimed until a time that its handler has named.
//!
//! The time is a time of day: the machine may sleep until then, or its clock be set.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Context, Event, WorkerType};
use crate::clock::{Timestamp, after, between};
use crate::task::Outcome;

/// The longest snooze an outcome can ask for, so that a handler's bug does not snooze its type forever.
const LONGEST: Duration = Duration::from_hours(24);
/// A drain waits for a snooze that ends this soon.
const SOON: Duration = Duration::from_secs(60);

/// The snooze of one type.
#[derive(Default)]
pub(super) struct Snooze {
    state: Mutex<SnoozeState>,
}

#[derive(Default)]
struct SnoozeState {
    /// Snoozed until, as outcomes have said.
    until: Option<Timestamp>,
    /// Snoozed until, as the last event said.
    told: Option<Timestamp>,
}

/// The event to emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SnoozeChange {
    Began,
    Ended,
}

impl Snooze {
    /// Returns until when the type is snoozed, and the event to emit. Combines what outcomes have said, `by_outcome`
    /// last, with what the handler says now. A snooze is emitted once, and again only if it was extended.
    fn update(
        &self,
        by_outcome: Option<Timestamp>,
        by_handler: Option<Timestamp>,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<SnoozeChange>) {
        let mut state = self.state.lock();
        // Checked each time: the clock may have been set back since.
        state.until = state.until.max(by_outcome).map(|until| until.min(after(now, LONGEST)));
        let until = state.until.max(by_handler).filter(|until| *until > now);
        let change = match until {
            Some(_) if state.told.is_some_and(|told| told > now) => None,
            Some(_) => Some(SnoozeChange::Began),
            None => state.told.map(|_| SnoozeChange::Ended),
        };
        if change.is_some() {
            state.told = until;
        }
        (until, change)
    }
}

/// The snoozed types, by index, and until when each is snoozed.
pub(super) struct SnoozedTypes {
    until: Vec<Option<Timestamp>>,
    now: Timestamp,
}

impl SnoozedTypes {
    pub(super) fn contains(&self, index: usize) -> bool {
        self.until[index].is_some()
    }

    /// Returns the time until the first snooze ends.
    pub(super) fn first_due(&self) -> Option<Duration> {
        self.until.iter().flatten().min().map(|until| between(self.now, *until))
    }

    /// Whether a snooze ends so soon that a drain waits for it.
    pub(super) fn is_soon(&self) -> bool {
        self.first_due().is_some_and(|due| due <= SOON)
    }
}

/// Returns the types snoozed now. The schedule polls again when the first snooze ends.
pub(super) fn snoozed_types(context: &Context<'_>) -> SnoozedTypes {
    let now = context.clock().now();
    let until = context.types.iter().map(|it| update(context, it, None, now).0).collect();
    let snoozed = SnoozedTypes { until, now };
    if let Some(due) = snoozed.first_due() {
        context.schedule.note_due(due);
    }
    snoozed
}

/// Snoozes a type if an outcome, or its handler after it, says until when. True if one does.
pub(super) fn snooze(context: &Context<'_>, worker_type: &WorkerType, outcome: &Outcome) -> bool {
    let now = context.clock().now();
    let (until, change) = update(context, worker_type, Some(outcome), now);
    if let Some(until) = until {
        context.schedule.note_due(between(now, until));
    }
    if change == Some(SnoozeChange::Began) {
        // An open long poll may be for this type.
        context.withdraw_claims();
    }
    until.is_some()
}

/// Returns the names of the types snoozed now, and until when.
pub(super) fn still_snoozed(context: &Context<'_>) -> Vec<(String, Timestamp)> {
    let now = context.clock().now();
    let until = |it: &WorkerType| it.snooze.update(None, it.snoozed_until(now), now).0;
    context.types.iter().filter_map(|it| Some((it.name.clone(), until(it)?))).collect()
}

/// Checks whether a type is snoozed, and emits an event if that changed.
fn update(
    context: &Context<'_>,
    worker_type: &WorkerType,
    outcome: Option<&Outcome>,
    now: Timestamp,
) -> (Option<Timestamp>, Option<SnoozeChange>) {
    let task_type = worker_type.name.as_str();
    let by_outcome = outcome.and_then(|outcome| outcome.not_before);
    let (until, change) = worker_type.snooze.update(by_outcome, worker_type.snoozed_until(now), now);
    match (until, change) {
        (Some(until), Some(SnoozeChange::Began)) => {
            let reason = outcome.filter(|it| it.failure.is_some() || by_outcome >= Some(until)).and_then(words);
            context.emit(&Event::Snoozed { task_type, until, reason });
        }
        (None, Some(SnoozeChange::Ended)) => context.emit(&Event::SnoozeEnded(task_type)),
        _ => {}
    }
    (until, change)
}

/// Returns the handler's message about the task.
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
    fn a_snooze_and_its_end_are_each_emitted_once() {
        let snooze = Snooze::default();
        assert_eq!(snooze.update(None, None, at(0)), (None, None));
        assert_eq!(snooze.update(Some(at(10)), None, at(0)), (Some(at(10)), Some(SnoozeChange::Began)));
        assert_eq!(snooze.update(Some(at(5)), None, at(1)), (Some(at(10)), None), "an earlier time shortens nothing");
        assert_eq!(snooze.update(None, None, at(10)), (None, Some(SnoozeChange::Ended)));
        assert_eq!(snooze.update(Some(at(5)), None, at(11)), (None, None));
    }

    #[test]
    fn a_snooze_that_goes_on_is_told_of_again_when_the_time_that_was_told_is_over() {
        let snooze = Snooze::default();
        assert_eq!(snooze.update(None, Some(at(10)), at(0)), (Some(at(10)), Some(SnoozeChange::Began)));
        assert_eq!(snooze.update(Some(at(20)), Some(at(10)), at(9)), (Some(at(20)), None));
        assert_eq!(snooze.update(None, None, at(10)), (Some(at(20)), Some(SnoozeChange::Began)));
        assert_eq!(snooze.update(None, None, at(20)), (None, Some(SnoozeChange::Ended)));
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_snooze_beyond_a_day() {
        let (snooze, day, year) = (Snooze::default(), 24 * 3600, 365 * 24 * 3600);
        assert_eq!(snooze.update(Some(at(year + 10)), None, at(year)).0, Some(at(year + 10)));
        assert_eq!(snooze.update(None, None, at(0)).0, Some(at(day)));
        assert_eq!(snooze.update(None, None, at(day)).0, None);
    }

    #[test]
    fn a_snooze_from_an_outcome_lasts_at_most_a_day() {
        let snooze = Snooze::default();
        let day = 24 * 3600;
        assert_eq!(snooze.update(Some(Timestamp::MAX), None, at(0)).0, Some(at(day)));
        assert_eq!(snooze.update(None, Some(at(day + 1)), at(1)).0, Some(at(day + 1)), "a handler is asked each time");
    }
}
