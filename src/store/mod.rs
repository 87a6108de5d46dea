//! The results file: what is in flight, and every result, on disk before anybody is told of it.
//!
//! One SQLite file that many processes open at once. The tables are documented; users query them.

mod checkup;
mod claims;
mod histogram;
mod ideas;
mod liveness;
mod results;
mod retention;
mod rollups;
mod rows;
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
use rusqlite::{Connection, ErrorCode, Row};
use serde_json::Value;

pub(crate) use ideas::check_ideas;
pub(crate) use results::{ResultFilter, ResultId, Status, StoredResult};
pub(crate) use retention::Pruning;
pub(crate) use statistics::{By, Group};
pub(crate) use unreported::Unreported;
pub use workers::Counters;
pub(crate) use workers::{Cause, LiveWorker, Process};

use ideas::IdeaDatabase;

use crate::sqlite::{
    self, Anchors, BusyPolicy, DatabaseError, Frozen, Layout, OpenError, OpenFile, ReadOnly, SharedConnection,
    WriteAheadLog, free_space,
};

/// What a results file looks like inside. Its mark is `PQrs` in ASCII.
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
};

/// Why the results file could not be used. The text is one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The path leads to nothing that can be a results file: the setting is wrong.
    #[error("cannot use the results file {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed: the disk is full, say.
    #[error("the results file {} cannot be read or written: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// Whether it passes by itself, as where another process holds the file.
        passes: bool,
        /// Whether it passes when somebody makes room, say: neither the file nor its content is wrong.
        can_be_mended: bool,
    },
    /// The file is not there any more, or another one is in its place: what is written now is lost.
    #[error("the results file {} {reason} while it was in use", path.display())]
    Gone {
        /// The file, or one of those beside it.
        path: PathBuf,
        /// What became of it.
        reason: &'static str,
    },
    /// There is no place for ideas: the setting is wrong, or a table of another make is in their place.
    #[error("cannot store ideas in {}: {reason}", path.display())]
    IdeasUnusable {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing ideas failed, in a database that is not the results file.
    #[error("the database of ideas {} cannot be read or written: {reason}", path.display())]
    IdeasFailed {
        /// The database.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// Whether it passes by itself, as where another program holds the database.
        passes: bool,
        /// Whether it passes when somebody makes room, say.
        can_be_mended: bool,
    },
    /// The database of ideas is not there any more, or another one is in its place.
    #[error("the database of ideas {} {reason} while it was in use", path.display())]
    IdeasGone {
        /// The database.
        path: PathBuf,
        /// What became of it.
        reason: &'static str,
    },
    /// A live process of the same results file has this worker id.
    #[error("worker id {worker_id} is in use on this results file by process {pid}")]
    WorkerIdInUse {
        /// The worker id.
        worker_id: String,
        /// The process that has it.
        pid: u32,
    },
}

impl StoreError {
    /// Whether the same may be written later, without anybody's help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Failed { passes: true, .. } | Self::IdeasFailed { passes: true, .. })
    }

    /// Whether the same may be written later, once somebody has made room, say, or by itself.
    #[must_use]
    pub fn can_be_mended(&self) -> bool {
        matches!(self, Self::Failed { can_be_mended: true, .. } | Self::IdeasFailed { can_be_mended: true, .. })
    }

    /// Whether it is ideas that could not be kept, rather than results.
    #[must_use]
    pub fn is_of_ideas(&self) -> bool {
        matches!(self, Self::IdeasUnusable { .. } | Self::IdeasFailed { .. } | Self::IdeasGone { .. })
    }
}

/// An open results file, shared by all threads of the process.
pub struct Store {
    connection: SharedConnection,
    /// What brings commits to disk, if they go to a file.
    log: Option<WriteAheadLog>,
    path: PathBuf,
    /// Where it really lies: its log and the locks of its processes are beside it, whichever link has led there.
    home: PathBuf,
    /// What must stay where it is: the file, its log, and what its processes share.
    anchors: Anchors,
    /// Where ideas go, if not into the results file.
    ideas: Option<IdeaDatabase>,
    busy: BusyPolicy,
    /// Where it is read as if nobody wrote to it: whether that is so.
    frozen: Option<Frozen>,
}

