//! Opens a database read-only, even if nothing can be written to it or beside it: a copy, another user's file, a
//! read-only mount, a full disk.
//!
//! SQLite creates `-shm` beside a database with a write-ahead log before it reads it, unless it is told that nobody
//! changes the file; then it ignores the log. So the files beside a database decide how it is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::busy::BusyPolicy;
use super::{DatabaseError, Layout, OpenError, beside};
use crate::os_error;

/// Suffixes of the files that belong to a database.
const PARTS: [&str; 3] = ["", "-wal", "-journal"];

/// How often to copy a file that changes meanwhile.
const TRIES: usize = 3;

/// Offset of the header byte that says how to read a database: 2 means with a write-ahead log.
const READ_VERSION: usize = 19;

/// A database opened read-only.
pub(crate) struct ReadOnly {
    pub(crate) connection: Connection,
    /// Its path without links.
    pub(crate) home: PathBuf,
    /// Set if it is read without locks.
    pub(crate) frozen: Option<Frozen>,
}

impl Layout {
    /// Opens the database at `path` as it is, and creates nothing beside it. If its layout is older, or its log cannot
    /// be read in place, a temporary copy is read.
    pub(crate) fn open_read_only(&self, path: &Path, policy: &BusyPolicy) -> Result<ReadOnly, OpenError> {
        let home = path.canonicalize()?;
        let header = header(&home)?;
        if header.is_empty() {
            return Ok(ReadOnly { connection: self.in_memory()?, home, frozen: None });
        }
        let (way, frozen) = (Way::of(&home, &header), Frozen::of(&home));
        let opened = match way {
            Way::Shared => self.open_current(&home, policy, false).map(|it| it.map(|it| (it, None))),
            Way::Frozen => self.open_current(&home, policy, true).map(|it| it.map(|it| (it, Some(frozen)))),
            Way::Copied => Ok(None),
        };
        match opened {
            Ok(Some((connection, frozen))) => Ok(ReadOnly { connection, home, frozen }),
            Err(error) if !needs_more(&error) => Err(error),
            Ok(None) | Err(_) => Ok(ReadOnly { connection: self.read_copy(&home, policy)?, home, frozen: None }),
        }
    }

    /// Opens a file of the newest layout without writing anything; `None` if its layout is older.
    fn open_current(&self, home: &Path, policy: &BusyPolicy, frozen: bool) -> Result<Option<Connection>, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let name = percent_encode(home.as_os_str().as_bytes(), NON_ALPHANUMERIC);
        let how = if frozen { "?immutable=1" } else { "" };
        let mut connection = Connection::open_with_flags(format!("file:{name}{how}"), flags)?;
        policy.wait_on(&mut connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.recognise(&connection)?;
        Ok(self.is_current(&connection)?.then_some(connection))
    }

    /// Opens an upgraded temporary copy that nobody else can reach.
    fn read_copy(&self, home: &Path, policy: &BusyPolicy) -> Result<Connection, OpenError> {
        let failed = |error: io::Error| {
            let why = os_error::message(&error);
            OpenError::Io(format!("it is read-only, and cannot be copied to be read: {why}"))
        };
        let folder = tempfile::tempdir().map_err(failed)?;
        let copy = folder.path().join("copy.db");
        copy_whole(home, &copy).map_err(failed)?;
        let file = self.open(&copy, policy)?;
        file.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        drop(file);
        // The deleted copy stays readable while it is open, and disappears with this process.
        let current = self.open_current(&copy, policy, true)?;
        current.ok_or_else(|| failed(io::Error::other("its layout is from another version")))
    }
}

/// A file that is read without locks: nobody may change it meanwhile.
pub(crate) struct Frozen {
    path: PathBuf,
    seen: Option<Seen>,
}

/// File metadata that changes with every write.
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

    /// Checks that the file has not changed since it was opened.
    pub(crate) fn check(&self) -> Result<(), DatabaseError> {
        let is_same = Seen::of(&self.path) == self.seen;
        if is_same { Ok(()) } else { Err(DatabaseError::lasting("it changed while being read; try again")) }
    }
}

/// How to read a file that cannot be written to.
enum Way {
    /// As usual: all that is needed is there.
    Shared,
    /// Without locks: there is no log.
    Frozen,
    /// From a copy, with its log or journal.
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

/// Reads the first bytes of a file, enough to recognise it.
fn header(home: &Path) -> io::Result<Vec<u8>> {
    // Checked first, because opening a pipe would block.
    let kind = fs::metadata(home)?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(if kind.is_dir() { "it is a folder" } else { "it is not a file" }));
    }
    let mut header = Vec::new();
    File::open(home)?.take(100).read_to_end(&mut header)?;
    Ok(header)
}

/// Whether SQLite must write something before the file can be read.
fn needs_more(error: &OpenError) -> bool {
    let OpenError::Sqlite(error) = error else { return false };
    let codes = [ErrorCode::CannotOpen, ErrorCode::ReadOnly, ErrorCode::PermissionDenied, ErrorCode::SystemIoFailure];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Copies a database with its log and journal, in one consistent state.
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
