//! Which processes of a results file are alive: each holds a lock that dies with it. Neither a pid, which is used
//! again, nor a time, which says nothing of a process that was merely stopped, could tell.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// How long a process that lives takes at most to put back its lock, if somebody took it away.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The lock of this process. The system drops it when the process ends, however it ends.
pub(super) struct AliveLock {
    path: PathBuf,
    file: Mutex<File>,
}

impl AliveLock {
    /// Takes the lock of `process`, whose number no other process has.
    pub(super) fn take(results: &Path, process: i64) -> io::Result<Self> {
        let path = path(results, process);
        Ok(Self { file: Mutex::new(take(&path)?), path })
    }

    /// Takes it again if it is not where others look for it.
    pub(super) fn keep(&self) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, seen) = (file.metadata()?, fs::metadata(&self.path));
        if seen.is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino())) {
            return Ok(());
        }
        *file = take(&self.path)?;
        Ok(())
    }
}

impl Drop for AliveLock {
    /// An orderly end leaves no file behind. One that stays is as good: nobody holds its lock.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Nobody may see the file before it is locked: it would be a dead process's.
fn take(path: &Path) -> io::Result<File> {
    let mut unseen = path.as_os_str().to_owned();
    unseen.push("-new");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&unseen)?;
    file.lock()?;
    fs::rename(&unseen, path)?;
    Ok(file)
}

/// What the lock of a process says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// It lives. So it is counted where the lock cannot be asked for.
    Held,
    /// It is dead.
    Free,
    /// It is dead, or has just lost its lock.
    Missing,
}

/// The lock of `process`. A free one is taken away: it has said all it can.
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

/// Whether `process` lives: it holds its lock. Nothing is taken from a process that may be alive, so where the lock is
/// missing although there is a process of its number, that has the time to put it back.
pub(super) fn is_alive(connection: &Connection, results: &Path, process: i64) -> bool {
    let deadline = Instant::now() + BACK_WITHIN;
    let mut may_live = None;
    loop {
        match lock_of(results, process) {
            Lock::Held => return true,
            Lock::Free => return false,
            Lock::Missing => {}
        }
        if !*may_live.get_or_insert_with(|| may_live_without_lock(connection, process)) || Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Whether a process has not ended in order, and one of its number exists.
fn may_live_without_lock(connection: &Connection, process: i64) -> bool {
    let pid = connection
        .prepare_cached("SELECT pid FROM workers WHERE process = ?1 AND stopped_at IS NULL")
        .and_then(|mut statement| statement.query_row([process], |row| row.get(0)));
    let pid = pid.ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    pid.is_some_and(|pid| pid != getpid() && test_kill_process(pid) != Err(Errno::SRCH))
}

/// `results.db-worker-7`, beside the results file.
fn path(results: &Path, process: i64) -> PathBuf {
    let mut name = results.file_name().unwrap_or_default().to_owned();
    name.push(format!("-worker-{process}"));
    results.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_lock_that_was_taken_away_is_put_back() {
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
            lock.keep().unwrap();
            assert_eq!(lock_of(&results, 7), Lock::Held);
        }
    }

    #[test]
    fn a_file_that_nobody_locks_is_a_dead_process() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        fs::write(path(&results, 7), "").unwrap();
        assert_eq!((lock_of(&results, 7), lock_of(&results, 7)), (Lock::Free, Lock::Missing));
    }
}
