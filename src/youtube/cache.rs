//! Cache of videos in the results file.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{TransactionBehavior, params};
use serde_json::{Value, json};

use super::ledger::Ledger;
use crate::clock::before;
use crate::store::{json_column, to_text};

/// Maximum number of videos removed at once, so that other writers wait at most a few milliseconds.
const STEP: usize = 200;

impl Ledger {
    /// Returns cached videos that are recent enough, by id: `youtube#video` objects of the API.
    pub(super) fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String> {
        if self.keep.is_zero() {
            return Ok(HashMap::new());
        }
        let since = before(self.clock.now(), self.keep);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, video FROM youtube_videos
                 WHERE id IN (SELECT value FROM json_each(?1)) AND fetched_at > ?2",
            )?;
            let found = statement.query_map(params![json!(ids).to_string(), to_text(since)], |row| {
                Ok((row.get(0)?, json_column(row, 1)?))
            })?;
            found.collect()
        })
    }

    /// Caches videos by id.
    pub(super) fn remember(&self, videos: &[(String, Value)]) -> Result<(), String> {
        if self.keep.is_zero() {
            return Ok(());
        }
        let now = to_text(self.clock.now());
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, video) in videos {
                let insert = "INSERT OR REPLACE INTO youtube_videos (id, video, fetched_at) VALUES (?1, ?2, ?3)";
                transaction.prepare_cached(insert)?.execute(params![id, video.to_string(), now])?;
            }
            transaction.commit()
        })
    }

    /// Removes some of the videos that were fetched before `before`. Returns whether there may be more.
    pub(super) fn prune_videos(&self, before: Timestamp) -> Result<bool, String> {
        self.with(|connection| {
            let before = to_text(before);
            let is_any = "SELECT EXISTS (SELECT 1 FROM youtube_videos WHERE fetched_at < ?1)";
            // Usually there is none, and reading does not block writers.
            if !connection.prepare_cached(is_any)?.query_row([&before], |row| row.get(0))? {
                return Ok(false);
            }
            let removed = connection
                .prepare_cached(
                    "DELETE FROM youtube_videos WHERE rowid IN
                         (SELECT rowid FROM youtube_videos WHERE fetched_at < ?1 ORDER BY fetched_at LIMIT ?2)",
                )?
                .execute(params![before, STEP])?;
            Ok(removed == STEP)
        })
    }
}
