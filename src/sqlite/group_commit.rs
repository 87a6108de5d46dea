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
        let unfinished = UnfinishedChange::begin(&self.connection, self.open == 0)?;
        let changed = change(&self.connection)?;
        unfinished.keep()?;
        self.changes += 1;
        self.open += 1;
        Ok(changed)
    }

    /// Begins a transaction, unless one is open.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.connection.is_autocommit() {
            // If the disk fails, SQLite may roll back the transaction by itself.
            self.is_lost |= mem::take(&mut self.open) > 0;
            run(&self.connection, "BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    /// Commits all changes; after an error, none. A commit survives the process, but not a power failure.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let is_open = mem::take(&mut self.open) > 0;
        let is_lost = mem::take(&mut self.is_lost) || is_open && self.connection.is_autocommit();
        let committed = match is_lost {
            true => Err(undone()),
            false if is_open => run(&self.connection, "COMMIT"),
            false => Ok(()),
        };
        if committed.is_err() || !is_open {
            roll_back(&self.connection);
        }
        committed
    }

    /// Returns the connection, for work that begins its own transactions.
    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// A change that is rolled back unless it is kept, even if it panics.
struct UnfinishedChange<'a> {
    connection: &'a Connection,
    /// The first change of a transaction needs no savepoint: the transaction has nothing else to roll back. A savepoint
    /// costs a copy of every page that changes after it.
    is_first: bool,
}

impl<'a> UnfinishedChange<'a> {
    fn begin(connection: &'a Connection, is_first: bool) -> Result<Self> {
        if !is_first {
            run(connection, "SAVEPOINT change")?;
        }
        Ok(Self { connection, is_first })
    }

    fn keep(self) -> Result<()> {
        if !self.is_first {
            run(self.connection, "RELEASE change")?;
        }
        mem::forget(self);
        Ok(())
    }
}

impl Drop for UnfinishedChange<'_> {
    fn drop(&mut self) {
        if self.is_first {
            roll_back(self.connection);
        } else {
            // If this fails, SQLite has already rolled back.
            let _ = run(self.connection, "ROLLBACK TO change").and_then(|()| run(self.connection, "RELEASE change"));
        }
    }
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // If this fails, SQLite has already rolled back.
        let _ = run(connection, "ROLLBACK");
    }
}

fn run(connection: &Connection, statement: &str) -> Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

fn undone() -> Error {
    let text = "another change in the same transaction failed, and this one was rolled back";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
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
    fn a_change_that_panics_is_rolled_back_first_or_not() {
        let mut numbers = Numbers::new();
        let panic = |numbers: &mut Numbers| {
            let change = |connection: &Connection| -> Result<()> {
                add(connection, 9)?;
                panic!("this one panics")
            };
            catch_unwind(AssertUnwindSafe(|| numbers.group.change(change))).unwrap_err();
        };
        panic(&mut numbers);
        assert!(numbers.is_free(), "there is nothing to commit");
        numbers.add(1);
        panic(&mut numbers);
        numbers.add(2);
        numbers.group.commit().unwrap();
        assert_eq!(numbers.seen(), [1, 2]);
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
