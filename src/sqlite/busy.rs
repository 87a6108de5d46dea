//! Waits for another process that holds a database.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::failpoint;

/// Maximum time a statement waits for another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for tests of the timeout.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum pause between two checks; a process that must exit stops waiting within it.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    // SQLite does not tell how long a statement has waited.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Whether statements still wait for other processes. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusyPolicy(Arc<AtomicBool>);

impl BusyPolicy {
    /// Stops all current and future waits.
    pub(crate) fn end_waits(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Makes a connection's statements wait for other processes, with growing pauses.
    pub(super) fn wait_on(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let (policy, mut since) = (self.clone(), Instant::now());
        connection.busy_handler(Some(move |tries| {
            if tries == 0 {
                since = Instant::now();
            }
            if since.elapsed() >= busy_timeout() || policy.has_ended() {
                waited(since.elapsed());
                return false;
            }
            let pause = Duration::from_millis(u64::try_from(tries).unwrap_or(0) + 1);
            thread::sleep(pause.min(LONGEST_PAUSE));
            true
        }))
    }
}

/// Returns how long this thread has waited without success since the last call, as text.
pub(super) fn explain() -> String {
    match WAITED.take().as_secs() {
        0 => "another process holds it".into(),
        seconds => format!("another process has held it for {seconds} s"),
    }
}

/// Records a wait of this thread without success.
pub(super) fn waited(time: Duration) {
    WAITED.set(time);
}

fn busy_timeout() -> Duration {
    failpoint::timeout("short_timeouts", BUSY_TIMEOUT, SHORT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_to() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("held.db")).unwrap();
        let (other, mut connection, policy) = (open(), open(), BusyPolicy::default());
        other.execute_batch("CREATE TABLE numbers (number INTEGER); BEGIN IMMEDIATE").unwrap();
        policy.wait_on(&mut connection).unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let (begins, has_begun) = std::sync::mpsc::channel();
            let waiting = scope.spawn(move || {
                begins.send(()).unwrap();
                let begun = connection.execute_batch("BEGIN IMMEDIATE");
                (begun, explain(), explain())
            });
            has_begun.recv().unwrap();
            thread::sleep(Duration::from_millis(1300));
            assert!(!waiting.is_finished());
            policy.end_waits();
            let (begun, said, said_again) = waiting.join().unwrap();
            assert!(begun.is_err());
            let seconds = start.elapsed().as_secs();
            assert!((1..=seconds + 1).any(|it| said == format!("another process has held it for {it} s")), "{said}");
            assert_eq!(said_again, "another process holds it", "another wait says how long that one was");
        });
        assert!(start.elapsed() < BUSY_TIMEOUT / 2);
    }
}
