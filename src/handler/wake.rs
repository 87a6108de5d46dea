//! The pipe by which other threads interrupt a session's poll.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::shutdown::Stop;

/// The end that a session waits on, and the one that wakes it.
pub(super) struct Wake {
    reader: PipeReader,
    writer: Arc<PipeWriter>,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        Ok(Self { reader, writer: Arc::new(writer) })
    }

    /// Wakes whenever `stop` is raised. The stop may outlive the run, the pipe does not.
    pub(super) fn on_raise(&self, stop: &Stop) {
        let writer = Arc::downgrade(&self.writer);
        stop.on_raise(None, move |_| {
            if let Some(writer) = writer.upgrade() {
                // The pipe is never full: only a handful of bytes go through it.
                let _ = (&*writer).write(b"s");
            }
        });
    }

    /// Empties the pipe.
    pub(super) fn drain(&self) {
        let _ = (&self.reader).read(&mut [0; 64]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
