//! What all workers on the file share of the YouTube Data API: the units used a day, and what was read lately.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{OptionalExtension, TransactionBehavior, params};
use serde_json::{Value, json};

use super::columns::json_column;
use super::{Store, StoreError, to_text};

/// So many videos are taken out in a step: who else writes waits for a few milliseconds at most.
const STEP: usize = 200;

impl Store {
    /// The units used on `day`.
    pub fn youtube_units(&self, day: Date) -> Result<u64, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT used FROM youtube_quota WHERE day = ?1")?;
            Ok(statement.query_row([day.to_string()], |row| row.get(0)).optional()?.unwrap_or(0))
        })
    }

    /// Counts `units` as used on `day`, unless that were more than `limit` in all; then it counts none. Returns how many
    /// are used now, where they were counted. One statement: of two processes that want the last unit, one gets it.
    pub fn use_youtube_units(&self, day: Date, units: u64, limit: u64) -> Result<Option<u64>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO youtube_quota (day, used) SELECT ?1, ?2 WHERE ?2 <= ?3
                 ON CONFLICT (day) DO UPDATE SET used = used + ?2 WHERE used + ?2 <= ?3 RETURNING used",
            )?;
            // To the end of the statement, so that a commit that fails is noticed.
            statement.query_one(params![day.to_string(), units, limit], |row| row.get(0)).optional()
        })
    }

    /// Counts `units` of `day` as not used after all.
    pub fn give_youtube_units_back(&self, day: Date, units: u64) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("UPDATE youtube_quota SET used = max(used - ?2, 0) WHERE day = ?1")?
                .execute(params![day.to_string(), units])
                .map(drop)
        })
    }

    /// Counts all of `limit` as used on `day`.
    pub fn use_up_youtube_units(&self, day: Date, limit: u64) -> Result<(), StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO youtube_quota (day, used) VALUES (?1, ?2)
                 ON CONFLICT (day) DO UPDATE SET used = max(used, ?2)",
            )?;
            statement.execute(params![day.to_string(), limit]).map(drop)
        })
    }

    /// What is kept of the videos with these ids and was fetched after `since`, by id.
    pub fn youtube_videos(&self, ids: &[String], since: Timestamp) -> Result<HashMap<String, Value>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, video FROM youtube_videos WHERE id IN (SELECT value FROM json_each(?1)) AND fetched_at > ?2",
            )?;
            let found = statement.query_map(params![json!(ids).to_string(), to_text(since)], |row| {
                Ok((row.get(0)?, json_column(row, 1)?))
            })?;
            found.collect()
        })
    }

    /// Keeps videos, by id, as they were at `now`.
    pub fn keep_youtube_videos(&self, videos: &[(String, Value)], now: Timestamp) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, video) in videos {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO youtube_videos (id, video, fetched_at) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![id, video.to_string(), to_text(now)])?;
            }
            transaction.commit()
        })
    }

    /// Takes out some of the videos that were fetched before `before`. True where there may be more.
    pub fn prune_youtube_videos(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.with(|connection| {
            let before = to_text(before);
            let is_any = "SELECT EXISTS (SELECT 1 FROM youtube_videos WHERE fetched_at < ?1)";
            // Mostly there is none, and who only reads holds up nobody.
            if !connection.prepare_cached(is_any)?.query_row([&before], |row| row.get(0))? {
                return Ok(false);
            }
            let taken = connection
                .prepare_cached(
                    "DELETE FROM youtube_videos WHERE rowid IN
                         (SELECT rowid FROM youtube_videos WHERE fetched_at < ?1 ORDER BY fetched_at LIMIT ?2)",
                )?
                .execute(params![before, STEP])?;
            Ok(taken == STEP)
        })
    }
}
