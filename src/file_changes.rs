//! Waits until files may have been deleted, moved or replaced, without looking at them again and again.
//!
//! On Linux, the kernel reports changes by inotify. On other systems, or if a limit of inotify is reached, nothing is
//! watched, and the files are checked every second.

use std::collections::BTreeSet;
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::shutdown::Watch;

/// A file whose changes are waited for.
pub(crate) struct WatchedFile {
    pub(crate) path: PathBuf,
    /// Whether writes count as well, because the file may be emptied.
    pub(crate) writes: bool,
}

/// Pause after a change, so that many of them cost little; also how often to check if the system does not report them.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often to check without a change: those by other machines are not reported.
const CHECK_ANYWAY: Duration = Duration::from_secs(60);

/// Calls `check` at once, and whenever something may have happened to the places of `files`, until it fails or `ended`
/// is raised to `end`. `check` returns whether the files are the same as before the call.
pub(crate) fn check_places<T: Copy + Ord + Send + 'static, E>(
    files: &[WatchedFile],
    ended: &Watch<T>,
    end: T,
    mut check: impl FnMut() -> Result<bool, E>,
) -> Result<(), E> {
    let changes = FileChanges::new(ended, end).ok();
    loop {
        // They are watched before they are checked, so that no change is missed.
        let watched = changes.as_ref().filter(|changes| changes.watch(files));
        while check()? && watched.is_some_and(|changes| !changes.come_within(CHECK_ANYWAY)) {}
        if ended.wait_for(end, CHECK_EVERY) {
            return Ok(());
        }
    }
}

/// Changes of files.
struct FileChanges {
    inotify: OwnedFd,
    /// Readable when nobody needs to wait any more.
    ended: PipeReader,
}

impl FileChanges {
    /// Prepares waits that end when `ended` is raised to `end`. Fails if the system does not report changes.
    fn new<T: Copy + Ord + Send + 'static>(ended: &Watch<T>, end: T) -> io::Result<Self> {
        let inotify = system::open()?;
        let (reader, writer) = io::pipe()?;
        ended.on_raise(ended.get(), move |value| {
            if value >= end {
                let _ = (&writer).write(b"e");
            }
        });
        if ended.get() >= end {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(Self { inotify, ended: reader })
    }

    /// Watches `files`, and all folders and links that their paths lead through. Earlier changes are forgotten, so look at
    /// the files after this call. Returns whether all are watched.
    fn watch(&self, files: &[WatchedFile]) -> bool {
        system::forget(&self.inotify);
        let on_the_way: BTreeSet<PathBuf> = files.iter().flat_map(|file| way_to(&file.path)).collect();
        on_the_way.iter().all(|path| system::watch(&self.inotify, path, false).is_ok())
            && files
                .iter()
                .filter(|file| file.writes)
                .all(|file| system::watch(&self.inotify, &file.path, true).is_ok())
    }

    /// Waits until something has changed, or until the end of all waits; false if neither came in this time.
    fn come_within(&self, timeout: Duration) -> bool {
        let files = &mut [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        // If it is interrupted, looking at the files once more does no harm.
        poll(files, Timespec::try_from(timeout).ok().as_ref()) != Ok(0)
    }
}

/// Returns a path, the path that its links lead to, and all folders above both.
fn way_to(path: &Path) -> BTreeSet<PathBuf> {
    let paths = [absolute(path), path.canonicalize()];
    paths.iter().flatten().flat_map(|path| path.ancestors()).map(Path::to_owned).collect()
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

    pub(super) fn open() -> io::Result<OwnedFd> {
        Ok(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?)
    }

    /// Watches a file, folder or link itself. A file that is open changes its link count when it is deleted.
    pub(super) fn watch(inotify: &OwnedFd, path: &Path, writes: bool) -> io::Result<()> {
        let place = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        let changes = if writes { WatchFlags::MODIFY } else { place | WatchFlags::DONT_FOLLOW };
        // The same file may be on the way to several.
        add_watch(inotify, path, changes | WatchFlags::MASK_ADD)?;
        Ok(())
    }

    /// Reads the reported changes, which are only a reason to look.
    pub(super) fn forget(inotify: &OwnedFd) {
        while rustix::io::read(inotify, &mut [0; 4096]).is_ok() {}
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    pub(super) fn open() -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn watch(_: &OwnedFd, _: &Path, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn forget(_: &OwnedFd) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Far longer than any change takes to be reported.
    const LONG: Duration = Duration::from_secs(60);

    fn files(path: &Path) -> [WatchedFile; 1] {
        [WatchedFile { path: path.to_owned(), writes: true }]
    }

    #[test]
    fn whatever_takes_a_file_from_its_place_is_reported() {
        let cases: [fn(&Path); 8] = [
            |folder| fs::remove_file(folder.join("a/file")).unwrap(),
            |folder| fs::rename(folder.join("a/file"), folder.join("a/old")).unwrap(),
            |folder| fs::rename(folder.join("other"), folder.join("a/file")).unwrap(),
            |folder| fs::write(folder.join("a/file"), "").unwrap(),
            |folder| fs::rename(folder.join("a"), folder.join("b")).unwrap(),
            |folder| fs::remove_dir_all(folder.join("a")).unwrap(),
            |folder| fs::remove_file(folder.join("link")).unwrap(),
            |folder| fs::rename(folder.join("other_link"), folder.join("link")).unwrap(),
        ];
        for (number, disturb) in cases.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("a")).unwrap();
            let file = folder.path().join("a/file");
            fs::write(&file, "content").unwrap();
            fs::write(folder.path().join("other"), "content").unwrap();
            symlink("a/file", folder.path().join("link")).unwrap();
            symlink("other", folder.path().join("other_link")).unwrap();
            let _open = fs::File::open(&file).unwrap();
            let changes = FileChanges::new(&Watch::new(false), true).unwrap();
            assert!(changes.watch(&files(&folder.path().join("link"))));
            disturb(folder.path());
            assert!(changes.come_within(LONG), "case {number}");
            assert!(!changes.watch(&files(&folder.path().join("gone"))));
        }
    }

    #[test]
    fn nothing_else_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        let ended = Watch::new(false);
        let changes = FileChanges::new(&ended, true).unwrap();
        fs::write(&file, "earlier").unwrap();
        assert!(changes.watch(&files(&file)));
        fs::write(folder.path().join("other"), "").unwrap();
        fs::read(&file).unwrap();
        assert!(!changes.come_within(Duration::from_millis(50)));
    }

    #[test]
    fn waiting_ends_with_the_end() {
        let ended = Arc::new(Watch::new(false));
        let changes = FileChanges::new(&ended, true).unwrap();
        let waiting = thread::spawn(move || changes.come_within(LONG));
        ended.raise(true);
        assert!(waiting.join().unwrap());
    }
}
