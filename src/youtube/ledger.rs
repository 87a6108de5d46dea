//! The ledger of quota and cached videos that all workers with the same results file share.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{self, TimeZone};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use crate::clock::{Clock, before};
use crate::store::{Store, to_text};

/// The time zone in which the quota resets. Its rules are compiled in, for machines without a time zone database.
static LOS_ANGELES: TimeZone = tz::get!("America/Los_Angeles");

/// The quota is low if this percentage of the day's units is used.
const LOW_PERCENT: u64 = 80;

/// How long the counts of past days are kept.
const COUNTS_KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// The quota of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The units of a day.
    pub limit: u64,
    /// The units used.
    pub used: u64,
    /// When the next day starts: midnight in Los Angeles.
    pub resets_at: Timestamp,
}

impl Budget {
    /// Returns the units that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Adds its fields to a JSON object.
    pub fn add_to(&self, object: &mut Value) {
        object["limit"] = json!(self.limit);
        object["used"] = json!(self.used);
        object["left"] = json!(self.left());
        object["resets_at"] = json!(self.resets_at);
    }
}

/// The result of spending units of the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spent {
    /// The units are counted as used.
    Counted,
    /// Fewer units are left; none are counted.
    Exhausted,
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

/// Counts the units of the daily quota and caches videos in the results file, for all its workers. Errors are one line
/// that says why the file cannot be used.
pub struct Ledger {
    store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    limit: u64,
    /// How long a video is cached; zero disables the cache.
    pub(super) keep: Duration,
    listener: Option<QuotaListener>,
    /// The last day for which `Low` was sent.
    low_day: Mutex<Option<Date>>,
}

impl Ledger {
    /// Creates a ledger in `store` with `limit` units a day, which caches videos for `keep`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, limit: u64, keep: Duration) -> Self {
        Self { store, clock, limit, keep, listener: None, low_day: Mutex::default() }
    }

    /// Sets the listener for quota events.
    #[must_use]
    pub(crate) fn with_listener(self, listener: QuotaListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Returns the quota of the current day.
    pub fn budget(&self) -> Result<Budget, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT used FROM youtube_quota WHERE day = ?1")?;
            statement.query_row([day.to_string()], |row| row.get(0)).optional()
        })?;
        let budget = Budget { limit: self.limit, used: used.unwrap_or(0), resets_at };
        self.send(&QuotaEvent::Seen(budget.clone()));
        Ok(budget)
    }

    /// Counts `units` as used, before the call is made, unless the total would exceed the limit.
    pub(super) fn spend(&self, units: u64) -> Result<Spent, String> {
        let (day, resets_at) = day_at(self.clock.now());
        let used = self.with(|connection| {
            // A single statement, so that two processes cannot both get the last unit.
            let mut statement = connection.prepare_cached(
                "INSERT INTO youtube_quota (day, used) SELECT ?1, ?2 WHERE ?2 <= ?3
                 ON CONFLICT (day) DO UPDATE SET used = used + ?2 WHERE used + ?2 <= ?3 RETURNING used",
            )?;
            // Runs the statement to its end, so that a failing commit is noticed.
            statement.query_one(params![day.to_string(), units, self.limit], |row| row.get(0)).optional()
        })?;
        let Some(used) = used else { return Ok(Spent::Exhausted) };
        self.check_low(day, Budget { limit: self.limit, used, resets_at });
        Ok(Spent::Counted)
    }

    /// Refunds units of a call that the API did not count.
    pub(super) fn refund(&self, units: u64) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        self.with(|connection| {
            connection
                .prepare_cached("UPDATE youtube_quota SET used = max(used - ?2, 0) WHERE day = ?1")?
                .execute(params![day.to_string(), units])
                .map(drop)
        })
    }

    /// Counts all units of the day as used, since the API says so.
    pub(super) fn exhaust(&self) -> Result<(), String> {
        let (day, _) = day_at(self.clock.now());
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO youtube_quota (day, used) VALUES (?1, ?2)
                 ON CONFLICT (day) DO UPDATE SET used = max(used, ?2)",
            )?;
            statement.execute(params![day.to_string(), self.limit]).map(drop)
        })
    }

    /// Removes the counts of old days and some expired videos. Returns whether there may be more.
    pub(crate) fn prune(&self) -> Result<bool, String> {
        let now = self.clock.now();
        self.prune_days(before(now, COUNTS_KEPT_FOR))?;
        self.prune_videos(before(now, self.keep))
    }

    fn prune_days(&self, before: Timestamp) -> Result<(), String> {
        self.with(|connection| {
            let before = to_text(before);
            let is_any = "SELECT EXISTS (SELECT 1 FROM youtube_quota WHERE day < ?1)";
            // Usually there is none, and reading does not block writers.
            if connection.prepare_cached(is_any)?.query_row([&before], |row| row.get(0))? {
                connection.prepare_cached("DELETE FROM youtube_quota WHERE day < ?1")?.execute([before])?;
            }
            Ok(())
        })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, String> {
        self.store.with(work).map_err(|error| error.to_string())
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

/// Returns the quota day of `now` and its end.
fn day_at(now: Timestamp) -> (Date, Timestamp) {
    let day = LOS_ANGELES.to_datetime(now).date();
    let midnight = day.tomorrow().and_then(|next| next.to_zoned(LOS_ANGELES.clone()));
    (day, midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp()))
}
