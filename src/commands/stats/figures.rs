//! What is shown: the groups asked for, and what ended when.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::store::{By, Group, Store, StoreError, Unreported};
use crate::youtube::Budget;

/// The results in numbers, at one moment.
pub(in crate::commands) struct Figures {
    pub(super) by: By,
    pub(super) groups: Vec<Group>,
    /// The last 24 hours; empty where they say nothing.
    pub(super) hours: Vec<Slice>,
    pub(super) unreported: Unreported,
    /// What is left of the day's quota of YouTube, where somebody uses it.
    pub(super) quota: Option<Budget>,
    /// From when on results are counted.
    pub(super) since: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// What ended in an hour or on a day.
pub(super) struct Slice {
    /// As the groups of hours and days are named.
    pub(super) name: String,
    pub(super) completed: u64,
    pub(super) failed: u64,
}

impl Figures {
    /// The groups alone.
    pub(in crate::commands) fn of(
        store: &Store,
        by: By,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let groups = store.statistics(by, since)?;
        Ok(Self { by, groups, hours: Vec::new(), unreported: store.unreported()?, quota: None, since, now })
    }
}

impl Slice {
    pub(super) fn all(&self) -> u64 {
        self.completed + self.failed
    }
}

/// This hour and the 23 before it, in UTC.
pub(super) fn last_hours(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let times = (0..24).rev().filter_map(|hours| now.checked_sub(Span::new().hours(hours)).ok());
    slices(store, By::Hour, times.map(|time| time.strftime("%Y-%m-%dT%H:00Z").to_string()).collect())
}

/// Today and the 29 days before it, in UTC.
pub(super) fn last_days(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let days = (0..30).rev().filter_map(|days| today.checked_sub(Span::new().days(days)).ok());
    slices(store, By::Day, days.map(|day| day.to_string()).collect())
}

/// What the store has of these hours or days, which are all up to now, and nothing of those that it does not know.
fn slices(store: &Store, by: By, names: Vec<String>) -> Result<Vec<Slice>, StoreError> {
    let first = names.first().map(|name| name.replace(":00Z", ":00:00Z"));
    let first = first.map(|name| if name.contains('T') { name } else { name + "T00:00:00Z" });
    let since = first.and_then(|first| first.parse().ok());
    let mut found: HashMap<String, Group> =
        store.statistics(by, since)?.into_iter().map(|group| (group.name.clone(), group)).collect();
    let slice = |name: String| {
        let group = found.remove(&name).unwrap_or_default();
        Slice { name, completed: group.completed, failed: group.failed }
    };
    Ok(names.into_iter().map(slice).collect())
}
