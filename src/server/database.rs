//! Opening the database file, its layout and its migrations.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ServerError;

use crate::text_file;

/// Marks a file as the embedded TaskManager's.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"PqTM");

/// The newest layout, `user_version` in the file.
const LAYOUT: u32 = 4;

/// Each brings the layout from its index to the next number. Append only: files with every older layout exist.
const MIGRATIONS: [&str; LAYOUT as usize] = [
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
];

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Enough for every statement there is, so that each is compiled once.
const STATEMENTS: usize = 64;

/// Opens the database in `path`, creates what is missing, and brings its layout up to date.
pub(super) fn open(path: &Path) -> Result<Connection, ServerError> {
    let unusable = |reason: String| ServerError::DatabaseUnusable { path: path.to_owned(), reason };
    create(path).map_err(|error| unusable(text_file::unwritable(&error)))?;
    let explain = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => ServerError::NotADatabase(path.to_owned()),
        _ => unusable(error.to_string()),
    };
    // A path is a path here, even one that starts with `file:`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    let layout = Layout::read(&connection).map_err(explain)?;
    layout.check(path)?;
    prepare(&mut connection).map_err(explain)?;
    Ok(connection)
}

/// Creates the file, for its owner alone, and the folders above it. SQLite gives its `-wal` the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
        return Err(std::io::Error::other("it is not a file"));
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

/// What a database says of itself.
struct Layout {
    application_id: i32,
    version: u32,
    is_empty: bool,
}

impl Layout {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            application_id: connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
            version: version(connection)?,
            is_empty: connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?,
        })
    }

    fn check(&self, path: &Path) -> Result<(), ServerError> {
        let is_new = self.application_id == 0 && self.version == 0 && self.is_empty;
        if self.application_id != APPLICATION_ID && !is_new {
            return Err(ServerError::ForeignDatabase(path.to_owned()));
        }
        if self.version > LAYOUT {
            return Err(ServerError::NewerDatabase { path: path.to_owned(), found: self.version, known: LAYOUT });
        }
        Ok(())
    }
}

/// A negative version is another program's, and never reached by ours: it counts as newer.
fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Write-ahead logging. A commit is not synced: what the TaskManager confirms is, by [`Log`](super::log::Log).
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    // What it takes to undo one change of several is not worth a file.
    connection.pragma_update(None, "temp_store", "memory")?;
    // Otherwise SQLite compiles a statement anew for each value that its plan might depend on.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(connection)
}

/// Runs the migrations that are missing. The version is read under the lock: another process may be doing the same.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(version(&transaction)? as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()
}

/// How the API writes times.
const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

/// A point in time as the database keeps it: microseconds since 1970, so that tasks created within one second keep
/// their order. The API shows whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i64);

impl Time {
    pub(super) fn now() -> Self {
        Timestamp::now().into()
    }

    /// How long it is since `earlier`; nothing where the clock has been set back before it.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(super) fn earlier_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(super) fn later_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(super) fn microseconds(self) -> i64 {
        self.0
    }

    /// The number of its minute since 1970.
    pub(super) fn minute(self) -> i64 {
        self.0.div_euclid(60_000_000)
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::from_microsecond(self.0).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&time.strftime(FORMAT))
    }
}

/// As the API writes it; nothing where it is out of all range.
impl Display for Time {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(formatter, "{}", time.strftime(FORMAT)),
            Err(_) => Ok(()),
        }
    }
}

/// A JSON value as the database keeps it: text in the canonical form, keys sorted and no white space.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Json(pub(super) Value);

impl ToSql for Json {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

/// The same as it is read for an answer: text that is looked through only when it is written out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonText(pub(super) String);

impl JsonText {
    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromSql for JsonText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str().map(|text| Self(text.to_owned()))
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }
}
