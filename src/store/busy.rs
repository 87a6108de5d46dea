//! Waiting for another process that holds a database.

use std::cell::{Cell, RefCell};
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
    // SQLite asks a function, which knows of nothing else, whether to go on waiting; it does so on the thread that waits.
    static PATIENCE: RefCell<Patience> = RefCell::default();
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Whether statements still wait for others. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// No statement waits any more, nor goes on waiting.
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// What this thread's statements go by from now on.
    pub(super) fn apply(&self) {
        PATIENCE.set(self.clone());
    }
}

/// Lets the statements of a connection wait for other processes.
pub(super) fn wait_on(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(go_on))
}

/// Says for how long this thread has waited in vain since that was last said: SQLite does not tell.
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

/// Waits a little, the longer the more often it is asked; false where a statement is to wait no more.
fn go_on(tries: i32) -> bool {
    let since = SINCE.get().filter(|_| tries > 0).unwrap_or_else(Instant::now);
    SINCE.set(Some(since));
    if since.elapsed() >= busy_timeout() || PATIENCE.with_borrow(Patience::has_ended) {
        waited(since.elapsed());
        return false;
    }
    let pause = Duration::from_millis(u64::try_from(tries).unwrap_or(0) + 1).min(LONGEST_PAUSE);
    thread::sleep(pause);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_to() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("held.db")).unwrap();
        let (other, mut connection, patience) = (open(), open(), Patience::default());
        other.execute_batch("CREATE TABLE numbers (number INTEGER); BEGIN IMMEDIATE").unwrap();
        wait_on(&mut connection).unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let its_patience = patience.clone();
            let waiting = scope.spawn(move || {
                its_patience.apply();
                let begun = connection.execute_batch("BEGIN IMMEDIATE");
                (begun, explain(), explain())
            });
            thread::sleep(Duration::from_millis(1000));
            assert!(!waiting.is_finished());
            patience.end();
            let (begun, said, said_again) = waiting.join().unwrap();
            assert!(begun.is_err());
            let seconds = start.elapsed().as_secs();
            assert!((1..=seconds + 1).any(|it| said == format!("another process has held it for {it} s")), "{said}");
            assert_eq!(said_again, "another process holds it", "another wait says how long that one was");
        });
        assert!(start.elapsed() < BUSY_TIMEOUT / 2);
    }
}
