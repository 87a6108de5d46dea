//! The results file: tasks in flight and every result, stored before anything is reported.
//!
//! One SQLite file that many processes open at once. Its tables are documented, and users query them.

mod claims;
mod histogram;
mod ideas;
mod integrity;
mod liveness;
mod results;
mod retention;
mod rollups;
mod statistics;
#[cfg(test)]
mod tests;
mod unreported;
mod workers;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, Params, Row, Transaction, TransactionBehavior};
use serde_json::Value;

pub(crate) use ideas::{check_ideas, has_ideas};
pub(crate) use results::{ResultFilter, ResultId, ResultStatus, StoredResult};
pub(crate) use retention::Pruning;
pub(crate) use statistics::{By, Group};
pub(crate) use unreported::Unreported;
pub use workers::Counters;
pub(crate) use workers::{Cause, ClaimingPause, LiveWorker, Process};

use ideas::IdeaDatabase;

use crate::file_changes::WatchedFile;
use crate::sqlite::{
    self, Anchors, BusyPolicy, DatabaseError, Frozen, Layout, OpenError, OpenFile, ReadOnly, SharedConnection,
    WriteAheadLog, free_space,
};

/// The layout of a results file. Its application id is `PQrs` in ASCII.
const LAYOUT: Layout = Layout {
    application_id: 0x5051_7273,
    migrations: &[
        |it| it.execute_batch(include_str!("migrations/1.sql")),
        |it| it.execute_batch(include_str!("migrations/2.sql")).and_then(|()| rollups::add_after(it, 0)),
        |it| it.execute_batch(include_str!("migrations/3.sql")),
        |it| it.execute_batch(include_str!("migrations/4.sql")),
        |it| it.execute_batch(include_str!("migrations/5.sql")),
        |it| it.execute_batch(include_str!("migrations/6.sql")),
        |it| it.execute_batch(include_str!("migrations/7.sql")),
    ],
    statements: 32,
    // Results are appended: few pages are read again.
    page_cache: 512,
};

/// Why the results file could not be used. The text is one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The path cannot be a results file: the setting is wrong.
    #[error("cannot use the results file {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed, for example because the disk is full.
    #[error("the results file {} cannot be read or written: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// Whether it passes by itself, for example when another process holds the file.
        passes: bool,
        /// Whether it passes when somebody frees space, for example: neither the file nor its content is wrong.
        can_be_mended: bool,
    },
    /// The file was removed or replaced: what is written now is lost.
    #[error("the results file {} {reason} while it was in use", path.display())]
    Gone {
        /// The file, or one of those beside it.
        path: PathBuf,
        /// What happened to it.
        reason: &'static str,
    },
    /// Ideas cannot be stored there: the setting is wrong, or another program's table has their name.
    #[error("cannot store ideas in {}: {reason}", path.display())]
    IdeasUnusable {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing ideas failed, in a database other than the results file.
    #[error("the database of ideas {} cannot be read or written: {reason}", path.display())]
    IdeasFailed {
        /// The database.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// Whether it passes by itself, for example when another process holds the file.
        passes: bool,
        /// Whether it passes when somebody frees space, for example: neither the file nor its content is wrong.
        can_be_mended: bool,
    },
    /// The database of ideas was removed or replaced.
    #[error("the database of ideas {} {reason} while it was in use", path.display())]
    IdeasGone {
        /// The database.
        path: PathBuf,
        /// What happened to it.
        reason: &'static str,
    },
    /// A live process on the same results file uses this worker id.
    #[error("worker id {worker_id} is in use on this results file by process {pid}")]
    WorkerIdInUse {
        /// The worker id.
        worker_id: String,
        /// The process that has it.
        pid: u32,
    },
}

impl StoreError {
    /// Whether retrying may succeed without anybody's help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Failed { passes: true, .. } | Self::IdeasFailed { passes: true, .. })
    }

    /// Whether retrying may succeed, by itself or once somebody has freed space, for example.
    #[must_use]
    pub fn can_be_mended(&self) -> bool {
        matches!(self, Self::Failed { can_be_mended: true, .. } | Self::IdeasFailed { can_be_mended: true, .. })
    }

    /// Whether ideas could not be stored, rather than results.
    #[must_use]
    pub fn is_of_ideas(&self) -> bool {
        matches!(self, Self::IdeasUnusable { .. } | Self::IdeasFailed { .. } | Self::IdeasGone { .. })
    }
}

