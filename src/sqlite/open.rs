//! Opens a database: the file, its layout, its pragmas.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{Access, access};

use super::busy::{self, BUSY_TIMEOUT, BusyPolicy};
use super::{Anchors, OpenError, WriteAheadLog};
use crate::{os_error, text_file};

/// Upgrades a file from one layout to the next.
pub(crate) type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The layout of a kind of database.
pub(crate) struct Layout {
    /// Marks a file as one of this kind.
    pub(crate) application_id: i32,
    /// Each upgrades a file from the layout of its index, its `user_version`, to the next. Append only: files of every
    /// older layout exist.
    pub(crate) migrations: &'static [Migration],
    /// Number of prepared statements that a connection caches.
    pub(crate) statements: usize,
    /// Memory for the pages that a connection keeps, in KiB.
    pub(crate) page_cache: u32,
}

/// An open, writable database.
pub(crate) struct OpenFile {
    pub(crate) connection: Connection,
    /// Its path without links.
    pub(crate) home: PathBuf,
    pub(crate) log: WriteAheadLog,
    /// Its files, which must stay in place.
    pub(crate) anchors: Anchors,
}

impl Layout {
    /// Opens the database at `path`, creates it if it is missing, and upgrades its layout.
    pub(crate) fn open(&self, path: &Path, policy: &BusyPolicy) -> Result<OpenFile, OpenError> {
        let mut connection = open_as_guest(path, policy, |connection| self.recognise(connection))?;
        log_ahead(&connection)?;
        // Commits are not synced: what must survive a power failure is synced by `WriteAheadLog::sync`. Checkpoints are
        // synced.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Otherwise SQLite recompiles a statement for each value that its plan might depend on.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(self.statements);
        // SQLite counts pages, and KiB if the number is negative.
        connection.pragma_update(None, "cache_size", -i64::from(self.page_cache))?;
        self.migrate(&mut connection)?;
        // Statement journals are not worth a file. The sorting for a migration's indexes is, so this comes after it.
        connection.pragma_update(None, "temp_store", "memory")?;
        let home = path.canonicalize()?;
        let log = WriteAheadLog::open(&home)
            .map_err(|error| OpenError::Io(format!("its write-ahead log: {}", os_error::message(&error))))?;
        Ok(OpenFile { connection, home, log, anchors: Anchors::of_database(path)? })
    }

    /// Creates an empty database in memory, as [`Layout::open`] would create a file.
    pub(crate) fn in_memory(&self) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_in_memory()?;
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    /// Checks that a file is empty or has a layout that can be upgraded. Changes nothing.
    pub(super) fn recognise(&self, connection: &Connection) -> Result<(), OpenError> {
        // One snapshot: another process may be creating the tables, and the application id with them.
        let snapshot = connection.unchecked_transaction()?;
        let is_empty: bool = snapshot.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        let application_id: i32 = snapshot.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let found = version(&snapshot)?;
        let is_new = is_empty && application_id == 0 && found == 0;
        if application_id != self.application_id && !is_new {
            return Err(OpenError::Foreign("it is another program's database".into()));
        }
        if found > self.newest() {
            return Err(OpenError::Newer { found, known: self.newest() });
        }
        Ok(())
    }

    /// Whether a file has the newest layout.
    pub(super) fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(version(connection)? == self.newest())
    }

    fn newest(&self) -> u32 {
        // There are a few.
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }

    /// Runs the missing migrations, all or none.
    fn migrate(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        if self.is_current(connection)? {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read under the lock: another process may have migrated meanwhile.
        for migrate in self.migrations.iter().skip(version(&transaction)? as usize) {
            migrate(&transaction)?;
        }
        transaction.pragma_update(None, "application_id", self.application_id)?;
        transaction.pragma_update(None, "user_version", self.newest())?;
        transaction.commit()
    }
}

/// Returns the layout's version. A negative one is another program's, and counts as newer.
fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Opens a database that may be another program's. Changes nothing unless `recognise` accepts it. Creates an empty file
/// if it is missing.
pub(crate) fn open_as_guest(
    path: &Path,
    policy: &BusyPolicy,
    recognise: impl FnOnce(&Connection) -> Result<(), OpenError>,
) -> Result<Connection, OpenError> {
    create(path).map_err(|error| OpenError::Io(text_file::unwritable(&error)))?;
    // A path is a path here, even one that starts with `file:`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    policy.wait_on(&mut connection)?;
    // Closing another program's database must not checkpoint it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    recognise(&connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

/// Turns on write-ahead logging. SQLite does not wait if another process is doing the same, so we do.
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

/// Creates the file, for its owner only, and its folders, before SQLite writes to it: its `-wal` gets the same mode.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // SQLite would block on a pipe.
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("it is not a file")) }
}

/// Checks that [`create`] could create the file and its folders, without creating any.
pub(crate) fn check_creatable(path: &Path) -> Result<(), OpenError> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("."));
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| OpenError::Io(text_file::unwritable(&error.into())))
}

/// Returns the path with `suffix` added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;

    const LAYOUT: Layout = Layout {
        application_id: 7,
        migrations: &[|it| it.execute_batch("CREATE TABLE t (n)")],
        statements: 1,
        page_cache: 64,
    };

    #[test]
    fn a_file_that_another_process_is_just_creating_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let (mut connection, mut other) = (Connection::open(&path).unwrap(), Connection::open(&path).unwrap());
        other.pragma_update(None, "journal_mode", "WAL").unwrap();
        // Between two of its reads.
        let creates = move |context: AuthContext<'_>| {
            if matches!(context.action, AuthAction::Pragma { pragma_name: "user_version", .. }) {
                LAYOUT.migrate(&mut other).unwrap();
            }
            Authorization::Allow
        };
        connection.authorizer(Some(creates)).unwrap();
        assert!(LAYOUT.recognise(&connection).is_ok());
    }
}
