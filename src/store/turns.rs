//! The connection, which threads use in turn, and the transaction that they share.
//!
//! What several slots write at about the same time goes to the same pages, so that one commit for all of it costs
//! little more than one for each. Who finds that others wait for their turn leaves the commit to them, and waits for
//! how it ends. A thread that is alone commits at once.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rusqlite::Connection;

use super::Reason;

/// A connection for all threads of the process.
pub(super) struct Turns {
    state: Mutex<State>,
    /// How many threads wait for their turn.
    coming: AtomicUsize,
}

struct State {
    connection: Connection,
    /// Who wait for the commit of the open transaction, if one is open.
    open: Option<Arc<Round>>,
    /// When a thread last waited in vain for another process that holds the file, and what it was told.
    held: Option<(Instant, Reason)>,
}

/// A commit, and how it ended.
#[derive(Default)]
struct Round {
    outcome: Mutex<Option<Result<(), Reason>>>,
    ended: Condvar,
}

impl Turns {
    pub(super) fn new(connection: Connection) -> Self {
        Self { state: Mutex::new(State { connection, open: None, held: None }), coming: AtomicUsize::new(0) }
    }

    /// Runs `work` by itself: it may begin a transaction of its own.
    pub(super) fn alone<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, Reason> {
        let mut turn = self.turn();
        turn.commit();
        work(&mut turn.connection).map_err(|error| Reason::of(&error))
    }

    /// Runs `work` in a transaction that others may share; returns when that is committed. Where one of them fails, it
    /// fails for all: they write to the same disk. Who came while another waited in vain for a file that is held does not
    /// wait once more: many slots would wait one behind the other.
    pub(super) fn together<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Reason> {
        let came = Instant::now();
        let mut turn = self.turn();
        let round = turn.join(came)?;
        let done = work(&turn.connection);
        if let Err(error) = &done {
            turn.give_up(Reason::of(error));
        }
        drop(turn);
        round.wait()?;
        done.map_err(|error| Reason::of(&error))
    }

    fn turn(&self) -> Turn<'_> {
        self.coming.fetch_add(1, Ordering::SeqCst);
        // A thread that panicked in its turn has left nothing half done.
        let state = self.state.lock();
        self.coming.fetch_sub(1, Ordering::SeqCst);
        Turn { state, coming: &self.coming }
    }
}

/// The right to use the connection. Its end commits, unless that can be left to another.
struct Turn<'a> {
    state: MutexGuard<'a, State>,
    coming: &'a AtomicUsize,
}

impl State {
    /// Joins the open transaction, or begins one for a thread that `came` then.
    fn join(&mut self, came: Instant) -> Result<Arc<Round>, Reason> {
        if self.open.is_none() {
            if let Some((_, reason)) = self.held.as_ref().filter(|(until, _)| came < *until) {
                return Err(reason.clone());
            }
            self.run("BEGIN IMMEDIATE").map_err(|error| {
                let reason = Reason::of(&error);
                self.held = reason.passes.then(|| (Instant::now(), reason.clone()));
                reason
            })?;
        }
        Ok(Arc::clone(self.open.get_or_insert_default()))
    }

    fn commit(&mut self) {
        if self.open.is_none() {
            return;
        }
        match self.run("COMMIT") {
            Ok(()) => self.end(Ok(())),
            Err(error) => self.give_up(Reason::of(&error)),
        }
    }

    fn give_up(&mut self, reason: Reason) {
        // After some errors SQLite has done so already.
        if !self.connection.is_autocommit() {
            // Where this fails, so does the next beginning.
            let _ = self.run("ROLLBACK");
        }
        self.end(Err(reason));
    }

    fn end(&mut self, outcome: Result<(), Reason>) {
        if let Some(round) = self.open.take() {
            *round.outcome.lock() = Some(outcome);
            round.ended.notify_all();
        }
    }

    fn run(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }
}

impl Round {
    fn wait(&self) -> Result<(), Reason> {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            self.ended.wait(&mut outcome);
        }
    }
}

impl Deref for Turn<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.state.give_up("a thread that wrote to it has panicked".into());
        } else if self.coming.load(Ordering::SeqCst) == 0 {
            // Who comes now has not been counted, and finds no transaction open; who was counted commits.
            self.state.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use rusqlite::{Error, ffi};

    use super::*;

    impl Turns {
        fn wait_for_coming(&self, count: usize) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.coming.load(Ordering::SeqCst) < count {
                assert!(Instant::now() < deadline, "nobody comes");
                thread::yield_now();
            }
        }
    }

    fn add(connection: &Connection, number: usize) -> rusqlite::Result<usize> {
        connection.execute("INSERT INTO numbers (number) VALUES (?1)", [number])
    }

    /// Lets seven threads write while an eighth is at it, which then does `last`. What each was told, how many commits
    /// there were, and how many numbers were left.
    fn eight_at_once(
        last: impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send,
    ) -> (Vec<Result<usize, Reason>>, usize, usize) {
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
        let turns = &Turns::new(connection);
        let told = thread::scope(|scope| {
            let (begun, first) = std::sync::mpsc::channel();
            let eighth = scope.spawn(move || {
                let work = |connection: &Connection| {
                    begun.send(()).unwrap();
                    turns.wait_for_coming(7);
                    last(connection)
                };
                catch_unwind(AssertUnwindSafe(|| turns.together(work))).unwrap_or(Err("it panicked".into()))
            });
            first.recv().unwrap();
            let seven = (0..7).map(|number| scope.spawn(move || turns.together(|connection| add(connection, number))));
            let seven: Vec<_> = seven.collect();
            seven.into_iter().chain([eighth]).map(|thread| thread.join().unwrap()).collect()
        });
        let left = turns.alone(|connection| connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)));
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
        let turns = &Turns::new(connection);
        thread::scope(|scope| {
            let threads =
                [0; 4].map(|number| scope.spawn(move || turns.together(|connection| add(connection, number))));
            turns.wait_for_coming(3);
            ALL_CAME.store(true, Ordering::SeqCst);
            assert!(threads.into_iter().all(|thread| thread.join().unwrap().is_err_and(|reason| reason.passes)));
        });
        assert_eq!(WAITS.load(Ordering::SeqCst), 1);
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(turns.together(|connection| add(connection, 4)).ok(), Some(1));
    }

    #[test]
    fn who_shared_a_commit_that_failed_is_told() {
        // What it refers to is looked for only at the commit.
        let (told, _, left) = eight_at_once(|connection| connection.execute("INSERT INTO numbers VALUES (8, 99)", []));
        assert!(told.iter().all(Result::is_err), "{told:?}");
        assert_eq!(left, 0);
    }
}
