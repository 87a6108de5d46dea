//! The ledger that all workers on a results file share.

#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use serde_json::Value;

use super::ledger::{Ledger, Spent};
use super::quota::{Budget, day_at};
use super::{cache, quota};
use crate::clock::{Clock, before};
use crate::store::{Store, StoreError};

/// The share of the day's units, in percent, from which on the quota is low.
const LOW_FROM: u64 = 80;

/// How long used units are remembered.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// What handlers have seen of the day's units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QuotaEvent {
    /// What is used and left now.
    Seen(Budget),
    /// This process has used units of the last fifth. Told once a day.
    Low(Budget),
}

/// Hears of the quota, from any thread that runs a handler. Must return quickly.
pub(crate) type QuotaListener = Box<dyn Fn(&QuotaEvent) + Send + Sync>;

/// What all workers on a results file share of the YouTube Data API.
pub(crate) struct SharedLedger {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    limit: u64,
    /// How long a video is used again; zero: never.
    keep: Duration,
    listener: Option<QuotaListener>,
    /// The last day that was told to be low.
    low_day: Mutex<Option<Date>>,
}

impl SharedLedger {
    /// The ledger in `store`, of `limit` units a day and videos that are used again for as long as `keep`.
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, limit: u64, keep: Duration) -> Self {
        Self { store, clock, limit, keep, listener: None, low_day: Mutex::default() }
    }

    /// The same, with `listener` hearing what handlers see of the quota.
    #[must_use]
    pub(crate) fn telling(self, listener: QuotaListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Removes days that are long past, and some of the videos that are too old to be used again. True if there may be
    /// more.
    pub(crate) fn prune(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        quota::prune(&self.store, before(now, REMEMBERED))?;
        cache::prune(&self.store, before(now, self.keep))
    }

    fn tell(&self, event: &QuotaEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn note_used(&self, day: Date, budget: Budget) {
        let is_low = budget.used * 100 >= budget.limit * LOW_FROM;
        let is_news = || self.low_day.lock().replace(day) != Some(day);
        if is_low && is_news() {
            self.tell(&QuotaEvent::Low(budget));
        }
    }
}

impl Ledger for SharedLedger {
    fn budget(&self) -> Result<Budget, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = quota::used(&self.store, day).map_err(|error| error.to_string())?;
        let budget = Budget { limit: self.limit, used, resets_at };
        self.tell(&QuotaEvent::Seen(budget.clone()));
        Ok(budget)
    }

    fn spend(&self, units: u64) -> Result<Spent, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = quota::spend(&self.store, day, units, self.limit).map_err(|error| error.to_string())?;
        let Some(used) = used else { return Ok(Spent::Exhausted) };
        self.note_used(day, Budget { limit: self.limit, used, resets_at });
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
