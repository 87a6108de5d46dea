//! Which processes of a results file are alive: each holds a lock that the system releases when it dies. A pid is not
//! enough, since pids are reused, nor is a time, since a process may just be suspended.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// How long a live process takes at most to restore a removed lock, which it checks at most a second later. Also how long the child of a killed process may
/// hold its lock, until it executes its program.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The lock of this process. The system releases it when the process ends, however it ends.
pub(super) struct AliveLock {
    path: PathBuf,
    file: Mutex<File>,
}

impl AliveLock {
    /// Takes the lock of `process`, a number that no other process has.
    pub(super) fn take(results: &Path, process: i64) -> io::Result<Self> {
        let path = path(results, process);
        Ok(Self { file: Mutex::new(take(&path)?), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it again if it is not where others look for it. Returns whether it was there.
    pub(super) fn keep(&self) -> io::Result<bool> {
        let mut file = self.file.lock();
        let (held, seen) = (file.metadata()?, fs::metadata(&self.path));
        if seen.is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino())) {
            return Ok(true);
        }
        *file = take(&self.path)?;
        Ok(false)
    }
}

impl Drop for AliveLock {
    /// Removes the file on a clean exit. One left behind does no harm: nobody holds its lock.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates the lock file. Nobody may see it unlocked: its process would count as dead.
fn take(path: &Path) -> io::Result<File> {
    let mut unseen = path.as_os_str().to_owned();
    unseen.push("-new");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&unseen)?;
    file.lock()?;
    fs::rename(&unseen, path)?;
    Ok(file)
}

/// The state of a process's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// The process is alive. Also assumed if the lock cannot be checked.
    Held,
    /// The process is dead.
    Free,
    /// The process is dead, or somebody has just removed its lock.
    Missing,
}

/// Returns the state of a process's lock. Removes a free one: it has no further use.
pub(super) fn lock_of(results: &Path, process: i64) -> Lock {
    let path = path(results, process);
    match OpenOptions::new().read(true).write(true).open(&path).map(|file| file.try_lock()) {
        Ok(Ok(())) => {
            let _ = fs::remove_file(path);
            Lock::Free
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Lock::Missing,
        Ok(Err(_)) | Err(_) => Lock::Held,
    }
}

/// Returns which of `processes` are alive, that is, hold their locks. Nothing may be taken from a live process. So if a
/// lock is missing although a process with its pid exists, it gets time to restore it; all of them get it at once. If a
/// lock is held although no process has the pid, either a child of it still holds the lock for a moment, or it lives in
/// another container.
pub(super) fn living(
    connection: &Connection,
    results: &Path,
    processes: impl IntoIterator<Item = i64>,
) -> BTreeSet<i64> {
    let deadline = Instant::now() + BACK_WITHIN;
    let (mut living, mut unclear) = (BTreeSet::new(), BTreeSet::from_iter(processes));
    loop {
        let is_last = Instant::now() >= deadline;
        unclear.retain(|process| match lock_of(results, *process) {
            Lock::Held if !is_last && is_gone(connection, *process) => true,
            Lock::Held => {
                living.insert(*process);
                false
            }
            Lock::Free => false,
            Lock::Missing => may_live_without_lock(connection, *process),
        });
        if unclear.is_empty() || is_last {
            return living;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Returns the pid of a process, unless it has exited cleanly.
fn pid_of(connection: &Connection, process: i64) -> Option<Pid> {
    let pid = connection
        .prepare_cached("SELECT pid FROM workers WHERE process = ?1 AND stopped_at IS NULL")
        .and_then(|mut statement| statement.query_row([process], |row| row.get(0)));
    pid.ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

/// Whether a process has not exited cleanly, and none with its pid exists here.
fn is_gone(connection: &Connection, process: i64) -> bool {
    pid_of(connection, process).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Whether a process has not exited cleanly, and a process with its pid exists that is not a later one.
fn may_live_without_lock(connection: &Connection, process: i64) -> bool {
    let Some(pid) = pid_of(connection, process) else { return false };
    pid != getpid()
        && test_kill_process(pid) != Err(Errno::SRCH)
        && !has_later(connection, process, pid).unwrap_or(false)
}

/// Whether a later process has or had the same pid.
fn has_later(connection: &Connection, process: i64, pid: Pid) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM workers WHERE process > ?1 AND pid = ?2")?
        .exists((process, pid.as_raw_nonzero().get()))
}

/// Returns the path of a process's lock, such as `results.db-worker-7`.
fn path(results: &Path, process: i64) -> PathBuf {
    let mut name = results.file_name().unwrap_or_default().to_owned();
    name.push(format!("-worker-{process}"));
    results.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LAYOUT;

    #[test]
    fn a_process_is_alive_while_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        assert_eq!(lock_of(&results, 7), Lock::Missing);
        let lock = AliveLock::take(&results, 7).unwrap();
        assert_eq!((lock_of(&results, 7), lock_of(&results, 8)), (Lock::Held, Lock::Missing));
        drop(lock);
        assert_eq!(lock_of(&results, 7), Lock::Missing);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }

    #[test]
    fn a_removed_lock_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        let lock = AliveLock::take(&results, 7).unwrap();
        let path = path(&results, 7);
        for disturb in [
            |path: &Path| fs::remove_file(path).unwrap(),
            |path: &Path| {
                fs::rename(path, path.with_extension("old")).unwrap();
                fs::write(path, "").unwrap();
            },
        ] {
            disturb(&path);
            assert!(!lock.keep().unwrap());
            assert_eq!((lock_of(&results, 7), lock.keep().unwrap()), (Lock::Held, true));
        }
    }

    #[test]
    fn an_unlocked_file_means_a_dead_process() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        fs::write(path(&results, 7), "").unwrap();
        assert_eq!((lock_of(&results, 7), lock_of(&results, 7)), (Lock::Free, Lock::Missing));
    }

    #[test]
    fn a_lock_held_by_a_child_of_a_killed_process_is_waited_for() {
        let connection = LAYOUT.in_memory().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let row = "INSERT INTO workers (worker_id, api_url, pid, mark, started_at) VALUES ('a', '', ?1, 'a', '')";
        connection.execute(row, [child.id()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        let held = take(&path(&results, 1)).unwrap();
        let holder = thread::spawn(move || {
            thread::sleep(2 * LOOK_AGAIN);
            drop(held);
        });
        assert_eq!(living(&connection, &results, [1]), BTreeSet::new());
        holder.join().unwrap();

        // One of another container is there for good.
        let _held = take(&path(&results, 1)).unwrap();
        assert_eq!(living(&connection, &results, [1]), BTreeSet::from([1]));
    }

    #[test]
    fn a_reused_pid_says_nothing_about_the_earlier_process() {
        let connection = LAYOUT.in_memory().unwrap();
        connection
            .execute_batch(
                "INSERT INTO workers (worker_id, api_url, pid, mark, started_at, stopped_at) VALUES
                     ('a', '', 1, 'a', '', NULL), ('b', '', 1, 'b', '', NULL), ('c', '', 1, 'c', '', '')",
            )
            .unwrap();
        let may_live = |process| may_live_without_lock(&connection, process);
        assert_eq!([1, 2, 3, 4].map(may_live), [false; 4]);
        connection.execute("DELETE FROM workers WHERE process = 3", []).unwrap();
        assert_eq!([1, 2].map(may_live), [false, true]);
    }
}
