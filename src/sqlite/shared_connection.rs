//! A connection to SQLite that the threads of a process share. Changes queue up while the connection is in use; the
//! thread that gets it next makes all of them, and commits them together.

use std::collections::VecDeque;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use parking_lot::Mutex;
use rusqlite::{Connection, Result};

use super::DatabaseError;
use super::group_commit::GroupCommit;

/// A connection shared by all threads of the process.
pub(crate) struct SharedConnection {
    group: Mutex<GroupCommit>,
    /// Changes that wait for the connection. Each is made by the thread that gets it first.
    queue: Mutex<VecDeque<QueuedChange>>,
}

/// Makes a change, unless the transaction could not begin.
type QueuedChange = Box<dyn FnOnce(std::result::Result<&mut GroupCommit, &DatabaseError>) -> Reply + Send>;

/// Sends a change's outcome, which depends on its commit, to the thread that waits for it.
type Reply = Box<dyn FnOnce(&std::result::Result<(), DatabaseError>)>;

impl SharedConnection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { group: Mutex::new(GroupCommit::new(connection)), queue: Mutex::default() }
    }

    /// Runs `work` on its own; it may begin a transaction.
    pub(crate) fn alone<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> std::result::Result<T, DatabaseError> {
        work(self.group.lock().connection_mut()).map_err(|error| DatabaseError::of(&error))
    }

    /// Makes a change in a transaction that others may share. Returns when it is committed.
    pub(crate) fn together<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, DatabaseError> {
        let (sender, outcome) = sync_channel(1);
        let queued = move |group: std::result::Result<&mut GroupCommit, &DatabaseError>| {
            let changed = match group {
                Ok(group) => group.change(change).map_err(|error| DatabaseError::of(&error)),
                Err(error) => Err(error.clone()),
            };
            let reply = move |committed: &std::result::Result<(), DatabaseError>| {
                // It cannot fail: the caller waits.
                let _ = sender.send(changed.and_then(|changed| committed.clone().map(|()| changed)));
            };
            Box::new(reply) as Reply
        };
        self.queue.lock().push_back(Box::new(queued));
        self.write_queued(&mut self.group.lock());
        outcome.recv().unwrap_or_else(|_| Err(DatabaseError::lasting("a change to it has panicked")))
    }

    /// Makes the queued changes, unless another thread has, commits them, and replies. If another process holds the file,
    /// all changes queued by the end of the wait fail with it: to wait for each of them would take too long.
    fn write_queued(&self, group: &mut GroupCommit) {
        let next = || self.queue.lock().pop_front();
        let Some(first) = next() else { return };
        let begun = group.begin().map_err(|error| DatabaseError::of(&error));
        let mut make = |queued: QueuedChange| {
            let group = begun.as_ref().map(|()| &mut *group);
            // A change that panics is rolled back, and its caller gets an error.
            catch_unwind(AssertUnwindSafe(|| queued(group))).ok()
        };
        let replies: Vec<Reply> = iter::once(first).chain(iter::from_fn(next)).filter_map(&mut make).collect();
        let committed = group.commit().map_err(|error| DatabaseError::of(&error));
        for reply in replies {
            reply(&committed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use rusqlite::{Error, ffi};

    use super::*;

    type WriteResult<T> = std::result::Result<T, DatabaseError>;

    fn add(connection: &Connection, number: usize) -> Result<usize> {
        connection.execute("INSERT INTO numbers (number) VALUES (?1)", [number])
    }

    /// This thread, as the system shows it.
    fn this_thread() -> PathBuf {
        Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap())
    }

    /// How often a thread has gone to sleep, if it sleeps now.
    fn sleeps(thread: &Path) -> Option<String> {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let value = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        value("State:").starts_with('S').then(|| value("voluntary_ctxt_switches:").to_owned())
    }

    /// Waits until these threads sleep and stay asleep, as a thread does that waits for its change.
    fn wait_for_sleepers(threads: &[PathBuf]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let before: Vec<_> = threads.iter().map(|it| sleeps(it)).collect();
            thread::sleep(Duration::from_millis(20));
            if before.iter().zip(threads).all(|(before, it)| before.is_some() && *before == sleeps(it)) {
                return;
            }
            assert!(Instant::now() < deadline, "the threads do not sleep");
        }
    }

    /// Creates a database with a table of numbers.
    fn numbers() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE numbers (
                     number INTEGER PRIMARY KEY,
                     other  INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED
                 )",
            )
            .unwrap();
        connection
    }

    /// Makes seven threads write while an eighth is writing, which then does `last`. Returns the outcome of each thread, the
    /// number of commits, and the number of rows.
    fn eight_at_once(
        last: impl FnOnce(&Connection) -> Result<usize> + Send + 'static,
    ) -> (Vec<WriteResult<usize>>, usize, usize) {
        let mut connection = numbers();
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&commits);
        connection.commit_hook(Some(move || counted.fetch_add(1, Ordering::SeqCst) > 99)).unwrap();
        let shared = &SharedConnection::new(connection);
        let told = thread::scope(|scope| {
            let (begun, first) = channel();
            let (come, coming) = channel();
            let eighth = scope.spawn(move || {
                let change = move |connection: &Connection| {
                    begun.send(()).unwrap();
                    wait_for_sleepers(&coming.iter().take(7).collect::<Vec<_>>());
                    last(connection)
                };
                shared.together(change)
            });
            first.recv().unwrap();
            let write = |number, come: Sender<_>| {
                scope.spawn(move || {
                    come.send(this_thread()).unwrap();
                    shared.together(move |connection| add(connection, number))
                })
            };
            let seven: Vec<_> = (0..7).map(|number| write(number, come.clone())).collect();
            seven.into_iter().chain([eighth]).map(|thread| thread.join().unwrap()).collect()
        });
        let left =
            shared.alone(|connection| connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)));
        (told, commits.load(Ordering::SeqCst), left.unwrap())
    }

    #[test]
    fn threads_that_write_at_once_share_a_commit() {
        assert_eq!(eight_at_once(|connection| add(connection, 7)), (vec![Ok(1); 8], 1, 8));
    }

    #[test]
    fn only_the_failed_change_of_a_group_is_rolled_back() {
        let full = |connection: &Connection| {
            add(connection, 7)?;
            Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None))
        };
        let (told, commits, left) = eight_at_once(full);
        assert_eq!(told[..7], vec![Ok(1); 7]);
        assert_eq!(told[7].as_ref().unwrap_err().text, "the disk is full");
        assert_eq!((commits, left), (1, 7));
    }

    #[test]
    fn a_panicking_change_keeps_nobody_waiting() {
        let (told, commits, left) = eight_at_once(|connection| {
            add(connection, 7)?;
            panic!("this one panics")
        });
        assert_eq!((told[..7].to_vec(), commits, left), (vec![Ok(1); 7], 1, 7));
    }

    #[test]
    fn threads_that_queue_behind_a_wait_for_a_locked_file_do_not_wait_again() {
        static WAITS: AtomicUsize = AtomicUsize::new(0);
        static ALL_CAME: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("locked.db")).unwrap();
        let (other, mut connection) = (open(), open());
        other.execute_batch("CREATE TABLE numbers (number INTEGER); BEGIN IMMEDIATE").unwrap();
        let wait_on = |tries| {
            WAITS.fetch_add(usize::from(tries == 0), Ordering::SeqCst);
            thread::yield_now();
            !ALL_CAME.load(Ordering::SeqCst)
        };
        connection.busy_handler(Some(wait_on)).unwrap();
        let shared = &SharedConnection::new(connection);
        thread::scope(|scope| {
            let (come, coming) = channel();
            let write = |number, come: Sender<_>| {
                scope.spawn(move || {
                    come.send(this_thread()).unwrap();
                    shared.together(move |connection| add(connection, number))
                })
            };
            let first = write(0, come.clone());
            let deadline = Instant::now() + Duration::from_secs(20);
            while WAITS.load(Ordering::SeqCst) == 0 {
                assert!(Instant::now() < deadline, "nobody waits for the file");
                thread::yield_now();
            }
            let others = [1, 2, 3].map(|number| write(number, come.clone()));
            wait_for_sleepers(&coming.iter().skip(1).take(3).collect::<Vec<_>>());
            ALL_CAME.store(true, Ordering::SeqCst);
            let mut threads = others.into_iter().chain([first]);
            assert!(threads.all(|thread| thread.join().unwrap().is_err_and(|error| error.passes)));
        });
        assert_eq!(WAITS.load(Ordering::SeqCst), 1);
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(shared.together(|connection| add(connection, 4)).ok(), Some(1));
    }

    #[test]
    fn a_failed_commit_fails_every_change_in_it() {
        // The foreign key is checked only at the commit.
        let (told, _, left) = eight_at_once(|connection| connection.execute("INSERT INTO numbers VALUES (8, 99)", []));
        assert!(told.iter().all(std::result::Result::is_err), "{told:?}");
        assert_eq!(left, 0);
    }
}
