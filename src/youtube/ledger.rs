//! The ledger of quota and cached videos that all workers with the same results file share.

#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use serde_json::Value;

use super::quota::{Budget, day_at};
use super::{cache, quota};
use crate::clock::{Clock, before};
use crate::store::{Store, StoreError};

/// The quota is low if this percentage of the day's units is used.
const LOW_PERCENT: u64 = 80;

/// How long the counts of past days are kept.
const COUNTS_KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// The result of spending units of the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// The units are counted as used.
    Counted,
    /// Fewer units are left; none are counted.
    Exhausted,
}

/// Counts the units of the daily quota and caches videos, for all workers that share it. Errors are one line that says
/// why the file cannot be used.
pub trait Ledger: Send + Sync {
    /// Returns the quota of the current day.
    fn budget(&self) -> Result<Budget, String>;

    /// Counts `units` as used, before the call is made.
    fn spend(&self, units: u64) -> Result<Spent, String>;

    /// Refunds units of a call that the API did not count.
    fn give_back(&self, units: u64) -> Result<(), String>;

    /// Counts all units of the day as used, since the API says so.
    fn exhaust(&self) -> Result<(), String>;

    /// Returns cached videos that are recent enough, by id: `youtube#video` objects of the API.
    fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String>;

    /// Caches videos by id.
    fn remember(&self, videos: &[(String, Value)]) -> Result<(), String>;
}

/// A change of the day's quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QuotaEvent {
    /// The current state.
    Seen(Budget),
    /// The quota is low. Sent once a day.
    Low(Budget),
}

/// Receives quota events from any thread that runs a handler. Must return quickly.
pub(crate) type QuotaListener = Box<dyn Fn(&QuotaEvent) + Send + Sync>;

/// A ledger in the results file, shared by all its workers.
pub(crate) struct SharedLedger {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    limit: u64,
    /// How long a video is cached; zero disables the cache.
    keep: Duration,
    listener: Option<QuotaListener>,
    /// The last day for which `Low` was sent.
    low_day: Mutex<Option<Date>>,
}

impl SharedLedger {
    /// Creates a ledger in `store` with `limit` units a day, which caches videos for `keep`.
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, limit: u64, keep: Duration) -> Self {
        Self { store, clock, limit, keep, listener: None, low_day: Mutex::default() }
    }

    /// Sets the listener for quota events.
    #[must_use]
    pub(crate) fn with_listener(self, listener: QuotaListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Removes the counts of old days and some expired videos. Returns whether there may be more.
    pub(crate) fn prune(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        quota::prune(&self.store, before(now, COUNTS_KEPT_FOR))?;
        cache::prune(&self.store, before(now, self.keep))
    }

    fn send(&self, event: &QuotaEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn check_low(&self, day: Date, budget: Budget) {
        let is_low = budget.used * 100 >= budget.limit * LOW_PERCENT;
        let is_new_day = || self.low_day.lock().replace(day) != Some(day);
        if is_low && is_new_day() {
            self.send(&QuotaEvent::Low(budget));
        }
    }
}

impl Ledger for SharedLedger {
    fn budget(&self) -> Result<Budget, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = quota::used(&self.store, day).map_err(|error| error.to_string())?;
        let budget = Budget { limit: self.limit, used, resets_at };
        self.send(&QuotaEvent::Seen(budget.clone()));
        Ok(budget)
    }

    fn spend(&self, units: u64) -> Result<Spent, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = quota::spend(&self.store, day, units, self.limit).map_err(|error| error.to_string())?;
        let Some(used) = used else { return Ok(Spent::Exhausted) };
        self.check_low(day, Budget { limit: self.limit, used, resets_at });
        Ok(Spent::Counted)
    }

    fn give_back(&self, units: u64) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        quota::give_back(&self.store, day, units).map_err(|error| error.to_string())
    }

    fn exhaust(&self) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        quota::exhaust(&self.store, day, self.limit).map_err(|error| error.to_string())
    }

    fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String> {
        if self.keep.is_zero() {
            return Ok(HashMap::new());
        }
        cache::videos(&self.store, ids, before(self.clock.now(), self.keep)).map_err(|error| error.to_string())
    }

    fn remember(&self, videos: &[(String, Value)]) -> Result<(), String> {
        if self.keep.is_zero() {
            return Ok(());
        }
        cache::keep(&self.store, videos, self.clock.now()).map_err(|error| error.to_string())
    }
}
