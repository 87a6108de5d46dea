//! Why a database cannot be opened, read or written, in words for people.

use std::io;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use super::busy;
use crate::{os_error, text_file};

/// Why a file cannot be opened as a database of ours.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The file, or one beside it, cannot be made, opened or read; why.
    Io(String),
    /// It is a database, but not ours; in what way.
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
    /// Whether that passes by itself.
    pub(crate) passes: bool,
    /// Whether it passes when somebody makes room, for example.
    pub(crate) can_be_mended: bool,
}

/// What passes by itself. SQLite reports a lack of open files or memory as the last two.
const PASSING: [ErrorCode; 3] = [ErrorCode::DatabaseBusy, ErrorCode::CannotOpen, ErrorCode::OutOfMemory];
/// What passes when somebody makes room, or lets the disk be written to. SQLite reports a used-up quota, a file system
/// that became read-only, and a failing disk as one of these; a change that was undone because of them, as the last.
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
        Self { text: explain(error), passes, can_be_mended: passes || is_of(&MENDABLE) }
    }

    /// One that passes when somebody does something about it.
    pub(crate) fn mendable(text: impl Into<String>) -> Self {
        Self { can_be_mended: true, ..Self::lasting(text) }
    }

    /// One that does not pass.
    pub(crate) fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), passes: false, can_be_mended: false }
    }
}

/// One that passes when somebody makes room.
impl From<&io::Error> for DatabaseError {
    fn from(error: &io::Error) -> Self {
        Self::mendable(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".into(),
            _ => os_error::words(error),
        })
    }
}

fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError};
    match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::DiskFull), _) => "the disk is full".into(),
        // The file beside the database that its processes share cannot grow.
        _ if error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHMSIZE) => "the disk is full".into(),
        (Some(ErrorCode::DatabaseBusy), _) => busy::explain(),
        (Some(ErrorCode::SystemIoFailure), _) => {
            format!("{error}: is the disk full, over its quota, read-only, or failing?")
        }
        (Some(ErrorCode::DatabaseCorrupt), _)
        | (None, FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..)) => {
            format!("it is damaged: {error}")
        }
        // What follows in its text is the statement, which says nothing to a person.
        (_, SqlInputError { msg, .. }) => format!("it is damaged: {msg}"),
        _ => error.to_string(),
    }
}
