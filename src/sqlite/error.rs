//! Errors on opening, reading and writing a database, in words for people.

use std::io;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use super::busy;
use crate::{os_error, text_file};

/// Why a file cannot be opened as one of our databases.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The file, or one beside it, cannot be created, opened or read.
    Io(String),
    /// It is not one of our databases; what it is instead.
    Foreign(String),
    /// A newer version of prismq has changed its layout.
    Newer {
        found: u32,
        known: u32,
    },
    Sqlite(rusqlite::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(text_file::reason(&error))
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Why an open database could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseError {
    pub(crate) text: String,
    /// Whether it passes by itself.
    pub(crate) passes: bool,
    /// Whether it passes when somebody frees space, for example.
    pub(crate) can_be_mended: bool,
}

/// Errors that pass by themselves. SQLite reports a lack of open files or memory as the last two.
const PASSING: [ErrorCode; 3] = [ErrorCode::DatabaseBusy, ErrorCode::CannotOpen, ErrorCode::OutOfMemory];
/// Errors that pass when somebody frees space or makes the disk writable. SQLite reports a used-up quota, a file system
/// that became read-only, and a failing disk as one of these; a change rolled back because of them as the last.
const MENDABLE: [ErrorCode; 5] = [
    ErrorCode::DiskFull,
    ErrorCode::SystemIoFailure,
    ErrorCode::ReadOnly,
    ErrorCode::PermissionDenied,
    ErrorCode::OperationAborted,
];

impl DatabaseError {
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let is_of = |codes: &[ErrorCode]| code.is_some_and(|code| codes.contains(&code));
        let passes = is_of(&PASSING);
        let text = if code == Some(ErrorCode::DatabaseBusy) { busy::explain() } else { message(error) };
        Self { text, passes, can_be_mended: passes || is_of(&MENDABLE) }
    }

    /// Creates an error that passes when somebody fixes the cause.
    pub(crate) fn mendable(text: impl Into<String>) -> Self {
        Self { can_be_mended: true, ..Self::lasting(text) }
    }

    /// Creates an error that does not pass.
    pub(crate) fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), passes: false, can_be_mended: false }
    }
}

/// Such an error passes when somebody frees space.
impl From<&io::Error> for DatabaseError {
    fn from(error: &io::Error) -> Self {
        Self::mendable(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".into(),
            _ => os_error::message(error),
        })
    }
}

/// Returns what `error` says about a database file, in plain words for all that users meet. SQLite's own words take a
/// programmer: `database disk image is malformed`.
pub(crate) fn message(error: &rusqlite::Error) -> String {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError, SqliteFailure,
    };
    // The shared-memory file beside the database cannot grow.
    if error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHMSIZE) {
        return "the disk is full".to_owned();
    }
    let known = match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::DiskFull), _) => "the disk is full",
        (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => "another process holds it",
        (Some(ErrorCode::ReadOnly), _) => "it is read-only",
        (Some(ErrorCode::CannotOpen), _) => "it cannot be opened",
        (Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied), _) => "permission denied",
        (Some(ErrorCode::SystemIoFailure), _) => {
            "input/output error: is the disk full, over its quota, read-only, or failing?"
        }
        (Some(ErrorCode::NotADatabase), _) => "it is not an SQLite database",
        (Some(ErrorCode::DatabaseCorrupt), _) => "it is damaged",
        (Some(ErrorCode::OutOfMemory), _) => "out of memory",
        (Some(ErrorCode::TooBig), _) => "a value is too long for it",
        (Some(ErrorCode::OperationInterrupted | ErrorCode::OperationAborted), _) => "the operation was interrupted",
        // The text of the first also holds the statement, which tells a person nothing.
        (_, SqlInputError { msg, .. }) => return format!("it is damaged: {msg}"),
        (_, SqliteFailure(_, Some(msg))) if msg.starts_with("no such ") => {
            return format!("it is damaged: {msg}");
        }
        (_, FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..)) => {
            return format!("it is damaged: {error}");
        }
        _ => return error.to_string(),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use rusqlite::{Error, ffi};

    use super::*;

    #[test]
    fn no_usual_error_is_told_in_the_words_of_sqlite() {
        for (code, expected) in [
            (ffi::SQLITE_FULL, "the disk is full"),
            (ffi::SQLITE_IOERR_SHMSIZE, "the disk is full"),
            (ffi::SQLITE_BUSY, "another process holds it"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "another process holds it"),
            (ffi::SQLITE_LOCKED, "another process holds it"),
            (ffi::SQLITE_READONLY, "it is read-only"),
            (ffi::SQLITE_READONLY_DBMOVED, "it is read-only"),
            (ffi::SQLITE_CANTOPEN, "it cannot be opened"),
            (ffi::SQLITE_PERM, "permission denied"),
            (ffi::SQLITE_AUTH, "permission denied"),
            (ffi::SQLITE_IOERR_FSYNC, "input/output error: is the disk full, over its quota, read-only, or failing?"),
            (ffi::SQLITE_NOTADB, "it is not an SQLite database"),
            (ffi::SQLITE_CORRUPT, "it is damaged"),
            (ffi::SQLITE_CORRUPT_INDEX, "it is damaged"),
            (ffi::SQLITE_NOMEM, "out of memory"),
            (ffi::SQLITE_TOOBIG, "a value is too long for it"),
            (ffi::SQLITE_INTERRUPT, "the operation was interrupted"),
            (ffi::SQLITE_ABORT, "the operation was interrupted"),
        ] {
            let theirs = Some("words of the library".to_owned());
            assert_eq!(message(&Error::SqliteFailure(ffi::Error::new(code), theirs)), expected, "{code}");
        }
    }
}