/// An open results file, shared by all threads of the process.
pub struct Store {
    connection: SharedConnection,
    /// Syncs commits to disk; `None` if the database is in memory.
    log: Option<WriteAheadLog>,
    path: PathBuf,
    /// Its path without links: its log and its processes' locks are beside it.
    home: PathBuf,
    /// Files that must stay in place: the file, its log, and its shared memory.
    anchors: Anchors,
    /// The database of ideas, if that is not the results file.
    ideas: Option<IdeaDatabase>,
    busy: BusyPolicy,
    /// Checks that nobody writes to a file that is read without locks.
    frozen: Option<Frozen>,
}

impl Store {
    /// Opens the file, or creates it and its folders, readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let busy = BusyPolicy::default();
        let file = LAYOUT.open(path, &busy).map_err(|error| refusal(path, error))?;
        let OpenFile { connection, home, log, anchors } = file;
        Ok(Self { log: Some(log), anchors, busy, ..Self::without_log(connection, path, home) })
    }

    /// Opens the file for reading. If it is writable, it is opened as by [`Store::open`], and an older layout is
    /// upgraded. Otherwise it is read as it is, and nothing is created beside it; if its layout is older, or its log
    /// cannot be read in place, a temporary copy is read.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::Unusable { .. } | StoreError::Failed { passes: false, .. }) => {}
            other => return other,
        }
        let busy = BusyPolicy::default();
        let file = LAYOUT.open_read_only(path, &busy).map_err(|error| refusal(path, error))?;
        let ReadOnly { connection, home, frozen } = file;
        Ok(Self { busy, frozen, ..Self::without_log(connection, path, home) })
    }

    /// Returns an empty store in memory, as [`Store::open`] would create it. An error if it could not.
    pub fn unmade(path: &Path) -> Result<Self, StoreError> {
        sqlite::check_creatable(path).map_err(|error| refusal(path, error))?;
        let connection = LAYOUT.in_memory().map_err(|error| refusal(path, error.into()))?;
        Ok(Self::without_log(connection, path, path.to_owned()))
    }

    fn without_log(connection: Connection, path: &Path, home: PathBuf) -> Self {
        Self {
            connection: SharedConnection::new(connection),
            log: None,
            path: path.to_owned(),
            home,
            anchors: Anchors::default(),
            ideas: None,
            busy: BusyPolicy::default(),
            frozen: None,
        }
    }

    /// Stores ideas in the database at `path`, which may be the results file. An error if that is not possible.
    pub fn with_ideas_in(mut self, path: &Path) -> Result<Self, StoreError> {
        if !sqlite::is_same_file(&self.path, path) {
            self.ideas = Some(IdeaDatabase::open(path, &self.busy)?);
            return Ok(self);
        }
        self.with(|connection| match ideas::recognise(connection) {
            Ok(()) => Ok(Ok(())),
            Err(error) => self.ideas_refused(error).map(Err),
        })??;
        Ok(self)
    }

    /// Whether ideas are stored, or have been.
    pub fn holds_ideas(&self) -> Result<bool, StoreError> {
        if self.ideas.is_some() { Ok(true) } else { self.with(|connection| ideas::exists(connection)) }
    }

    /// Returns the error for a wrong table of ideas in the results file, if that is the cause.
    fn ideas_refused(&self, error: OpenError) -> rusqlite::Result<StoreError> {
        match error {
            OpenError::Sqlite(error) => Err(error),
            other => Ok(ideas::refusal(&self.path, other)),
        }
    }

    /// Checks that the file and the database of ideas are still in place. If not, what is written is lost.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        self.check_results_in_place()?;
        self.ideas.as_ref().map_or(Ok(()), IdeaDatabase::check_in_place)
    }

    /// Returns the files that must stay in place.
    pub(crate) fn files(&self) -> Vec<WatchedFile> {
        let ideas = self.ideas.iter().map(IdeaDatabase::file);
        self.anchors.files().chain(ideas).collect()
    }

    fn check_results_in_place(&self) -> Result<(), StoreError> {
        let gone = |(path, reason): (&Path, _)| StoreError::Gone { path: path.to_owned(), reason };
        self.anchors.loss().map_or(Ok(()), |loss| Err(gone(loss)))
    }

    /// Stops waiting for other processes that hold a database: this process exits.
    pub fn end_waits(&self) {
        self.busy.end_waits();
    }

    /// Checks that there is free space for both databases, enough for a long task.
    pub fn check_room(&self) -> Result<(), StoreError> {
        free_space::check(&self.home).map_err(|error| self.failed(error))?;
        self.ideas.as_ref().map_or(Ok(()), IdeaDatabase::check_room)
    }

    /// Returns the free space, in bytes, that [`Store::check_room`] needs after this error.
    #[must_use]
    pub fn room_needed(&self, error: &StoreError) -> u64 {
        let ideas = self.ideas.as_ref().filter(|_| error.is_of_ideas());
        free_space::needed(ideas.map_or(self.home.as_path(), IdeaDatabase::home))
    }

    /// Runs `work` on the connection. Other modules may have tables of their own, whose layout is among the migrations.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = self.connection.alone(work);
        // If the file was changed meanwhile, that is why reading failed.
        let unchanged = self.frozen.as_ref().map_or(Ok(()), Frozen::check);
        unchanged.and(done).map_err(|error| self.failed(error))
    }

    /// Runs `work` in a transaction of its own that may write, and commits it unless `work` fails.
    fn transaction<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Executes one statement.
    fn execute(&self, sql: &str, values: impl Params) -> Result<(), StoreError> {
        self.with(|connection| connection.prepare_cached(sql)?.execute(values).map(drop))
    }

    /// Makes a change in a transaction that other threads may share. Returns when it is committed.
    fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.connection.together(change).map_err(|error| self.failed(error))
    }

    /// Waits until all of this process's commits are on disk. Holds nobody up.
    fn sync(&self) -> Result<(), StoreError> {
        self.log.as_ref().map_or(Ok(()), WriteAheadLog::sync).map_err(|error| self.failed(DatabaseError::from(&*error)))
    }

    fn failed(&self, error: DatabaseError) -> StoreError {
        failed(&self.path, error)
    }
}

