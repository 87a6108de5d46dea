//! Support for the systemd journal, which adds the time itself and reads the level from a number at the start of a line.

use std::env;
use std::io;

use log::Level;
use rustix::fs::fstat;

/// Whether standard error is connected to the journal and was not redirected.
pub(super) fn is_behind_stderr() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino).as_str())
}

/// Returns the number of a level (`sd-daemon(3)`).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
