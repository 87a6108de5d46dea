//! Ideas that handlers find: rows of the table `IdeaInspiration`, in the results file or in a database shared with
//! other programs. Only that table of such a database is touched.

mod entry;
mod table;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

pub(super) use entry::{Idea, fill, ideas_of};
pub(crate) use entry::{check_ideas, has_ideas};
pub(super) use table::{exists, keep, recognise};

use super::StoreError;
use crate::clock::Timestamp;
use crate::file_changes::WatchedFile;
use crate::sqlite::{self, Anchor, BusyPolicy, DatabaseError, OpenError, free_space, open_as_guest};

/// An open database of ideas, shared by all threads of the process.
pub(super) struct IdeaDatabase {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Its path without links.
    home: PathBuf,
    anchor: Anchor,
}

impl IdeaDatabase {
    /// Opens the database, or creates an empty one, readable by its owner only. The table is created with the first
    /// ideas.
    pub(super) fn open(path: &Path, policy: &BusyPolicy) -> Result<Self, StoreError> {
        let (connection, home, anchor) = open(path, policy).map_err(|error| refusal(path, error))?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), home, anchor })
    }

    /// Writes ideas in a transaction of their own, which is on disk when this returns. Returns the row id of each.
    pub(super) fn keep(&self, ideas: &[Idea], now: Timestamp) -> Result<Vec<i64>, StoreError> {
        let rows = write(&mut self.connection.lock(), ideas, now).map_err(|error| match error {
            // It was usable before, so this error may pass or be fixed.
            OpenError::Sqlite(error) => match DatabaseError::of(&error) {
                reason if reason.passes || reason.can_be_mended => failed(&self.path, reason),
                _ => refusal(&self.path, OpenError::Sqlite(error)),
            },
            other => refusal(&self.path, other),
        })?;
        self.check_in_place().map(|()| rows)
    }

    /// Checks that there is free space beside it.
    pub(super) fn check_room(&self) -> Result<(), StoreError> {
        free_space::check(&self.home).map_err(|error| failed(&self.path, error))
    }

    /// Returns its path without links.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns its file.
    pub(super) fn file(&self) -> WatchedFile {
        self.anchor.file()
    }

    /// Checks that it is still in place.
    pub(super) fn check_in_place(&self) -> Result<(), StoreError> {
        let gone = |reason| StoreError::IdeasGone { path: self.path.clone(), reason };
        self.anchor.loss().map_or(Ok(()), |reason| Err(gone(reason)))
    }
}

fn open(path: &Path, policy: &BusyPolicy) -> Result<(Connection, PathBuf, Anchor), OpenError> {
    let mut connection = open_as_guest(path, policy, recognise)?;
    // The journal mode is not ours to choose, so a commit must be synced in any: FULL does not sync the folder of a
    // journal.
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    // Checks that it can be written.
    connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(Transaction::rollback)?;
    Ok((connection, path.canonicalize()?, Anchor::of(path)?))
}

fn write(connection: &mut Connection, ideas: &[Idea], now: Timestamp) -> Result<Vec<i64>, OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = keep(&transaction, ideas, now)?;
    transaction.commit()?;
    Ok(rows)
}

/// Returns the error for a database at `path` that cannot hold ideas.
pub(super) fn refusal(path: &Path, error: OpenError) -> StoreError {
    let unusable = |reason: String| StoreError::IdeasUnusable { path: path.to_owned(), reason };
    let error = match error {
        OpenError::Io(reason) | OpenError::Foreign(reason) => return unusable(reason),
        // It has no layout of ours.
        OpenError::Newer { .. } => return unusable("it belongs to a newer version of prismq".into()),
        OpenError::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable(sqlite::message(&error))
        }
        _ => failed(path, DatabaseError::of(&error)),
    }
}

fn failed(path: &Path, error: DatabaseError) -> StoreError {
    let DatabaseError { text, passes, can_be_mended } = error;
    StoreError::IdeasFailed { path: path.to_owned(), reason: text, passes, can_be_mended }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rusqlite::types::Value;

    use super::entry::fields;
    use super::*;

    fn idea() -> Idea {
        Idea { cells: fields().map(|name| (name == "title").then(|| Value::Text("a".into()))).collect() }
    }

    #[test]
    fn temporary_errors_of_the_database_are_retryable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ideas.db");
        let ideas = IdeaDatabase::open(&path, &BusyPolicy::default()).unwrap();
        let keep = || ideas.keep(&[idea()], Timestamp::UNIX_EPOCH);
        ideas.connection.lock().busy_timeout(Duration::ZERO).unwrap();
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let held = keep().unwrap_err();
        holder.execute_batch("ROLLBACK").unwrap();
        // For example if no open files are left for its journal.
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