fn failed(path: &Path, error: DatabaseError) -> StoreError {
    let DatabaseError { text, passes, can_be_mended } = error;
    StoreError::Failed { path: path.to_owned(), reason: text, passes, can_be_mended }
}

/// Turns an error on opening `path` into a [`StoreError`].
fn refusal(path: &Path, error: OpenError) -> StoreError {
    let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
    let error = match error {
        OpenError::Io(reason) | OpenError::Foreign(reason) => return unusable(reason),
        OpenError::Newer { found, known } => {
            return unusable(format!(
                "it belongs to a newer version of prismq (its layout is {found}, this version knows {known})"
            ));
        }
        OpenError::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unusable(format!("it is not an SQLite database{}", lookalike_hint(path))),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable(format!("cannot write to it or create files beside it: {}", sqlite::message(&error)))
        }
        _ => failed(path, DatabaseError::of(&error)),
    }
}

/// Names a file that people mistake for a database, and says what to do.
fn lookalike_hint(path: &Path) -> &'static str {
    let mut start = [0; 6];
    let read = File::open(path).and_then(|mut file| file.read(&mut start));
    match &start[..read.unwrap_or(0)] {
        [0x1f, 0x8b, ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [b'B', b'Z', b'h', ..]
        | [b'P', b'K', ..] => ", but a compressed file: unpack it first",
        b"PRAGMA" | b"BEGIN " => ", but a dump of one: restore it with `sqlite3 results.db <DUMP`",
        _ => "",
    }
}

/// Formats a time as text of fixed length, so that times sort as text: `2026-11-22T03:18:35.123Z`.
pub(crate) fn to_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Reads JSON from a text column; null if the column is null.
pub(crate) fn json_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// Reads a time from a text column.
fn time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(optional_time_column(row, column)?.unwrap_or_default())
}

/// Reads a time from a text column; `None` if the column is null.
fn optional_time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        Timestamp::from_str(&text)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
    })
    .transpose()
}
