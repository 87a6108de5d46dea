//! Detects that an open file was removed or replaced. Such a file can still be written, but nobody will ever read it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::beside;
use crate::file_changes::WatchedFile;

/// Identity of a file when it was opened. Links are followed.
pub(crate) struct Anchor {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether it had content, which only another program can have removed.
    is_filled: bool,
}

impl Anchor {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: identity(&metadata), is_filled: metadata.len() > 0 })
    }

    /// Creates an anchor of a file that may legitimately become empty, as a write-ahead log does after a checkpoint.
    fn of_log(path: &Path) -> io::Result<Self> {
        Ok(Self { is_filled: false, ..Self::of(path)? })
    }

    /// Returns the file, to watch its place.
    pub(crate) fn file(&self) -> WatchedFile {
        WatchedFile { path: self.path.clone(), writes: self.is_filled }
    }

    /// Returns what happened to the file if it is no longer in place. If that cannot be checked, it is assumed to be
    /// there.
    pub(crate) fn loss(&self) -> Option<&'static str> {
        match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) != self.identity => Some("was replaced by another file"),
            Ok(metadata) if self.is_filled && metadata.len() == 0 => Some("was emptied"),
            Ok(_) => None,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Some("was deleted or moved"),
                ErrorKind::StaleNetworkFileHandle | ErrorKind::NotConnected => Some("is on a file system that is gone"),
                _ => None,
            },
        }
    }
}

/// Identities of a database's files when it was opened. All of them must stay in place.
#[derive(Default)]
pub(crate) struct Anchors(Vec<Anchor>);

impl Anchors {
    /// Anchors of the open database at `path`: the file, its write-ahead log and its shared memory.
    pub(crate) fn of_database(path: &Path) -> io::Result<Self> {
        let home = path.canonicalize()?;
        let beside = ["-wal", "-shm"].map(|suffix| Anchor::of_log(&beside(&home, suffix)));
        // A missing file cannot be lost.
        Ok(Self([Anchor::of(path)?].into_iter().chain(beside.into_iter().flatten()).collect()))
    }

    /// Returns the files, to watch their places.
    pub(crate) fn files(&self) -> impl Iterator<Item = WatchedFile> {
        self.0.iter().map(Anchor::file)
    }

    /// Returns the first file that is no longer in place, and what happened to it.
    pub(crate) fn loss(&self) -> Option<(&Path, &'static str)> {
        self.0.iter().find_map(|anchor| Some((anchor.path.as_path(), anchor.loss()?)))
    }
}

/// Whether two paths lead to the same file.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|metadata| identity(&metadata));
    one == other || file(one).is_some_and(|it| file(other) == Some(it))
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_lost_when_its_path_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let [file, copy, link] = ["file", "copy", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "a").unwrap();
        symlink(&file, &link).unwrap();
        let anchors = [&file, &link].map(|path| Anchor::of(path).unwrap());
        let losses = || anchors.each_ref().map(Anchor::loss);
        assert_eq!(losses(), [None; 2]);
        fs::write(&file, "more").unwrap();
        assert_eq!(losses(), [None; 2]);
        fs::write(&file, "").unwrap();
        assert_eq!(losses(), [Some("was emptied"); 2]);
        fs::write(&copy, "a").unwrap();
        fs::rename(&copy, &file).unwrap();
        assert_eq!(losses(), [Some("was replaced by another file"); 2]);
        fs::remove_file(&file).unwrap();
        assert_eq!(losses(), [Some("was deleted or moved"); 2]);
    }
}
