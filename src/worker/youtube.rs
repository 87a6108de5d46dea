//! The quota of the YouTube Data API and the videos that were read lately, shared by all workers on a results file.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::{self, TimeZone};
use serde_json::Value;

use crate::clock::{Clock, Timestamp, before};
use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::youtube::{Budget, Ledger, Spent};

/// Where the days of the quota start. Its rules are in the program: machines without time zones count the same.
static LOS_ANGELES: TimeZone = tz::get!("America/Los_Angeles");

/// The share of the day's units, in percent, from which on a warning is due.
const WARN_FROM: u64 = 80;

/// What all workers on a results file share of the YouTube Data API.
pub struct SharedLedger {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    limit: u64,
    /// How long a video is used again; zero: never.
    keep: Duration,
    warning: Mutex<Warning>,
    /// What handlers have last seen of the day, until it is told.
    seen: Mutex<Option<Budget>>,
}

#[derive(Default)]
struct Warning {
    /// The last day of which there was one.
    day: Option<Date>,
    due: Option<Budget>,
}

impl SharedLedger {
    /// The ledger in `store`, by the settings in force and the time of `clock`.
    pub fn new(store: Arc<Store>, config: &Config, clock: Arc<dyn Clock>) -> Self {
        let (limit, keep) = (u64::from(config.youtube_daily_quota.value), config.youtube_cache.value);
        Self { store, clock, limit, keep, warning: Mutex::default(), seen: Mutex::default() }
    }

    /// What is left of the day, once a day after this process has used units of the last fifth.
    pub(super) fn take_warning(&self) -> Option<Budget> {
        self.warning.lock().unwrap_or_else(PoisonError::into_inner).due.take()
    }

    /// What handlers have last seen of the day's units, where it was not taken before.
    pub(super) fn take_seen(&self) -> Option<Budget> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes out some of the videos that are too old to be used again. True where there may be more.
    pub(super) fn prune(&self) -> Result<bool, StoreError> {
        self.store.prune_youtube_videos(before(self.clock.now(), self.keep))
    }

    fn note_used(&self, day: Date, budget: Budget) {
        let mut warning = self.warning.lock().unwrap_or_else(PoisonError::into_inner);
        if budget.used * 100 >= budget.limit * WARN_FROM && warning.day != Some(day) {
            *warning = Warning { day: Some(day), due: Some(budget) };
        }
    }
}

impl Ledger for SharedLedger {
    fn budget(&self) -> Result<Budget, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = self.store.youtube_units(day).map_err(|error| error.to_string())?;
        let budget = Budget { limit: self.limit, used, resets_at };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget.clone());
        Ok(budget)
    }

    fn spend(&self, units: u64) -> Result<Spent, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = self.store.use_youtube_units(day, units, self.limit).map_err(|error| error.to_string())?;
        let Some(used) = used else { return Ok(Spent::Exhausted) };
        self.note_used(day, Budget { limit: self.limit, used, resets_at });
        Ok(Spent::Counted)
    }

    fn give_back(&self, units: u64) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        self.store.give_youtube_units_back(day, units).map_err(|error| error.to_string())
    }

    fn exhaust(&self) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        self.store.use_up_youtube_units(day, self.limit).map_err(|error| error.to_string())
    }

    fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String> {
        if self.keep.is_zero() {
            return Ok(HashMap::new());
        }
        self.store.youtube_videos(ids, before(self.clock.now(), self.keep)).map_err(|error| error.to_string())
    }

    fn remember(&self, videos: &[(String, Value)]) -> Result<(), String> {
        if self.keep.is_zero() {
            return Ok(());
        }
        self.store.keep_youtube_videos(videos, self.clock.now()).map_err(|error| error.to_string())
    }
}

/// The day of the quota that `now` is in, and its end.
fn day_at(now: Timestamp) -> (Date, Timestamp) {
    let day = LOS_ANGELES.to_datetime(now).date();
    let midnight = day.tomorrow().and_then(|next| next.to_zoned(LOS_ANGELES.clone()));
    (day, midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp()))
}
