//! The pipes to and from a child, none of which ever blocks: what it is fed, and what becomes of what it prints.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::lines::{ErrorLog, Lines, Reports};

/// The most a handler may print as its result, in bytes.
pub(super) const OUTPUT_MAX: usize = 16 << 20;

/// The end of a pipe that feeds a child.
pub(super) struct Feed {
    fd: Option<OwnedFd>,
    input: Vec<u8>,
    written: usize,
}

impl Feed {
    /// Feeds `input` into `fd`, then closes it.
    pub(super) fn new(fd: OwnedFd, input: Vec<u8>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd: Some(fd), input, written: 0 })
    }

    /// The open end, to wait on.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Writes what the pipe takes now. A child that closed its end wants no more: that is its right.
    pub(super) fn write(&mut self) {
        let Some(fd) = &self.fd else { return };
        match rustix::io::write(fd, &self.input[self.written..]) {
            Ok(count) => self.written += count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => self.written = self.input.len(),
        }
        if self.written == self.input.len() {
            self.close();
        }
    }

    /// Gives up on what is not written yet.
    pub(super) fn close(&mut self) {
        self.fd = None;
    }
}

/// Takes what comes out of a pipe.
pub(super) trait Sink {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]);

    /// Nothing will come any more.
    fn end(&mut self) {}
}

/// The end of a pipe that a child prints into, and where it goes.
pub(super) struct Source<S> {
    fd: Option<OwnedFd>,
    sink: S,
}

impl<S: Sink> Source<S> {
    /// Reads from `fd` into `sink`.
    pub(super) fn new(fd: OwnedFd, sink: S) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd: Some(fd), sink })
    }

    /// The open end, to wait on.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Where it goes.
    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// Reads once what is there now, so that a child that never pauses cannot hold up its own deadline.
    pub(super) fn read(&mut self, buffer: &mut [u8]) {
        let Some(fd) = &self.fd else { return };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => self.fd = None,
            Ok(count) => self.sink.take(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.fd = None,
        }
    }

    /// Closes the pipe and hands over what came out of it.
    pub(super) fn finish(mut self) -> S {
        self.sink.end();
        self.sink
    }
}

/// A handler's standard output, up to [`OUTPUT_MAX`].
#[derive(Default)]
pub(super) struct Output {
    /// What was printed.
    pub(super) bytes: Vec<u8>,
    /// Whether there was more than may be kept.
    pub(super) too_long: bool,
}

impl Sink for Output {
    fn take(&mut self, bytes: &[u8]) {
        self.too_long |= self.bytes.len() + bytes.len() > OUTPUT_MAX;
        if self.too_long {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// Everything between us and one child.
pub(super) struct Pipes<'a> {
    pub(super) stdin: Feed,
    pub(super) stdout: Source<Output>,
    pub(super) stderr: Source<Lines<ErrorLog<'a>>>,
    pub(super) progress: Source<Lines<Reports<'a>>>,
}

impl Pipes<'_> {
    /// The ends to wait on until they can be read.
    pub(super) fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        [self.stdout.fd(), self.stderr.fd(), self.progress.fd()].into_iter().flatten()
    }

    /// Moves on what can be moved without waiting. Asking every pipe is simpler than to keep track of which is ready.
    pub(super) fn transfer(&mut self, buffer: &mut [u8]) {
        self.stdin.write();
        self.stdout.read(buffer);
        self.stderr.read(buffer);
        self.progress.read(buffer);
    }

    /// Whether nothing can come any more.
    pub(super) fn are_closed(&self) -> bool {
        self.sources().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_up_to_its_limit() {
        let mut output = Output::default();
        output.take(&vec![b'x'; OUTPUT_MAX]);
        assert!(!output.too_long && output.bytes.len() == OUTPUT_MAX);
        output.take(b"x");
        assert!(output.too_long && output.bytes.is_empty());
    }
}
