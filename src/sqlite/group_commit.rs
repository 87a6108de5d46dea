//! Group commit: one transaction for the changes that several threads, or several calls, make at about the same time.
//! They go to the same pages, so it costs little more than one change.
//!
//! A [`GroupCommit`] is the open transaction. The threads of a process share one through a [`SharedConnection`], whose
//! writer thread makes the changes gathered in a channel and commits them.

use std::io;
use std::iter;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use rusqlite::{Connection, Error, Result, ffi};

use super::DatabaseError;

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

    /// Returns the connection, for reading; uncommitted changes are visible.
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

    fn begin(&mut self) -> Result<()> {
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
}

#[cfg(test)]
impl GroupCommit {
    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

fn undone() -> Error {
    let text = "another change in the same transaction failed, and this one was rolled back";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(text.to_owned()))
}

/// A connection shared by all threads of the process. The writer commits before it releases the connection.
pub(crate) struct SharedConnection {
    group: Arc<Mutex<GroupCommit>>,
    /// Started by the first change.
    writer: OnceLock<io::Result<Writer>>,
}

/// The writer thread, and the channel to it.
struct Writer {
    queue: Sender<QueuedChange>,
    thread: JoinHandle<()>,
}

/// Makes a change, unless the transaction could not begin.
type QueuedChange = Box<dyn FnOnce(std::result::Result<&mut GroupCommit, &DatabaseError>) -> Reply + Send>;

/// Sends a change's outcome, which depends on its commit, to the thread that waits for it.
type Reply = Box<dyn FnOnce(&std::result::Result<(), DatabaseError>)>;

impl SharedConnection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { group: Arc::new(Mutex::new(GroupCommit::new(connection))), writer: OnceLock::new() }
    }

    /// Runs `work` on its own; it may begin a transaction.
    pub(crate) fn alone<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> std::result::Result<T, DatabaseError> {
        work(&mut self.group.lock().connection).map_err(|error| DatabaseError::of(&error))
    }

    /// Makes a change in a transaction that others may share. Returns when it is committed.
    pub(crate) fn together<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, DatabaseError> {
        let (teller, told) = sync_channel(1);
        let queued = move |group: std::result::Result<&mut GroupCommit, &DatabaseError>| {
            let changed = match group {
                Ok(group) => group.change(change).map_err(|error| DatabaseError::of(&error)),
                Err(error) => Err(error.clone()),
            };
            let reply = move |committed: &std::result::Result<(), DatabaseError>| {
                let outcome = changed.and_then(|changed| committed.clone().map(|()| changed));
                // The caller waits for it.
                let _ = teller.send(outcome);
            };
            Box::new(reply) as Reply
        };
        self.submit(Box::new(queued));
        told.recv().unwrap_or_else(|_| Err(DatabaseError::lasting("a change to it has panicked")))
    }

    fn submit(&self, queued: QueuedChange) {
        match self.writer.get_or_init(|| Writer::start(Arc::clone(&self.group))) {
            // The writer ends only after this.
            Ok(writer) => _ = writer.queue.send(queued),
            // If the system refuses a thread, the caller writes itself.
            Err(_) => write(&mut self.group.lock(), iter::once(queued)),
        }
    }
}

