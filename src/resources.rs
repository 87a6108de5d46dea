//! Resources of this process: open files, threads, processes, memory. A shortage is the worker's problem, never a task's.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const OPEN_FILES: &str = "/dev/fd";
/// The actual limit of macOS if it reports no limit.
const OPEN_MAX: u64 = 10_240;

/// The limit on open files with which this process was started. A static, since it is a property of the process.
static FIRST_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit on open files to the hard one, if the system allows it. It is low for programs that use `select`,
/// which we do not; programs that we start get [`first_limit`].
pub(crate) fn raise_open_files() {
    let first = getrlimit(Resource::Nofile);
    if FIRST_LIMIT.set(first).is_ok() {
        let raise = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: first.maximum });
        let _ =
            raise(first.maximum).or_else(|_| raise(first.maximum.map_or(Some(OPEN_MAX), |it| Some(it.min(OPEN_MAX)))));
    }
}

/// Returns freed memory to the system. A start leaves half a megabyte of it between what stays.
#[allow(unsafe_code)]
pub(crate) fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only touches the allocator's free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the limit on open files for programs that we start, if it differs from ours.
pub(crate) fn first_limit() -> Option<&'static Rlimit> {
    FIRST_LIMIT.get()
}

/// Returns how many files this process may have open; `None` means no limit.
pub(crate) fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns how many files this process has open, or three if unknown.
pub(crate) fn open_files() -> u64 {
    // One of them is the folder being read.
    fs::read_dir(OPEN_FILES).map_or(3, |files| (files.count() as u64).saturating_sub(1))
}

/// Whether an error is a temporary shortage of a resource.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|error| shortages.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_counts() {
        let before = open_files();
        let files: Vec<_> = (0..50).map(|_| tempfile::tempfile().unwrap()).collect();
        // Other tests run beside this one.
        assert!(open_files() + 25 > before + files.len() as u64);
        assert!(open_files() <= open_files_limit().unwrap_or(u64::MAX));
    }

    #[test]
    fn shortages_are_recognised() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            assert!(is_shortage(&error.into()), "{error}");
        }
        for error in [Errno::NOENT, Errno::TOOBIG, Errno::ACCESS, Errno::NOEXEC, Errno::IO] {
            assert!(!is_shortage(&error.into()), "{error}");
        }
    }
}
