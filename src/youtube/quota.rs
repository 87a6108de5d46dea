//! The units of the API that are used a day, as the results file counts them for all workers on it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{self, TimeZone};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use crate::store::{Store, StoreError, to_text};

/// Where the days of the quota start. Its rules are in the program: machines without time zones count the same.
static LOS_ANGELES: TimeZone = tz::get!("America/Los_Angeles");

/// The quota of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The units of a day.
    pub limit: u64,
    /// Those that are used.
    pub used: u64,
    /// When the next day starts: midnight in Los Angeles.
    pub resets_at: Timestamp,
}

impl Budget {
    /// The units that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Adds it to a JSON object, for programs.
    pub fn add_to(&self, object: &mut Value) {
        object["limit"] = json!(self.limit);
        object["used"] = json!(self.used);
        object["left"] = json!(self.left());
        object["resets_at"] = json!(self.resets_at);
    }
}

/// The day of the quota that `now` is in, and its end.
pub(super) fn day_at(now: Timestamp) -> (Date, Timestamp) {
    let day = LOS_ANGELES.to_datetime(now).date();
    let midnight = day.tomorrow().and_then(|next| next.to_zoned(LOS_ANGELES.clone()));
    (day, midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp()))
}

/// The units used on `day`.
pub(super) fn used(store: &Store, day: Date) -> Result<u64, StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached("SELECT used FROM youtube_quota WHERE day = ?1")?;
        Ok(statement.query_row([day.to_string()], |row| row.get(0)).optional()?.unwrap_or(0))
    })
}

/// Counts `units` as used on `day`, unless that were more than `limit` in all; then it counts none. Returns how many
/// are used now, if they were counted. One statement: of two processes that want the last unit, one gets it.
pub(super) fn spend(store: &Store, day: Date, units: u64, limit: u64) -> Result<Option<u64>, StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached(
            "INSERT INTO youtube_quota (day, used) SELECT ?1, ?2 WHERE ?2 <= ?3
             ON CONFLICT (day) DO UPDATE SET used = used + ?2 WHERE used + ?2 <= ?3 RETURNING used",
        )?;
        // To the end of the statement, so that a commit that fails is noticed.
        statement.query_one(params![day.to_string(), units, limit], |row| row.get(0)).optional()
    })
}

/// Counts `units` of `day` as not used after all.
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
        // Mostly there is none, and a reader holds up nobody.
        if connection.prepare_cached(is_any)?.query_row([&before], |row| row.get(0))? {
            connection.prepare_cached("DELETE FROM youtube_quota WHERE day < ?1")?.execute([before])?;
        }
        Ok(())
    })
}
