//! The systemd journal: it knows the time itself, and takes the level from a number at the beginning of a line.

use std::env;
use std::io;

use log::Level;
use rustix::fs::fstat;

/// Whether standard error leads to the journal, and not to a file or pipe that somebody has put in its place.
pub(super) fn is_behind_stderr() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino).as_str())
}

/// The number of a level, as `sd-daemon(3)` has it.
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
