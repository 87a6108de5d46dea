//! The pipes to and from a child, none of which ever blocks: what it is fed, and what becomes of what it prints.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::lines::{Ears, ErrorLog, Lines, Reports, Sink};

/// Our ends of the pipes to a child, none of which ever blocks; `None` where one is closed.
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) progress: Option<OwnedFd>,
}

impl Ends {
    /// The ends of pipes that were just opened.
    pub(super) fn new([stdin, stdout, stderr, progress]: [OwnedFd; 4]) -> io::Result<Self> {
        for fd in [&stdin, &stdout, &stderr, &progress] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), progress: Some(progress) })
    }
}

/// What a child is given to read.
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// Whether nothing comes after it.
    pub(super) is_last: bool,
}

/// The end of a pipe that feeds a child.
pub(super) struct Feed {
    fd: Option<OwnedFd>,
    input: Input,
    written: usize,
}

impl Feed {
    /// Feeds `input` into `fd`, and closes it where that was the last.
    fn new(fd: Option<OwnedFd>, input: Input) -> Self {
        Self { fd, input, written: 0 }
    }

    /// The open end, to wait on, while there is something to write.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| !self.is_written() || self.input.is_last)
    }

    /// Writes what the pipe takes now. A child that closed its end wants no more: that is its right.
    pub(super) fn write(&mut self) {
        let Some(fd) = self.fd() else { return };
        match rustix::io::write(fd, &self.input.bytes[self.written..]) {
            Ok(count) => self.written += count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.close(),
        }
        if self.is_written() && self.input.is_last {
            self.close();
        }
    }

    fn is_written(&self) -> bool {
        self.written == self.input.bytes.len()
    }

    /// Whether the child has not read any of it, as far as the system tells.
    pub(super) fn is_untouched(&self) -> bool {
        let unread = self.fd.as_ref().and_then(|fd| rustix::io::ioctl_fionread(fd).ok());
        self.written == 0 || unread.is_some_and(|unread| unread >= self.written as u64)
    }

    /// Gives up on what is not written yet.
    pub(super) fn close(&mut self) {
        self.fd = None;
    }
}

/// The end of a pipe that a child prints into, and where it goes.
pub(super) struct Source<S> {
    fd: Option<OwnedFd>,
    sink: S,
}

impl<S: Sink> Source<S> {
    /// Reads from `fd` into `sink`.
    fn new(fd: Option<OwnedFd>, sink: S) -> Self {
        Self { fd, sink }
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

    /// The pipe, and what came out of it.
    fn finish(mut self) -> (Option<OwnedFd>, S) {
        self.sink.end();
        (self.fd, self.sink)
    }
}

/// Everything between us and one child, for one task. `O` takes its standard output.
pub(super) struct Pipes<'a, O> {
    pub(super) stdin: Feed,
    pub(super) stdout: Source<O>,
    stderr: Source<Lines<ErrorLog<'a>>>,
    progress: Source<Lines<Reports<'a>>>,
}

impl<'a, O: Sink> Pipes<'a, O> {
    /// Gives `input` to the child at the other side of `ends`, and hears what it says with `ears`.
    pub(super) fn new(ends: Ends, input: Input, stdout: O, ears: Ears<'a>) -> Self {
        Self {
            stdin: Feed::new(ends.stdin, input),
            stdout: Source::new(ends.stdout, stdout),
            stderr: Source::new(ends.stderr, Lines::new(ErrorLog::new(ears))),
            progress: Source::new(ends.progress, Lines::new(Reports::new(ears))),
        }
    }

    /// The ends to wait on until they can be read.
    pub(super) fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        [self.stdout.fd(), self.stderr.fd(), self.progress.fd()].into_iter().flatten()
    }

    /// Moves on what can be moved without waiting. Asking every pipe is simpler than to keep track of which is ready.
    ///
    /// Standard output comes first: what the child had said elsewhere before it printed its answer is then heard with
    /// the answer, since a pipe holds no more than the buffer.
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

    /// The pipes, what came out of standard output, and the last lines of standard error.
    pub(super) fn finish(self) -> (Ends, O, String) {
        let (stdout, output) = self.stdout.finish();
        let (progress, _) = self.progress.finish();
        let (stderr, lines) = self.stderr.finish();
        (Ends { stdin: self.stdin.fd, stdout, stderr, progress }, output, lines.hearer.last_words())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};

    use super::*;
    use crate::handler::Listener;
    use crate::handler::redact::Redactor;

    struct Deaf;

    impl Listener for Deaf {
        fn progress(&self, _: u8, _: Option<&str>) {}
        fn stderr_line(&self, _: &str) {}
    }

    /// Takes an answer with which, at the last moment, something is said on standard error.
    struct Answer(PipeWriter);

    impl Sink for Answer {
        fn take(&mut self, _: &[u8]) {
            self.0.write_all(b"said with it\n").unwrap();
        }
    }

    #[test]
    fn what_was_said_before_an_answer_is_heard_with_it() {
        let [stdin, mut stdout, stderr, progress] = [(); 4].map(|()| io::pipe().unwrap());
        let ends = Ends::new([stdin.1.into(), stdout.0.into(), stderr.0.into(), progress.0.into()]).unwrap();
        let redactor = Redactor::new([]);
        let ears = Ears { listener: &Deaf, redactor: &redactor };
        let input = Input { bytes: Vec::new(), is_last: false };
        let mut pipes = Pipes::new(ends, input, Answer(stderr.1), ears);
        stdout.1.write_all(b"answer\n").unwrap();
        pipes.transfer(&mut [0; 64]);
        assert_eq!(pipes.finish().2, "said with it");
    }
}
