//! What handlers printed last, where the failure does not say it: beside the results, whose table users query.

use rusqlite::{Connection, OptionalExtension, params};

use super::{ResultId, Store, StoreError};
use crate::task::Outcome;

impl Store {
    /// What the handler printed last before a result, where its failure does not say it; empty where that is nothing.
    /// Results are read without it.
    pub fn last_words(&self, id: ResultId) -> Result<String, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT text FROM last_words WHERE result = ?1")?;
            Ok(statement.query_row([id.0], |row| row.get(0)).optional()?.unwrap_or_default())
        })
    }
}

/// Keeps what was printed before an outcome. Most handlers print nothing, which costs nothing.
pub(super) fn keep(connection: &Connection, id: ResultId, outcome: &Outcome) -> rusqlite::Result<()> {
    if outcome.last_words.is_empty() {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO last_words (result, text) VALUES (?1, ?2)")?
        .execute(params![id.0, outcome.last_words])
        .map(drop)
}
