//! Group commit: one transaction for the changes that several threads, or several calls, make at about the same time.
//! They go to the same pages, so it costs little more than one change.

use std::mem;

use rusqlite::{Connection, Error, Result, ffi};

/// A connection whose changes are committed in groups.
pub(crate) struct GroupCommit {
    connection: Connection,
    /// Number of changes made so far.
    changes: u64,
    /// Number of changes not committed yet.
    open: u64,
    /// Whether SQLite has rolled back changes that others wait for.
    is_lost: bool,
}

impl GroupCommit {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, changes: 0, open: 0, is_lost: false }
    }

    /// Returns the connection, for reading. Uncommitted changes are visible.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Number of changes made so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes a change, to be committed with others. The file is locked: what the change reads still holds when it
    /// writes. If it fails, it has changed nothing.
    pub(crate) fn change<T, E: From<Error>>(
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

    /// Begins a transaction, unless one is open.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            // If the disk fails, SQLite may roll back the transaction by itself.
            self.is_lost |= mem::take(&mut self.open) > 0;
            self.run("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    /// Commits all changes; after an error, none. A commit survives the process, but not a power failure.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let is_open = mem::take(&mut self.open) > 0;
        let is_lost = mem::take(&mut self.is_lost) || is_open && self.connection.is_autocommit();
        let committed = match is_lost {
            true => Err(undone()),
            false if is_open => self.run("COMMIT"),
            false => Ok(()),
        };
        if committed.is_err() || !is_open {
            self.roll_back();
        }
        committed
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // If this fails, SQLite has already rolled back.
            let _ = self.run("ROLLBACK");
        }
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    /// Returns the connection, for work that begins its own transactions.
    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

fn undone() -> Error {
    let text = "another change in the same transaction failed, and this one was rolled back";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn add(connection: &Connection, number: usize) -> Result<usize> {
        connection.execute("INSERT INTO numbers (number) VALUES (?1)", [number])
    }

    /// A table of numbers, and another connection to it.
    struct Numbers {
        group: GroupCommit,
        other: Connection,
        _folder: TempDir,
    }

    impl Numbers {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let open = || {
                let connection = Connection::open(folder.path().join("numbers.db")).unwrap();
                connection.pragma_update(None, "journal_mode", "WAL").unwrap();
                connection
            };
            let (group, other) = (GroupCommit::new(open()), open());
            other.execute_batch("CREATE TABLE numbers (number INTEGER NOT NULL)").unwrap();
            Self { group, other, _folder: folder }
        }

        fn add(&mut self, number: usize) {
            self.group.change(|connection| add(connection, number)).unwrap();
        }

        /// The committed numbers.
        fn seen(&self) -> Vec<i64> {
            let mut statement = self.other.prepare("SELECT number FROM numbers ORDER BY number").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_>>().unwrap()
        }

        /// Whether others can write.
        fn is_free(&self) -> bool {
            self.other.busy_timeout(Duration::ZERO).unwrap();
            self.other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
        }
    }

    fn add_and_fail(connection: &Connection) -> Result<()> {
        add(connection, 9)?;
        Err(Error::InvalidQuery)
    }

    #[test]
    fn changes_are_committed_together() {
        let mut numbers = Numbers::new();
        numbers.add(1);
        numbers.add(2);
        assert_eq!((numbers.seen(), numbers.group.changes()), (vec![], 2));
        numbers.group.commit().unwrap();
        assert_eq!(numbers.seen(), [1, 2]);
        assert!(numbers.is_free());
    }

    #[test]
    fn only_the_failed_change_is_rolled_back() {
        let mut numbers = Numbers::new();
        numbers.group.change(add_and_fail).unwrap_err();
        assert!(numbers.is_free(), "there is nothing to commit");
        numbers.add(1);
        numbers.group.change(add_and_fail).unwrap_err();
        numbers.add(2);
        numbers.group.commit().unwrap();
        assert_eq!((numbers.seen(), numbers.group.changes()), (vec![1, 2], 2));
    }

    #[test]
    fn changes_that_the_database_rolled_back_are_not_confirmed() {
        let mut numbers = Numbers::new();
        numbers.add(1);
        // As SQLite does if the disk fails.
        let fail = |connection: &Connection| connection.execute_batch("ROLLBACK").and(Err(Error::InvalidQuery));
        numbers.group.change::<(), _>(fail).unwrap_err();
        numbers.add(2);
        numbers.group.commit().unwrap_err();
        assert!(numbers.seen().is_empty() && numbers.is_free());
        numbers.add(3);
        numbers.group.commit().unwrap();
        assert_eq!(numbers.seen(), [3]);
    }
}
