//! Waiting for another process that holds a database.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::failpoint;

/// How long a statement waits for another process that has the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where a test wants to see the end of it.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause between two looks: within this time a process that is to end at once stops waiting.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    // SQLite does not tell for how long a statement has waited in vain.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Whether statements still wait for others. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusyPolicy(Arc<AtomicBool>);

impl BusyPolicy {
    /// No statement waits any more, nor goes on waiting.
    pub(crate) fn end_waits(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Lets the statements of a connection wait for other processes while this lasts, the longer the more often they ask.
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

/// Says for how long this thread has waited in vain since that was last said.
pub(super) fn explain() -> String {
    match WAITED.take().as_secs() {
        0 => "another process holds it".into(),
        seconds => format!("another process has held it for {seconds} s"),
    }
}

/// Notes that this thread has waited so long, in vain.
pub(super) fn waited(time: Duration) {
    WAITED.set(time);
}

fn busy_timeout() -> Duration {
    if failpoint::check("impatient").is_ok() { BUSY_TIMEOUT } else { SHORT_TIMEOUT }
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
