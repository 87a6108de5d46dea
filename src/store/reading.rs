//! Opening a results file for who only reads it, also where nothing can be written to it or beside it: a copy, a file
//! of another user, a read-only mount, a full disk.
//!
//! SQLite makes `-shm` beside a database with a write-ahead log before it reads it, unless it is told that nobody
//! changes the file; then it leaves out the log. So how such a file is read goes by what lies beside it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::busy::{Patience, wait_on};
use super::turns::Turns;
use super::{Reason, Store, StoreError, beside, check_creatable, migrations};
use crate::os_error;
use crate::sqlite::anchor::Anchors;
use crate::text_file;

/// What may lie beside a database and belong to its content.
const PARTS: [&str; 3] = ["", "-wal", "-journal"];

/// So often a file is copied that changes meanwhile.
const TRIES: usize = 3;

/// The byte of a database's header that says how to read it: 2 is with a write-ahead log.
const READ_VERSION: usize = 19;

impl Store {
    /// Opens the file for reading alone. Where it can be written to, that is as [`Store::open`] does it: an older layout is
    /// brought up to date. Else it is read as it is, and nothing is made beside it; of an older layout, or with a log that
    /// cannot be read in its place, a temporary copy is.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::Unusable { .. } | StoreError::Failed { passes: false, .. }) => open_as_it_is(path),
            other => other,
        }
    }

    /// What [`Store::open`] would make of a file that is not there, in memory alone. An error where it could not.
    pub fn unmade(path: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        check_creatable(path).map_err(|error| unusable(text_file::unwritable(&error)))?;
        Self::in_memory(path)
    }

    /// An empty one.
    fn in_memory(path: &Path) -> Result<Self, StoreError> {
        let of_sqlite = |error| refusal(path, migrations::Error::Sqlite(error));
        let mut connection = Connection::open_in_memory().map_err(of_sqlite)?;
        migrations::apply(&mut connection).map_err(|error| refusal(path, error))?;
        let (turns, path) = (Turns::new(connection), path.to_owned());
        Ok(Self {
            turns,
            log: None,
            home: path.clone(),
            path,
            anchors: Anchors::default(),
            ideas: None,
            frozen: None,
            patience: Patience::default(),
        })
    }

    /// One of which nothing is to be written.
    fn to_read(connection: Connection, path: &Path, home: PathBuf, frozen: Option<Frozen>) -> Self {
        let (turns, path) = (Turns::new(connection), path.to_owned());
        Self {
            turns,
            log: None,
            path,
            home,
            anchors: Anchors::default(),
            ideas: None,
            frozen,
            patience: Patience::default(),
        }
    }
}

/// A file that is read without its locks: nobody may change it meanwhile.
pub(super) struct Frozen {
    path: PathBuf,
    seen: Option<Seen>,
}

/// What of a file changes when somebody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let it = fs::metadata(path).ok()?;
        Some(Self { file: (it.dev(), it.ino()), size: it.size(), modified: (it.mtime(), it.mtime_nsec()) })
    }
}

impl Frozen {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Seen::of(path) }
    }

    /// Whether what was read since is what the file held.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if Seen::of(&self.path) == self.seen { Ok(()) } else { Err("it changed while being read; try again".into()) }
    }
}

/// How to read a file that cannot be written to.
enum Way {
    /// As ever: all that is needed is there.
    Shared,
    /// Without locks: there is no log.
    Frozen,
    /// A copy of it, with its log or journal.
    Copied,
}

impl Way {
    fn of(home: &Path, header: &[u8]) -> Self {
        let length = |suffix| fs::metadata(beside(home, suffix)).ok().map(|it| it.len());
        let (log, journal) = (length("-wal"), length("-journal").unwrap_or(0));
        match header.get(READ_VERSION) {
            _ if journal > 0 => Self::Copied,
            Some(1) => Self::Shared,
            _ if log.is_some() && length("-shm").is_some() => Self::Shared,
            _ if log.unwrap_or(0) > 0 => Self::Copied,
            _ => Self::Frozen,
        }
    }
}

