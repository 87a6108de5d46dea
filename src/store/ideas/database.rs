//! A database of ideas that is not the results file. It may be another program's: of it, only the table is touched.

use parking_lot::{Mutex, MutexGuard};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::entry::Idea;
use super::table;
use crate::clock::Timestamp;
use crate::sqlite::anchor::Anchor;
use crate::store::busy::{self, Patience};
use crate::store::migrations::Error;
use crate::store::{Reason, StoreError, create, room};
use crate::text_file;

/// An open database of ideas, shared by all threads of the process.
pub(in crate::store) struct IdeaDatabase {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Where it really lies.
    home: PathBuf,
    anchor: Anchor,
    patience: Patience,
}

impl IdeaDatabase {
    /// Opens the database, or makes an empty one, readable by its owner only. The table is made when there are ideas.
    pub(in crate::store) fn open(path: &Path, patience: Patience) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::IdeasUnusable { path: path.to_owned(), reason };
        create(path).map_err(|error| unusable(text_file::unwritable(&error)))?;
        let mut connection = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
        prepare(&mut connection).map_err(|error| failure(path, error))?;
        let anchor = Anchor::of(path).map_err(|error| unusable(text_file::reason(&error)))?;
        let home = path.canonicalize().map_err(|error| unusable(text_file::reason(&error)))?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), home, anchor, patience })
    }

    /// Writes ideas in a transaction of their own, which is on disk when this returns. Returns the row of each.
    pub(in crate::store) fn keep(&self, ideas: &[Idea], now: Timestamp) -> Result<Vec<i64>, StoreError> {
        self.patience.apply();
        let mut connection: MutexGuard<'_, _> = self.connection.lock();
        let rows = keep(&mut connection, ideas, now).map_err(|error| match error {
            // It was usable: what is wrong now may pass, or be mended.
            Error::Sqlite(error) => match Reason::of(&error) {
                reason if reason.passes || reason.can_be_mended => reason.for_ideas(&self.path),
                _ => failure(&self.path, Error::Sqlite(error)),
            },
            error @ Error::Foreign(_) => failure(&self.path, error),
        })?;
        self.check_in_place().map(|()| rows)
    }

    /// Whether there is room for more beside it.
    pub(in crate::store) fn check_room(&self) -> Result<(), StoreError> {
        let (path, passes, can_be_mended) = (self.path.clone(), false, true);
        room::check(&self.home).map_err(|reason| StoreError::IdeasFailed { path, reason, passes, can_be_mended })
    }

    /// Where it really lies, whichever link has led there.
    pub(in crate::store) fn home(&self) -> &Path {
        &self.home
    }

    /// Whether it is still there.
    pub(in crate::store) fn check_in_place(&self) -> Result<(), StoreError> {
        let gone = |reason| StoreError::IdeasGone { path: self.path.clone(), reason };
        self.anchor.loss().map_or(Ok(()), |reason| Err(gone(reason)))
    }
}

fn keep(connection: &mut Connection, ideas: &[Idea], now: Timestamp) -> Result<Vec<i64>, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = table::keep(&transaction, ideas, now)?;
    transaction.commit()?;
    Ok(rows)
}

fn prepare(connection: &mut Connection) -> Result<(), Error> {
    busy::wait_on(connection)?;
    // Closing a database that is refused must not tidy it up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    table::recognise(connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    // Whatever its journal, which is not ours to choose, a commit is on disk: FULL leaves out the folder of a journal.
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(Transaction::rollback)?)
}

fn failure(path: &Path, error: Error) -> StoreError {
    let path = path.to_owned();
    let error = match error {
        Error::Foreign(reason) => return StoreError::IdeasUnusable { path, reason },
        Error::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::IdeasUnusable { path, reason: "it is not an SQLite database".into() }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::IdeasUnusable { path, reason: error.to_string() }
        }
        _ => Reason::of(&error).for_ideas(&path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rusqlite::types::Value;

    use super::*;
    use crate::store::ideas::entry::fields;

    fn idea() -> Idea {
        Idea { cells: fields().map(|name| (name == "title").then(|| Value::Text("a".into()))).collect() }
    }

    #[test]
    fn what_keeps_ideas_out_for_a_while_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ideas.db");
        let ideas = IdeaDatabase::open(&path, Patience::default()).unwrap();
        let keep = || ideas.keep(&[idea()], Timestamp::UNIX_EPOCH);
        ideas.connection.lock().busy_timeout(Duration::ZERO).unwrap();
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let held = keep().unwrap_err();
        holder.execute_batch("ROLLBACK").unwrap();
        // As where there are no open files left for its journal.
        let journal = folder.path().join("ideas.db-journal");
        fs::create_dir(&journal).unwrap();
        let shut = keep().unwrap_err();
        fs::remove_dir(&journal).unwrap();
        for error in [held, shut] {
            assert!(error.may_pass() && error.is_of_ideas(), "{error:?}");
        }
        assert_eq!(keep(), Ok(vec![1]));
    }
}
