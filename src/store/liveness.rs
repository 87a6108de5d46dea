//! Which processes of a results file are alive: each holds a lock that dies with it. Neither a pid, which is used
//! again, nor a time, which says nothing of a process that was merely stopped, could tell.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The lock of this process. The system drops it when the process ends, however it ends.
pub(super) struct AliveLock {
    path: PathBuf,
    _file: File,
}

impl AliveLock {
    /// Takes the lock of `process`, whose number no other process has.
    pub(super) fn take(results: &Path, process: i64) -> io::Result<Self> {
        let path = path(results, process);
        let file = open(&path, true)?;
        file.lock()?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for AliveLock {
    /// An orderly end leaves no file behind. One that stays is as good: nobody holds its lock.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `process` holds its lock. A lock that cannot be asked for counts as held: nothing is taken from a process
/// that may be alive.
pub(super) fn is_alive(results: &Path, process: i64) -> bool {
    let path = path(results, process);
    match open(&path, false).map(|file| file.try_lock()) {
        Ok(Ok(())) => {
            let _ = fs::remove_file(path);
            false
        }
        Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
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
        assert!(!is_alive(&results, 7), "nobody has taken it yet");
        let lock = AliveLock::take(&results, 7).unwrap();
        assert!(is_alive(&results, 7));
        assert!(!is_alive(&results, 8));
        drop(lock);
        assert!(!is_alive(&results, 7));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }

    #[test]
    fn a_file_that_nobody_locks_is_a_dead_process() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results.db");
        fs::write(path(&results, 7), "").unwrap();
        assert!(!is_alive(&results, 7));
    }
}