/// Waits for the writer to end, so that the file is closed.
impl Drop for SharedConnection {
    fn drop(&mut self) {
        if let Some(Ok(Writer { queue, thread })) = self.writer.take() {
            drop(queue);
            // It catches panics.
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start(group: Arc<Mutex<GroupCommit>>) -> io::Result<Self> {
        let (queue, waiting) = channel();
        let thread = thread::Builder::new().name("writer".into()).spawn(move || run(&group, &waiting))?;
        Ok(Self { queue, thread })
    }
}

fn run(group: &Mutex<GroupCommit>, waiting: &Receiver<QueuedChange>) {
    while let Ok(first) = waiting.recv() {
        write(&mut group.lock(), iter::once(first).chain(waiting.try_iter()));
    }
}

/// Makes changes, commits them, and replies. If another process holds the file, all changes gathered by the end of the
/// wait fail with it: to wait for each of them would take too long.
fn write(group: &mut GroupCommit, queue: impl Iterator<Item = QueuedChange>) {
    let begun = group.begin().map_err(|error| DatabaseError::of(&error));
    let mut make = |queued: QueuedChange| {
        let group = begun.as_ref().map(|()| &mut *group);
        // A change that panics is rolled back, and its caller gets an error.
        catch_unwind(AssertUnwindSafe(|| queued(group))).ok()
    };
    let replies: Vec<Reply> = queue.filter_map(&mut make).collect();
    let committed = group.commit().map_err(|error| DatabaseError::of(&error));
    for reply in replies {
        reply(&committed);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;

    type Told<T> = std::result::Result<T, DatabaseError>;

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

    /// Waits until these threads sleep and go on sleeping, as one does that waits for its change.
    fn wait_for_sleepers(threads: &[PathBuf]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let before: Vec<_> = threads.iter().map(|it| sleeps(it)).collect();
            thread::sleep(Duration::from_millis(20));
            if before.iter().zip(threads).all(|(before, it)| before.is_some() && *before == sleeps(it)) {
                return;
            }
            assert!(Instant::now() < deadline, "nobody comes");
        }
    }

    /// Lets seven threads write while an eighth is at it, which then does `last`. What each was told, how many commits
    /// there were, and how many numbers were left.
    fn eight_at_once(
        last: impl FnOnce(&Connection) -> Result<usize> + Send + 'static,
    ) -> (Vec<Told<usize>>, usize, usize) {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE numbers (
                     number INTEGER PRIMARY KEY,
                     other  INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED
                 )",
            )
            .unwrap();
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
    fn what_failed_is_undone_and_those_who_come_after_it_go_on() {
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
    fn a_thread_that_panics_leaves_nothing_half_done_and_nobody_waiting() {
        let (told, commits, left) = eight_at_once(|connection| {
            add(connection, 7)?;
            panic!("this one panics")
        });
        assert_eq!((told[..7].to_vec(), commits, left), (vec![Ok(1); 7], 1, 7));
    }

    #[test]
    fn threads_that_come_while_another_waits_for_a_held_file_do_not_wait_once_more() {
        static WAITS: AtomicUsize = AtomicUsize::new(0);
        static ALL_CAME: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("held.db")).unwrap();
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
            let threads = [0; 4].map(|number| write(number, come.clone()));
            wait_for_sleepers(&coming.iter().take(4).collect::<Vec<_>>());
            ALL_CAME.store(true, Ordering::SeqCst);
            assert!(threads.into_iter().all(|thread| thread.join().unwrap().is_err_and(|error| error.passes)));
        });
        assert_eq!(WAITS.load(Ordering::SeqCst), 1);
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(shared.together(|connection| add(connection, 4)).ok(), Some(1));
    }

    #[test]
    fn who_shared_a_commit_that_failed_is_told() {
        // What it refers to is looked for only at the commit.
        let (told, _, left) = eight_at_once(|connection| connection.execute("INSERT INTO numbers VALUES (8, 99)", []));
        assert!(told.iter().all(std::result::Result::is_err), "{told:?}");
        assert_eq!(left, 0);
    }

    /// A table of numbers, and another's view of it.
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

        /// The numbers that others see.
        fn seen(&self) -> Vec<i64> {
            let mut statement = self.other.prepare("SELECT number FROM numbers ORDER BY number").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_>>().unwrap()
        }

        /// Whether others may write.
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
    fn one_that_fails_is_undone_alone() {
        let mut numbers = Numbers::new();
        numbers.group.change(add_and_fail).unwrap_err();
        assert!(numbers.is_free(), "nothing waits for a commit");
        numbers.add(1);
        numbers.group.change(add_and_fail).unwrap_err();
        numbers.add(2);
        numbers.group.commit().unwrap();
        assert_eq!((numbers.seen(), numbers.group.changes()), (vec![1, 2], 2));
    }

    #[test]
    fn those_that_the_database_has_undone_are_not_confirmed() {
        let mut numbers = Numbers::new();
        numbers.add(1);
        // As SQLite does where the disk fails.
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
