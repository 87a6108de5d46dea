//! Gathers the statistics: groups of results, and results by hour and day.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::store::{By, Group, Store, StoreError, Unreported};
use crate::youtube::Budget;

/// The statistics at one moment.
pub(in crate::commands) struct Figures {
    pub(super) by: By,
    pub(super) groups: Vec<Group>,
    /// The last 24 hours; empty if not requested.
    pub(super) hours: Vec<Slice>,
    pub(super) unreported: Unreported,
    /// The day's YouTube quota, if it is used.
    pub(super) quota: Option<Budget>,
    /// The start of the counted period.
    pub(super) since: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// Results that ended in one hour or on one day.
pub(super) struct Slice {
    /// The name of the hour or the day.
    pub(super) name: String,
    pub(super) completed: u64,
    pub(super) failed: u64,
}

impl Figures {
    /// Gathers only the groups.
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

/// Returns the last 24 hours, in UTC, the current one included.
pub(super) fn last_hours(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let times = (0..24).rev().filter_map(|hours| now.checked_sub(Span::new().hours(hours)).ok());
    slices(store, By::Hour, times.map(|time| time.strftime("%Y-%m-%dT%H:00Z").to_string()).collect())
}

/// Returns the last 30 days, in UTC, today included.
pub(super) fn last_days(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let days = (0..30).rev().filter_map(|days| today.checked_sub(Span::new().days(days)).ok());
    slices(store, By::Day, days.map(|day| day.to_string()).collect())
}

/// Returns a slice for each of these hours or days; empty ones have zeros.
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
