//! Cache of videos in the results file, shared by its workers.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{TransactionBehavior, params};
use serde_json::{Value, json};

use crate::store::{Store, StoreError, json_column, to_text};

/// Maximum number of videos removed at once, so that other writers wait at most a few milliseconds.
const STEP: usize = 200;

/// Returns cached videos that were fetched after `since`, by id.
pub(super) fn videos(store: &Store, ids: &[String], since: Timestamp) -> Result<HashMap<String, Value>, StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT id, video FROM youtube_videos WHERE id IN (SELECT value FROM json_each(?1)) AND fetched_at > ?2",
        )?;
        let found = statement.query_map(params![json!(ids).to_string(), to_text(since)], |row| {
            Ok((row.get(0)?, json_column(row, 1)?))
        })?;
        found.collect()
    })
}

/// Stores videos that were fetched at `now`.
pub(super) fn keep(store: &Store, videos: &[(String, Value)], now: Timestamp) -> Result<(), StoreError> {
    store.with(|connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, video) in videos {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO youtube_videos (id, video, fetched_at) VALUES (?1, ?2, ?3)")?
                .execute(params![id, video.to_string(), to_text(now)])?;
        }
        transaction.commit()
    })
}

/// Removes some of the videos that were fetched before `before`. Returns whether there may be more.
pub(super) fn prune(store: &Store, before: Timestamp) -> Result<bool, StoreError> {
    store.with(|connection| {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn count(store: &Store) -> u64 {
        store.with(|it| it.query_row("SELECT count(*) FROM youtube_videos", [], |row| row.get(0))).unwrap()
    }

    #[test]
    fn old_videos_are_pruned_in_steps() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("results.db")).unwrap();
        let (old, new) = ("2026-11-22T03:00:00Z".parse().unwrap(), "2026-11-22T04:00:00Z".parse().unwrap());
        let videos: Vec<_> = (0..450).map(|number| (number.to_string(), json!(number))).collect();
        keep(&store, &videos, old).unwrap();
        keep(&store, &[("new".into(), json!({}))], new).unwrap();
        let mut left = Vec::new();
        while prune(&store, new).unwrap() {
            left.push(count(&store));
        }
        assert_eq!((left, count(&store)), (vec![251, 51], 1));
    }
}
