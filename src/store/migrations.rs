//! The schema, as a list of steps that is only ever added to. `user_version` counts the steps taken.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::rollups;

/// Marks a file as prismq's own (`PQrs` in ASCII).
const APPLICATION_ID: i32 = 0x5051_7273;

type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

const STEPS: [Step; 7] = [
    |transaction| transaction.execute_batch(include_str!("migrations/1.sql")),
    |transaction| {
        transaction.execute_batch(include_str!("migrations/2.sql"))?;
        rollups::add_after(transaction, 0)
    },
    |transaction| transaction.execute_batch(include_str!("migrations/3.sql")),
    |transaction| transaction.execute_batch(include_str!("migrations/4.sql")),
    |transaction| transaction.execute_batch(include_str!("migrations/5.sql")),
    |transaction| transaction.execute_batch(include_str!("migrations/6.sql")),
    |transaction| transaction.execute_batch(include_str!("migrations/7.sql")),
];

/// Why a file could not be brought up to date.
pub(super) enum Error {
    /// It is a database, but not one that this version can use.
    Foreign(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Whether a file is empty, or of a version that this one can bring up to date. Changes nothing.
pub(super) fn recognise(connection: &Connection) -> Result<(), Error> {
    // In this order: another process may be making the tables, and the mark with them.
    let tables: usize = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application_id != APPLICATION_ID && tables > 0 {
        return Err(Error::Foreign("it is another program's database".into()));
    }
    let (version, known) = (version(connection)?, STEPS.len());
    if version > known {
        return Err(Error::Foreign(format!(
            "it belongs to a newer version of prismq (its schema is {version}, this version knows {known})"
        )));
    }
    Ok(())
}

/// Whether a file has this version's layout.
pub(super) fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == STEPS.len())
}

/// Takes the steps that the file has not seen yet, all or none.
pub(super) fn apply(connection: &mut Connection) -> Result<(), Error> {
    if is_current(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &STEPS[version(&transaction)?..] {
        step(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len())?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
