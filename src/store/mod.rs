//! The results file: what is in flight, and every result, on disk before anybody is told of it.
//!
//! One SQLite file that many processes open at once. The tables are documented; users query them.

mod busy;
mod checkup;
mod claims;
mod columns;
mod histogram;
mod ideas;
mod last_words;
mod liveness;
mod migrations;
mod prune;
mod reading;
mod results;
mod rollups;
mod room;
mod statistics;
mod sync;
#[cfg(test)]
mod tests;
mod turns;
mod unclaimed;
mod unreported;
mod workers;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{Access, access};

pub(crate) use columns::json_column;
pub(crate) use ideas::check_ideas;
pub(crate) use prune::Pruning;
pub(crate) use results::{ResultFilter, ResultId, Status, StoredResult};
pub(crate) use statistics::{By, Group};
pub(crate) use unclaimed::{Cause, LiveWorker};
pub(crate) use unreported::Unreported;
pub use workers::Counters;
pub(crate) use workers::Process;

use busy::{BUSY_TIMEOUT, Patience};
use ideas::IdeaDatabase;
use reading::{Frozen, refusal};
use sync::SharedSync;
use turns::Turns;

use crate::os_error;
use crate::sqlite::anchor::Anchors;
use crate::text_file;

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
    #[error("cannot keep ideas in {}: {reason}", path.display())]
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
    turns: Turns,
    /// What brings commits to disk, where they go to a file.
    log: Option<SharedSync>,
    path: PathBuf,
    /// Where it really lies: its log and the locks of its processes are beside it, whichever link has led there.
    home: PathBuf,
    /// What must stay where it is: the file, its log, and what its processes share.
    anchors: Anchors,
    /// Where ideas go, if not into the results file.
    ideas: Option<IdeaDatabase>,
    patience: Patience,
    /// Where it is read as if nobody wrote to it: whether that is so.
    frozen: Option<Frozen>,
}

impl Store {
    /// Opens the file, or makes it with the folders it lies in, readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        create(path).map_err(|error| unusable(text_file::unwritable(&error)))?;
        let mut connection = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
        prepare(&mut connection).map_err(|error| refusal(path, error))?;
        let home = path.canonicalize().map_err(|error| unusable(text_file::reason(&error)))?;
        let log = SharedSync::open(&home)
            .map_err(|error| unusable(format!("its write-ahead log: {}", os_error::words(&error))))?;
        let anchors = Anchors::of_database(path).map_err(|error| unusable(text_file::reason(&error)))?;
        let (turns, path) = (Turns::new(connection), path.to_owned());
        Ok(Self {
            turns,
            log: Some(log),
            path,
            home,
            anchors,
            ideas: None,
            frozen: None,
            patience: Patience::default(),
        })
    }

    /// The same, with ideas going to the database at `path`, which may be the results file. An error where they cannot.
    pub fn with_ideas_in(mut self, path: &Path) -> Result<Self, StoreError> {
        if !is_same_file(&self.path, path) {
            self.ideas = Some(IdeaDatabase::open(path, self.patience.clone())?);
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
    fn ideas_refused(&self, error: migrations::Error) -> rusqlite::Result<StoreError> {
        match error {
            migrations::Error::Foreign(reason) => Ok(StoreError::IdeasUnusable { path: self.path.clone(), reason }),
            migrations::Error::Sqlite(error) => Err(error),
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
        self.patience.end();
    }

    /// Whether there is room for more beside it, and beside the database of ideas, as much as a task of some length needs.
    pub fn check_room(&self) -> Result<(), StoreError> {
        room::check(&self.home).map_err(|reason| self.failed(reason))?;
        self.ideas.as_ref().map_or(Ok(()), IdeaDatabase::check_room)
    }

    /// For how much room [`Store::check_room`] looks where this went wrong, in bytes.
    #[must_use]
    pub fn room_needed(&self, error: &StoreError) -> u64 {
        let ideas = self.ideas.as_ref().filter(|_| error.is_of_ideas());
        room::needed(ideas.map_or(self.home.as_path(), IdeaDatabase::home))
    }

    /// Runs `work` on the connection. Another module may have tables of its own, whose layout is among the migrations.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.patience.apply();
        let done = self.turns.alone(work);
        // Where it was changed, that is why reading it failed.
        let unchanged = self.frozen.as_ref().map_or(Ok(()), Frozen::check);
        unchanged.and(done).map_err(|reason| reason.for_file(&self.path))
    }

    /// Runs `work` in a transaction that other slots may share, all of it or nothing; it is committed when this returns.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.patience.apply();
        self.turns.together(work).map_err(|reason| reason.for_file(&self.path))
    }

    /// Waits until all that this process has committed is on disk. Nobody is held up by that.
    fn sync(&self) -> Result<(), StoreError> {
        self.log.as_ref().map_or(Ok(()), SharedSync::sync).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: String) -> StoreError {
        StoreError::Failed { path: self.path.clone(), reason, passes: false, can_be_mended: true }
    }
}

