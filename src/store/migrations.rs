//! The schema, as a list of steps that is only ever added to. `user_version` counts the steps taken.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as prismq's own (`PQrs` in ASCII).
const APPLICATION_ID: i32 = 0x5051_7273;

const STEPS: [&str; 1] = ["
    CREATE TABLE workers (
        process         INTEGER PRIMARY KEY,
        worker_id       TEXT NOT NULL,
        api_url         TEXT NOT NULL,
        pid             INTEGER NOT NULL,
        mark            TEXT NOT NULL UNIQUE,
        started_at      TEXT NOT NULL,
        last_poll_at    TEXT,
        stopped_at      TEXT,
        tasks_completed INTEGER NOT NULL DEFAULT 0,
        tasks_failed    INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE claims (
        api_url     TEXT NOT NULL,
        task_id     INTEGER NOT NULL,
        task_type   TEXT NOT NULL,
        attempt     INTEGER NOT NULL,
        priority    INTEGER NOT NULL,
        params      TEXT NOT NULL,
        worker_id   TEXT NOT NULL,
        process     INTEGER REFERENCES workers (process),
        running     INTEGER NOT NULL,
        claimed_at  TEXT NOT NULL,
        deadline    TEXT NOT NULL,
        PRIMARY KEY (api_url, task_id)
    ) STRICT;

    CREATE TABLE deaths (
        api_url TEXT NOT NULL,
        task_id INTEGER NOT NULL,
        count   INTEGER NOT NULL,
        PRIMARY KEY (api_url, task_id)
    ) STRICT;

    CREATE TABLE results (
        task_id     INTEGER NOT NULL,
        task_type   TEXT NOT NULL,
        attempt     INTEGER NOT NULL,
        worker_id   TEXT NOT NULL,
        api_url     TEXT NOT NULL,
        status      TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'lost')),
        params      TEXT NOT NULL,
        data        TEXT,
        message     TEXT,
        error       TEXT,
        error_type  TEXT,
        retryable   INTEGER,
        claimed_at  TEXT NOT NULL,
        started_at  TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        duration_ms INTEGER NOT NULL,
        reported_at TEXT,
        metadata    TEXT
    ) STRICT;
    CREATE INDEX results_by_task ON results (task_id);
    CREATE INDEX results_by_time ON results (finished_at);
    CREATE INDEX results_unreported ON results (api_url) WHERE reported_at IS NULL;
"];

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
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: usize = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
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

/// Takes the steps that the file has not seen yet, all or none.
pub(super) fn apply(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(version(&transaction)?) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len())?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
