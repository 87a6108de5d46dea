//! Changes of several calls in one transaction: a page of the database that all of them change is written once.

use std::io;
use std::mem;
use std::ops::Deref;

use rusqlite::{Connection, Result};

/// A connection to the database whose changes are committed together.
pub(super) struct Batch {
    connection: Connection,
    /// How many changes were ever made.
    changes: u64,
    /// How many of them are not committed yet.
    open: u64,
    /// The database has undone changes that others wait for.
    lost: bool,
}

/// To read what is there, changes that are not committed yet included.
impl Deref for Batch {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Batch {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, changes: 0, open: 0, lost: false }
    }

    /// How many changes were ever made.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes a change, to be committed with others. It has the file to itself: what it reads still holds when it writes.
    /// One that fails has changed nothing.
    pub(super) fn change<T, E: From<rusqlite::Error>>(
        &mut self,
        change: impl FnOnce(&Connection) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.begin()?;
        let savepoint = self.connection.savepoint()?;
        let changed = change(&savepoint).and_then(|changed| Ok(savepoint.commit().map(|()| changed)?));
        if changed.is_ok() {
            self.changes += 1;
            self.open += 1;
        } else if self.open == 0 {
            self.roll_back();
        }
        changed
    }

    fn begin(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            self.lost |= self.open > 0;
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    /// Commits all changes, or none: after an error they are undone. A commit outlives the process, not a power cut.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        let open = mem::take(&mut self.open) > 0;
        // Where the disk fails, SQLite may end a transaction by itself.
        let lost = mem::take(&mut self.lost) || open && self.connection.is_autocommit();
        let committed = match lost {
            true => Err(io::Error::other("the database failed at another change, and has undone this one")),
            false if open => self.connection.execute_batch("COMMIT").map_err(io::Error::other),
            false => Ok(()),
        };
        if committed.is_err() {
            self.roll_back();
        }
        committed
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // Where this fails, SQLite has done it already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

#[cfg(test)]
impl Batch {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A table of numbers, and another's view of it.
    struct Numbers {
        batch: Batch,
        other: Connection,
        _folder: TempDir,
    }

    impl Numbers {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let open = || crate::server::database::open(&folder.path().join("tasks.db")).unwrap();
            let (batch, other) = (Batch::new(open()), open());
            other.execute_batch("CREATE TABLE numbers (n INTEGER NOT NULL)").unwrap();
            Self { batch, other, _folder: folder }
        }

        fn add(&mut self, n: i64) {
            self.batch.change(|connection| add(connection, n)).unwrap();
        }

        /// The numbers that others see.
        fn seen(&self) -> Vec<i64> {
            let mut statement = self.other.prepare("SELECT n FROM numbers ORDER BY n").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_>>().unwrap()
        }

        /// Whether others may write.
        fn is_free(&self) -> bool {
            self.other.busy_timeout(std::time::Duration::ZERO).unwrap();
            self.other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
        }
    }

    fn add(connection: &Connection, n: i64) -> Result<()> {
        connection.execute("INSERT INTO numbers VALUES (?1)", [n]).map(drop)
    }

    fn add_and_fail(connection: &Connection) -> Result<()> {
        add(connection, 9)?;
        Err(rusqlite::Error::InvalidQuery)
    }

    #[test]
    fn changes_are_committed_together() {
        let mut numbers = Numbers::new();
        numbers.add(1);
        numbers.add(2);
        assert_eq!((numbers.seen(), numbers.batch.changes()), (vec![], 2));
        numbers.batch.commit().unwrap();
        assert_eq!(numbers.seen(), [1, 2]);
        assert!(numbers.is_free());
    }

    #[test]
    fn one_that_fails_is_undone_alone() {
        let mut numbers = Numbers::new();
        numbers.batch.change(add_and_fail).unwrap_err();
        assert!(numbers.is_free(), "nothing waits for a commit");
        numbers.add(1);
        numbers.batch.change(add_and_fail).unwrap_err();
        numbers.add(2);
        numbers.batch.commit().unwrap();
        assert_eq!((numbers.seen(), numbers.batch.changes()), (vec![1, 2], 2));
    }

    #[test]
    fn those_that_the_database_has_undone_are_not_confirmed() {
        let mut numbers = Numbers::new();
        numbers.add(1);
        // As SQLite does where the disk fails.
        let fail =
            |connection: &Connection| connection.execute_batch("ROLLBACK").and(Err(rusqlite::Error::InvalidQuery));
        numbers.batch.change::<(), _>(fail).unwrap_err();
        numbers.add(2);
        numbers.batch.commit().unwrap_err();
        assert!(numbers.seen().is_empty() && numbers.is_free());
        numbers.add(3);
        numbers.batch.commit().unwrap();
        assert_eq!(numbers.seen(), [3]);
    }
}
