//! Syncs of SQLite's write-ahead log to disk, shared by threads.
//!
//! A commit is only written to the log: it survives the death of its process, not a power cut. A sync of the log makes
//! all commits before it durable, whoever made them. So results that are stored at about the same time wait for one
//! sync, outside of every lock, and what need not survive a power cut waits for none.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::beside;

use crate::os_error;

/// The log of an open database, and who waits for a sync of it.
pub(super) struct SharedSync {
    log: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// A thread syncs now. What was committed after it began is not covered.
    running: bool,
    /// The round of those who ask now.
    next: Arc<Round>,
}

/// One sync, and how it ended: for each who waits for it, also where a later one ends otherwise.
#[derive(Default)]
struct Round(OnceLock<Result<(), String>>);

impl SharedSync {
    /// For the log of an open `database`, whose path has no links in it: it lies beside it, for as long as it is open.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        Ok(Self::of(File::options().read(true).write(true).open(beside(database, "-wal"))?))
    }

    fn of(log: File) -> Self {
        Self { log, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns when all that was committed before is on disk.
    pub(super) fn sync(&self) -> Result<(), String> {
        self.join(|| self.log.sync_data())
    }

    /// Waits for a sync that begins after this call: one that somebody else makes, or one that it makes itself.
    fn join(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), String> {
        let mut state = self.lock();
        let round = Arc::clone(&state.next);
        while state.running {
            self.changed.wait(&mut state);
            if let Some(outcome) = round.0.get() {
                return outcome.clone();
            }
        }
        *state = State { running: true, next: Arc::default() };
        drop(state);
        let ended = Ended(self);
        let outcome = round.0.get_or_init(|| sync().map_err(|error| explain(&error))).clone();
        drop(ended);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Tells the others that a sync has ended, also when it panicked: then one of them tries.
struct Ended<'a>(&'a SharedSync);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().running = false;
        self.0.changed.notify_all();
    }
}

pub(super) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".into(),
        _ => os_error::words(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    impl SharedSync {
        /// One that nothing can be synced with: a pipe takes no sync.
        pub(crate) fn broken() -> Self {
            let (_, writer) = io::pipe().unwrap();
            Self::of(File::from(OwnedFd::from(writer)))
        }

        /// Waits until so many threads wait for the round that comes next.
        fn wait_for_members(&self, count: usize) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Arc::strong_count(&self.lock().next) <= count {
                assert!(Instant::now() < deadline, "nobody waits");
                thread::yield_now();
            }
        }
    }

    fn shared() -> SharedSync {
        SharedSync::of(tempfile::tempfile().unwrap())
    }

    /// Lets eight threads ask while a sync runs, and returns how many syncs they made, and what each was told.
    fn eight_at_once(outcome: impl Fn() -> io::Result<()> + Sync) -> (usize, Vec<Result<(), String>>) {
        let (log, made) = (shared(), AtomicUsize::new(0));
        let (log, made, outcome) = (&log, &made, &outcome);
        let told = thread::scope(|scope| {
            let (begun, first) = mpsc::channel();
            scope.spawn(move || {
                log.join(|| {
                    begun.send(()).unwrap();
                    log.wait_for_members(8);
                    Ok(())
                })
            });
            first.recv().unwrap();
            let ask = || {
                log.join(|| {
                    made.fetch_add(1, Ordering::Relaxed);
                    outcome()
                })
            };
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|thread| thread.join().unwrap_or(Err("it panicked".into()))).collect()
        });
        (made.load(Ordering::Relaxed), told)
    }

    #[test]
    fn threads_that_ask_while_a_sync_runs_share_the_next() {
        assert_eq!(eight_at_once(|| Ok(())), (1, vec![Ok(()); 8]));
    }

    #[test]
    fn all_who_shared_a_sync_that_failed_are_told() {
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(eight_at_once(full), (1, vec![Err("the disk is full".into()); 8]));
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let first = AtomicUsize::new(0);
        let (made, told) = eight_at_once(|| {
            assert!(first.fetch_add(1, Ordering::Relaxed) > 0, "the first panics");
            Ok(())
        });
        assert_eq!((made, told.iter().filter(|outcome| outcome.is_ok()).count()), (2, 7));
    }

    #[test]
    fn who_asks_later_gets_a_sync_of_its_own() {
        let (log, mut made) = (shared(), 0);
        for _ in 0..3 {
            log.join(|| {
                made += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(made, 3);
    }
}
