//! Non-blocking pipes to and from a child.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::lines::{LineSplitter, ProgressForwarder, RedactingListener, Sink, StderrForwarder};
use super::process::Ends;

/// What is written to a child's standard input.
pub(super) struct StdinInput {
    pub(super) bytes: Vec<u8>,
    /// Whether standard input is closed after it.
    pub(super) is_last: bool,
}

/// Writes the standard input of a child.
pub(super) struct InputPipe {
    fd: Option<OwnedFd>,
    input: StdinInput,
    written: usize,
}

impl InputPipe {
    fn new(fd: Option<OwnedFd>, input: StdinInput) -> Self {
        Self { fd, input, written: 0 }
    }

    /// Returns the file to poll while there is something to write or to close.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| !self.is_written() || self.input.is_last)
    }

    /// Writes as much as the pipe accepts. A child may close its end without reading everything.
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

    /// Whether the child has read nothing, if the system can tell.
    pub(super) fn is_unread(&self) -> bool {
        let unread = self.fd.as_ref().and_then(|fd| rustix::io::ioctl_fionread(fd).ok());
        self.written == 0 || unread.is_some_and(|unread| unread >= self.written as u64)
    }

    /// Closes the pipe and drops what was not written.
    pub(super) fn close(&mut self) {
        self.fd = None;
    }
}

/// Reads one of a child's output pipes into a sink.
pub(super) struct OutputPipe<S> {
    fd: Option<OwnedFd>,
    sink: S,
}

impl<S: Sink> OutputPipe<S> {
    fn new(fd: Option<OwnedFd>, sink: S) -> Self {
        Self { fd, sink }
    }

    /// Returns the file to poll while it is open.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// Reads once, so that a child that prints without pause cannot delay its own timeout.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) {
        let Some(fd) = &self.fd else { return };
        buffer.clear();
        match rustix::io::read(fd, spare_capacity(buffer)) {
            Ok(0) => self.fd = None,
            Ok(_) => self.sink.take(buffer),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.fd = None,
        }
    }

    /// Ends the sink. Returns the pipe, if it is open, and the sink.
    fn finish(mut self) -> (Option<OwnedFd>, S) {
        self.sink.end();
        (self.fd, self.sink)
    }
}

/// All pipes of a child during one task. `O` takes its standard output.
pub(super) struct Pipes<'a, O> {
    pub(super) stdin: InputPipe,
    pub(super) stdout: OutputPipe<O>,
    stderr: OutputPipe<LineSplitter<StderrForwarder<'a>>>,
    progress: OutputPipe<LineSplitter<ProgressForwarder<'a>>>,
}

impl<'a, O: Sink> Pipes<'a, O> {
    /// Writes `input` to the child, and forwards its standard error and its progress to `listener`.
    pub(super) fn new(ends: Ends, input: StdinInput, stdout: O, listener: RedactingListener<'a>) -> Self {
        Self {
            stdin: InputPipe::new(ends.stdin, input),
            stdout: OutputPipe::new(ends.stdout, stdout),
            stderr: OutputPipe::new(ends.stderr, LineSplitter::new(StderrForwarder::new(listener))),
            progress: OutputPipe::new(ends.progress, LineSplitter::new(ProgressForwarder::new(listener))),
        }
    }

    /// Returns the files to poll for reading.
    pub(super) fn sources(&self) -> impl Iterator<Item = &OwnedFd> {
        [self.stdout.fd(), self.stderr.fd(), self.progress.fd()].into_iter().flatten()
    }

    /// Reads and writes what is possible without blocking. Trying every pipe is simpler than tracking which are ready.
    ///
    /// Standard output is read first. Whatever the child wrote to the other pipes before its answer is then read in the
    /// same call, since a pipe holds no more than the buffer.
    pub(super) fn transfer(&mut self, buffer: &mut Vec<u8>) {
        self.stdin.write();
        self.stdout.read(buffer);
        self.stderr.read(buffer);
        self.progress.read(buffer);
    }

    /// Whether the child has closed all of its output pipes.
    pub(super) fn are_closed(&self) -> bool {
        self.sources().next().is_none()
    }

    /// Returns the pipes, the sink of standard output, and the stderr tail.
    pub(super) fn finish(self) -> (Ends, O, String) {
        let (stdout, output) = self.stdout.finish();
        let (progress, _) = self.progress.finish();
        let (stderr, lines) = self.stderr.finish();
        (Ends { stdin: self.stdin.fd, stdout, stderr, progress }, output, lines.consumer.stderr_tail())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, PipeWriter, Write};

    use super::*;
    use crate::handler::redact::Redactor;
    use crate::handler::run::NullListener;

    /// Writes to standard error while it takes an answer.
    struct LateStderr(PipeWriter);

    impl Sink for LateStderr {
        fn take(&mut self, _: &[u8]) {
            self.0.write_all(b"said with it\n").unwrap();
        }
    }

    #[test]
    fn stderr_written_before_an_answer_arrives_with_it() {
        let [stdin, mut stdout, stderr, progress] = [(); 4].map(|()| io::pipe().unwrap());
        let ends = Ends::new([stdin.1.into(), stdout.0.into(), stderr.0.into(), progress.0.into()]).unwrap();
        let redactor = Redactor::new([]);
        let listener = RedactingListener { listener: &NullListener, redactor: &redactor };
        let input = StdinInput { bytes: Vec::new(), is_last: false };
        let mut pipes = Pipes::new(ends, input, LateStderr(stderr.1), listener);
        stdout.1.write_all(b"answer\n").unwrap();
        pipes.transfer(&mut Vec::with_capacity(64));
        assert_eq!(pipes.finish().2, "said with it");
    }
}
