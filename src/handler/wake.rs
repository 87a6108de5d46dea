//! The pipe by which other threads interrupt a session's poll.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::shutdown::Stop;

const EXITED: u8 = b'x';
const STOPPED: u8 = b's';

/// The end that a session waits on.
pub(super) struct Wake {
    reader: PipeReader,
    waker: Arc<PipeWriter>,
}

/// The end of whoever waits for the child's exit.
pub(super) struct Waker(Arc<PipeWriter>);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        Ok(Self { reader, waker: Arc::new(writer) })
    }

    /// What tells it of the child's exit.
    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Wakes whenever `stop` is raised. The stop may outlive the run, the pipe does not.
    pub(super) fn on_raise(&self, stop: &Stop) {
        let waker = Arc::downgrade(&self.waker);
        stop.on_raise(None, move |_| {
            if let Some(waker) = waker.upgrade() {
                send(&waker, STOPPED);
            }
        });
    }

    /// Empties the pipe; true where it brought the child's exit.
    pub(super) fn brings_exit(&self) -> bool {
        let mut buffer = [0; 64];
        let count = (&self.reader).read(&mut buffer).unwrap_or(0);
        buffer[..count].contains(&EXITED)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Waker {
    /// The child has exited.
    pub(super) fn exited(&self) {
        send(&self.0, EXITED);
    }
}

/// Wakes with `what`. The pipe is never full: only a handful of bytes go through it.
fn send(mut waker: &PipeWriter, what: u8) {
    let _ = waker.write(&[what]);
}