fn open_as_it_is(path: &Path) -> Result<Store, StoreError> {
    let unusable = |error: &io::Error| StoreError::Unusable { path: path.to_owned(), reason: text_file::reason(error) };
    let home = path.canonicalize().map_err(|error| unusable(&error))?;
    let header = header(&home).map_err(|error| unusable(&error))?;
    if header.is_empty() {
        return Store::in_memory(path);
    }
    let (way, frozen) = (Way::of(&home, &header), Frozen::of(&home));
    let opened = match way {
        Way::Shared => open_current(&home, false).map(|connection| connection.map(|it| (it, None))),
        Way::Frozen => open_current(&home, true).map(|connection| connection.map(|it| (it, Some(frozen)))),
        Way::Copied => Ok(None),
    };
    match opened {
        Ok(Some((connection, frozen))) => Ok(Store::to_read(connection, path, home, frozen)),
        Ok(None) => read_copy(path, home),
        Err(error) if needs_more(&error) => read_copy(path, home),
        Err(error) => Err(refusal(path, error)),
    }
}

/// The first bytes of a file: enough to know what it is.
fn header(home: &Path) -> io::Result<Vec<u8>> {
    // Looked at first: opening a pipe waits for who writes into it.
    let kind = fs::metadata(home)?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(if kind.is_dir() { "it is a folder" } else { "it is not a file" }));
    }
    let mut header = Vec::new();
    File::open(home)?.take(100).read_to_end(&mut header)?;
    Ok(header)
}

/// Opens a file of this version's layout without writing anything; `None` where it has an older one.
fn open_current(home: &Path, is_frozen: bool) -> Result<Option<Connection>, migrations::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let name = percent_encode(home.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    let how = if is_frozen { "?immutable=1" } else { "" };
    let mut connection = Connection::open_with_flags(format!("file:{name}{how}"), flags)?;
    wait_on(&mut connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    migrations::recognise(&connection)?;
    Ok(migrations::is_current(&connection)?.then_some(connection))
}

/// Whether SQLite needs to write something for the file to be read.
fn needs_more(error: &migrations::Error) -> bool {
    let migrations::Error::Sqlite(error) = error else { return false };
    let codes = [ErrorCode::CannotOpen, ErrorCode::ReadOnly, ErrorCode::PermissionDenied, ErrorCode::SystemIoFailure];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Reads a temporary copy, which is brought up to date, and which nobody else can reach.
fn read_copy(path: &Path, home: PathBuf) -> Result<Store, StoreError> {
    let failed = |error: io::Error| StoreError::Unusable {
        path: path.to_owned(),
        reason: format!("it is read-only, and cannot be copied to be read: {}", os_error::words(&error)),
    };
    let folder = tempfile::tempdir().map_err(failed)?;
    let copy = folder.path().join("copy.db");
    copy_whole(&home, &copy).map_err(failed)?;
    let of_copy = |error: StoreError| match error {
        StoreError::Unusable { reason, .. } => StoreError::Unusable { path: path.to_owned(), reason },
        StoreError::Failed { reason, passes, can_be_mended, .. } => {
            StoreError::Failed { path: path.to_owned(), reason, passes, can_be_mended }
        }
        other => other,
    };
    let store = Store::open(&copy).map_err(of_copy)?;
    let into_file = |it: &mut Connection| it.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    store.with(into_file).map_err(of_copy)?;
    drop(store);
    // What is open stays, and is gone with this process, however that ends.
    match open_current(&copy, true) {
        Ok(Some(connection)) => Ok(Store::to_read(connection, path, home, None)),
        Ok(None) => Err(failed(io::Error::other("its layout is from another version"))),
        Err(error) => Err(refusal(path, error)),
    }
}

/// Copies a database with what belongs to it, all of one moment.
fn copy_whole(home: &Path, copy: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        let seen = PARTS.map(|part| Seen::of(&beside(home, part)));
        for (part, seen) in PARTS.iter().zip(seen) {
            let to = beside(copy, part);
            match seen {
                Some(_) => _ = io::copy(&mut File::open(beside(home, part))?, &mut File::create(to)?)?,
                None if to.exists() => fs::remove_file(to)?,
                None => {}
            }
        }
        if seen == PARTS.map(|part| Seen::of(&beside(home, part))) {
            return Ok(());
        }
    }
    Err(io::Error::other("it keeps changing"))
}

/// Why SQLite cannot open the file at `path`.
pub(super) fn refusal(path: &Path, error: migrations::Error) -> StoreError {
    let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
    let error = match error {
        migrations::Error::Foreign(reason) => return unusable(reason),
        migrations::Error::Sqlite(error) => error,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unusable(format!("it is not an SQLite database{}", what_else(path))),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable(format!("nothing can be written to it, or be made beside it: {error}"))
        }
        _ => Reason::of(&error).for_file(path),
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