impl Store {
    /// Opens the file, or makes it with the folders it lies in, readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let busy = BusyPolicy::default();
        let file = LAYOUT.open(path, &busy).map_err(|error| refusal(path, error))?;
        let OpenFile { connection, home, log, anchors } = file;
        Ok(Self { log: Some(log), anchors, busy, ..Self::without_log(connection, path, home) })
    }

    /// Opens the file for reading alone. Where it can be written to, that is as [`Store::open`] does it: an older layout is
    /// brought up to date. Else it is read as it is, and nothing is made beside it; of an older layout, or with a log that
    /// cannot be read in its place, a temporary copy is.
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

    /// What [`Store::open`] would make of a file that is not there, in memory alone. An error where it could not.
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

    /// The same, with ideas going to the database at `path`, which may be the results file. An error where they cannot.
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

    /// Whether it has been given a place for ideas, or has some.
    pub fn holds_ideas(&self) -> Result<bool, StoreError> {
        if self.ideas.is_some() { Ok(true) } else { self.with(|connection| ideas::exists(connection)) }
    }

    /// What is wrong with the table of ideas in the results file, where that is what is wrong.
    fn ideas_refused(&self, error: OpenError) -> rusqlite::Result<StoreError> {
        match error {
            OpenError::Sqlite(error) => Err(error),
            other => Ok(ideas::refusal(&self.path, other)),
        }
    }

    /// Whether it is still there, as is the database of ideas. Where it is not, what is written is lost.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        self.check_results_in_place()?;
        self.ideas.as_ref().map_or(Ok(()), IdeaDatabase::check_in_place)
    }

    fn check_results_in_place(&self) -> Result<(), StoreError> {
        let gone = |(path, reason): (&Path, _)| StoreError::Gone { path: path.to_owned(), reason };
        self.anchors.loss().map_or(Ok(()), |loss| Err(gone(loss)))
    }

    /// Waits no more for other processes that hold it, or the database of ideas: this process ends.
    pub fn end_waits(&self) {
        self.busy.end_waits();
    }

    /// Whether there is room for more beside it, and beside the database of ideas, as much as a task of some length needs.
    pub fn check_room(&self) -> Result<(), StoreError> {
        free_space::check(&self.home).map_err(|error| self.failed(error))?;
        self.ideas.as_ref().map_or(Ok(()), IdeaDatabase::check_room)
    }

    /// For how much room [`Store::check_room`] looks where this went wrong, in bytes.
    #[must_use]
    pub fn room_needed(&self, error: &StoreError) -> u64 {
        let ideas = self.ideas.as_ref().filter(|_| error.is_of_ideas());
        free_space::needed(ideas.map_or(self.home.as_path(), IdeaDatabase::home))
    }

    /// Runs `work` on the connection. Another module may have tables of its own, whose layout is among the migrations.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let done = self.connection.alone(work);
        // Where it was changed, that is why reading it failed.
        let unchanged = self.frozen.as_ref().map_or(Ok(()), Frozen::check);
        unchanged.and(done).map_err(|error| self.failed(error))
    }

    /// Makes a change in a transaction that other threads may share; it is committed when this returns.
    fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.connection.together(change).map_err(|error| self.failed(error))
    }

    /// Waits until all that this process has committed is on disk. Nobody is held up by that.
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

/// Why the file at `path` cannot be opened.
fn refusal(path: &Path, error: OpenError) -> StoreError {
    let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
    let error = match error {
        OpenError::Io(reason) | OpenError::Foreign(reason) => return unusable(reason),
        OpenError::Newer { found, known } => {
            return unusable(format!(
                "it belongs to a newer version of prismq (its schema is {found}, this version knows {known})"
            ));
        }
        OpenError::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unusable(format!("it is not an SQLite database{}", what_else(path))),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable(format!("cannot write to it or create files beside it: {}", sqlite::words(&error)))
        }
        _ => failed(path, DatabaseError::of(&error)),
    }
}

/// What a file is that people mistake for a database, and what to do about it.
fn what_else(path: &Path) -> &'static str {
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

/// Times are text of one length, so that they sort and compare as text: `2026-11-22T03:18:35.123Z`.
pub(crate) fn to_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// JSON in a text column; null where the column is.
pub(crate) fn json_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// A time in a text column.
fn time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(optional_time_column(row, column)?.unwrap_or_default())
}

/// The same, `None` where the column is null.
fn optional_time_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        Timestamp::from_str(&text)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
    })
    .transpose()
}
