//! Daily quota of the API, counted in the results file for all its workers.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{self, TimeZone};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use crate::store::{Store, StoreError, to_text};

/// The time zone in which the quota resets. Its rules are compiled in, for machines without a time zone database.
static LOS_ANGELES: TimeZone = tz::get!("America/Los_Angeles");

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

/// Returns the quota day of `now` and its end.
pub(super) fn day_at(now: Timestamp) -> (Date, Timestamp) {
    let day = LOS_ANGELES.to_datetime(now).date();
    let midnight = day.tomorrow().and_then(|next| next.to_zoned(LOS_ANGELES.clone()));
    (day, midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp()))
}

/// Returns the units used on `day`.
pub(super) fn used(store: &Store, day: Date) -> Result<u64, StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached("SELECT used FROM youtube_quota WHERE day = ?1")?;
        Ok(statement.query_row([day.to_string()], |row| row.get(0)).optional()?.unwrap_or(0))
    })
}

/// Counts `units` as used on `day`, unless the total would exceed `limit`. Returns the new total, or `None` if nothing
/// was counted. A single statement, so that two processes cannot both get the last unit.
pub(super) fn spend(store: &Store, day: Date, units: u64, limit: u64) -> Result<Option<u64>, StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached(
            "INSERT INTO youtube_quota (day, used) SELECT ?1, ?2 WHERE ?2 <= ?3
             ON CONFLICT (day) DO UPDATE SET used = used + ?2 WHERE used + ?2 <= ?3 RETURNING used",
        )?;
        // Runs the statement to its end, so that a failing commit is noticed.
        statement.query_one(params![day.to_string(), units, limit], |row| row.get(0)).optional()
    })
}

/// Refunds `units` on `day`.
pub(super) fn give_back(store: &Store, day: Date, units: u64) -> Result<(), StoreError> {
    store.with(|connection| {
        connection
            .prepare_cached("UPDATE youtube_quota SET used = max(used - ?2, 0) WHERE day = ?1")?
            .execute(params![day.to_string(), units])
            .map(drop)
    })
}

/// Counts all of `limit` as used on `day`.
pub(super) fn exhaust(store: &Store, day: Date, limit: u64) -> Result<(), StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached(
            "INSERT INTO youtube_quota (day, used) VALUES (?1, ?2)
             ON CONFLICT (day) DO UPDATE SET used = max(used, ?2)",
        )?;
        statement.execute(params![day.to_string(), limit]).map(drop)
    })
}

/// Removes the days before `before`.
pub(super) fn prune(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    store.with(|connection| {
        let before = to_text(before);
        let is_any = "SELECT EXISTS (SELECT 1 FROM youtube_quota WHERE day < ?1)";
        // Usually there is none, and reading does not block writers.
        if connection.prepare_cached(is_any)?.query_row([&before], |row| row.get(0))? {
            connection.prepare_cached("DELETE FROM youtube_quota WHERE day < ?1")?.execute([before])?;
        }
        Ok(())
    })
}
