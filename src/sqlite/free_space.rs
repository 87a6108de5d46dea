//! Checks for free space beside a database that could not be written.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::statvfs;

use super::{DatabaseError, beside};

/// Space that a long task needs, in bytes.
const ROOM: u64 = 1 << 20;
/// On a small file system, at most this fraction of it is required.
const SHARE: u64 = 16;

/// Returns how many bytes must be free beside a database before it is written again.
pub(crate) fn needed(database: &Path) -> u64 {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    statvfs(folder).map_or(ROOM, |it| share_of(it.f_blocks.saturating_mul(it.f_frsize)))
}

/// Returns the space required on a file system of this size; some report no size.
fn share_of(size: u64) -> u64 {
    if size == 0 { ROOM } else { ROOM.min(size / SHARE) }
}

/// Writes this much beside a database, since only that respects quotas as well.
pub(crate) fn check(database: &Path) -> Result<(), DatabaseError> {
    let path = beside(database, "-room");
    let room = vec![0; usize::try_from(needed(database)).unwrap_or(0)];
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = written.and_then(|mut file| file.write_all(&room));
    // A file that could not be created is not there; one left behind is overwritten by the next check.
    let _ = fs::remove_file(&path);
    written.map_err(|error| DatabaseError::from(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_free_space_is_a_share_of_the_file_system() {
        assert_eq!(share_of(0), 1 << 20);
        assert_eq!(share_of(1 << 40), 1 << 20);
        assert_eq!(share_of(16 << 20), 1 << 20);
        assert_eq!(share_of(512 << 10), 32 << 10);
    }
}
