//! What the system lends this process: open files, threads, processes, memory. That they run short is the worker's own
//! trouble, never a task's.

use parking_lot::Mutex;
use std::fs;
use std::io;
use std::sync::OnceLock;
use std::thread::{self, Builder};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system lists our open files.
const OPEN_FILES: &str = "/dev/fd";
/// As many open files macOS allows where it says that it allows any number.
const OPEN_MAX: u64 = 10_240;

/// The limit on open files with which this process was started. It is a property of the process, hence a static.
static FIRST_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit on open files to the hard one. It is low for the sake of programs that use `select`, which we
/// do not; [`first_limit`] is what such programs get. Where the system refuses, the limit stays as it is.
pub(crate) fn raise_open_files() {
    let first = getrlimit(Resource::Nofile);
    if FIRST_LIMIT.set(first).is_ok() {
        let raise = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: first.maximum });
        let _ =
            raise(first.maximum).or_else(|_| raise(first.maximum.map_or(Some(OPEN_MAX), |it| Some(it.min(OPEN_MAX)))));
    }
}

/// The limit on open files to give to programs that we start, where it is not ours.
pub(crate) fn first_limit() -> Option<&'static Rlimit> {
    FIRST_LIMIT.get()
}

/// How many files this process may have open; `None` for any number.
pub(crate) fn most_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many files this process has open. Where that is not known, the three that every program has.
pub(crate) fn open_files() -> u64 {
    // One of them is the folder that is just being read.
    fs::read_dir(OPEN_FILES).map_or(3, |files| (files.count() as u64).saturating_sub(1))
}

/// Whether an error says that the system has nothing more to lend for now.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|error| shortages.contains(&error))
}

/// Does `work` on all items at once, or on as many as the system has threads for; returns when all is done.
pub(crate) fn at_once<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    let count = items.len();
    let left = Mutex::new(items);
    let next = || left.lock().pop();
    let work_on = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    thread::scope(|scope| {
        // This thread does what the others do not come to.
        let _ = (1..count).try_for_each(|_| Builder::new().spawn_scoped(scope, work_on).map(drop));
        work_on();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_items_are_worked_on_at_once() {
        let (together, done) = (Barrier::new(8), Mutex::new(Vec::new()));
        at_once((0..8).collect(), |number| {
            together.wait();
            done.lock().push(number);
        });
        let mut done = done.into_inner();
        done.sort_unstable();
        assert_eq!(done, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn an_open_file_counts() {
        let before = open_files();
        let files: Vec<_> = (0..50).map(|_| tempfile::tempfile().unwrap()).collect();
        // Other tests run beside this one.
        assert!(open_files() + 25 > before + files.len() as u64);
        assert!(open_files() <= most_open_files().unwrap_or(u64::MAX));
    }

    #[test]
    fn only_what_the_system_lends_can_run_short() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            assert!(is_shortage(&error.into()), "{error}");
        }
        for error in [Errno::NOENT, Errno::TOOBIG, Errno::ACCESS, Errno::NOEXEC, Errno::IO] {
            assert!(!is_shortage(&error.into()), "{error}");
        }
    }
}
