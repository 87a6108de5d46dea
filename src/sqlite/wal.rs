//! Syncs SQLite's write-ahead log to disk; threads share a sync.
//!
//! A commit is only written to the log: it survives its process, but not a power failure. A sync makes all commits
//! before it durable, whoever made them. So results stored at about the same time wait for one sync, outside of every
//! lock, and what need not survive a power failure waits for none.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::beside;

/// The write-ahead log of an open database.
pub(crate) struct WriteAheadLog {
    file: File,
    /// Held by the thread that syncs; others wait for it.
    syncing: Mutex<()>,
    /// The next sync, for callers from now on.
    next: Mutex<Arc<SharedSync>>,
}

/// A sync and its outcome, for all its callers, even if a later sync ends differently.
#[derive(Default)]
struct SharedSync(OnceLock<Result<(), Arc<io::Error>>>);

impl WriteAheadLog {
    /// Opens the log of an open `database`, whose path has no links in it. The log is beside it as long as it is open.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        Ok(Self::of(File::options().read(true).write(true).open(beside(database, "-wal"))?))
    }

    fn of(file: File) -> Self {
        Self { file, syncing: Mutex::default(), next: Mutex::default() }
    }

    /// Returns when all earlier commits are on disk.
    pub(crate) fn sync(&self) -> Result<(), Arc<io::Error>> {
        self.join(|| self.file.sync_data())
    }

    /// Waits for a sync that begins after this call: another thread's, or its own.
    fn join(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Arc<io::Error>> {
        let mine = Arc::clone(&self.next.lock());
        let _syncing = self.syncing.lock();
        let begin = || {
            // Later commits are not covered.
            *self.next.lock() = Arc::default();
            sync().map_err(Arc::new)
        };
        mine.0.get_or_init(begin).clone()
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
    use crate::sqlite::DatabaseError;

    impl WriteAheadLog {
        /// One that nothing can be synced with: a pipe takes no sync.
        pub(crate) fn broken() -> Self {
            let (_, writer) = io::pipe().unwrap();
            Self::of(File::from(OwnedFd::from(writer)))
        }

        /// Waits until so many threads wait for the sync that comes next.
        fn wait_for_members(&self, count: usize) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Arc::strong_count(&self.next.lock()) <= count {
                assert!(Instant::now() < deadline, "nobody waits");
                thread::yield_now();
            }
        }
    }

    fn shared() -> WriteAheadLog {
        WriteAheadLog::of(tempfile::tempfile().unwrap())
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
            asking
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Err(Arc::new(io::Error::other("it panicked")))))
                .map(|told| told.map_err(|error| DatabaseError::from(&*error).text))
                .collect()
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
        let (made, told) = eight_at_once(full);
        assert_eq!((made, told), (1, vec![Err("the disk is full".to_owned()); 8]));
    }

    #[test]
    fn a_panic_leaves_no_thread_waiting() {
        let first = AtomicUsize::new(0);
        let (made, told) = eight_at_once(|| {
            assert!(first.fetch_add(1, Ordering::Relaxed) > 0, "the first panics");
            Ok(())
        });
        assert_eq!((made, told.iter().filter(|outcome| outcome.is_ok()).count()), (2, 7));
    }

    #[test]
    fn later_requests_get_their_own_sync() {
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