/// The path with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether two paths lead to the same file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    one == other || file(one).is_some_and(|it| file(other) == Some(it))
}

/// Whether [`create`] could make the file and the folders that it lies in, none of which this makes.
fn check_creatable(path: &Path) -> io::Result<()> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("."));
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Makes the file, so that it has the right mode before SQLite writes to it; its `-wal` takes the mode over.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // SQLite would wait for what others write into a pipe.
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("it is not a file")) }
}

fn prepare(connection: &mut Connection) -> Result<(), migrations::Error> {
    busy::wait_on(connection)?;
    // Closing another program's database must not tidy it up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    migrations::recognise(connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    log_ahead(connection)?;
    // A commit is not synced; what must survive a power cut is, by `Store::sync`. Checkpoints are synced.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Otherwise SQLite compiles a statement anew for each value that its plan might depend on.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    migrations::apply(connection)
}

/// Turns write-ahead logging on. Where another process is just doing the same, SQLite does not wait for it: we do.
fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let done = connection.pragma_update(None, "journal_mode", "WAL");
        let is_busy = done.as_ref().is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
        if !is_busy || start.elapsed() >= BUSY_TIMEOUT {
            busy::waited(start.elapsed());
            return done;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Why SQLite failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reason {
    text: String,
    /// Whether that passes by itself.
    passes: bool,
    /// Whether it passes when somebody makes room, say.
    can_be_mended: bool,
}

/// What passes by itself. The last two are what SQLite makes of a want of open files or memory.
const PASSING: [ErrorCode; 3] = [ErrorCode::DatabaseBusy, ErrorCode::CannotOpen, ErrorCode::OutOfMemory];
/// What passes when somebody makes room, or lets the disk be written to. All but the first are what SQLite makes of a quota
/// that is used up, a file system that has become read-only, and a disk that fails.
const MENDABLE: [ErrorCode; 4] =
    [ErrorCode::DiskFull, ErrorCode::SystemIoFailure, ErrorCode::ReadOnly, ErrorCode::PermissionDenied];

impl Reason {
    fn of(error: &rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError};
        let code = error.sqlite_error_code();
        let text = match code {
            Some(ErrorCode::DiskFull) => "the disk is full".into(),
            // The file beside the database that its processes share cannot grow.
            _ if error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHMSIZE) => "the disk is full".into(),
            Some(ErrorCode::DatabaseBusy) => busy::explain(),
            Some(ErrorCode::SystemIoFailure) => {
                format!("{error}: is the disk full, over its quota, read-only, or failing?")
            }
            Some(ErrorCode::DatabaseCorrupt) => format!("it is damaged: {error}"),
            None if matches!(
                error,
                FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..)
            ) =>
            {
                format!("it is damaged: {error}")
            }
            _ => match error {
                // What follows in its text is the statement, which says nothing to a person.
                SqlInputError { msg, .. } => format!("it is damaged: {msg}"),
                _ => error.to_string(),
            },
        };
        let is_of = |codes: &[ErrorCode]| code.is_some_and(|code| codes.contains(&code));
        let passes = is_of(&PASSING);
        Self { text, passes, can_be_mended: passes || is_of(&MENDABLE) }
    }

    fn for_file(self, path: &Path) -> StoreError {
        let Self { text, passes, can_be_mended } = self;
        StoreError::Failed { path: path.to_owned(), reason: text, passes, can_be_mended }
    }

    fn for_ideas(self, path: &Path) -> StoreError {
        let Self { text, passes, can_be_mended } = self;
        StoreError::IdeasFailed { path: path.to_owned(), reason: text, passes, can_be_mended }
    }
}

/// One that does not pass.
impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), passes: false, can_be_mended: false }
    }
}

/// Times are text of one length, so that they sort and compare as text: `2026-11-22T03:18:35.123Z`.
pub(crate) fn to_text(time: Timestamp) -> String {
    format!("{time:.3}")
}
