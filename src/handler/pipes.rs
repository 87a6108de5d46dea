//! The pipes to and from a child, none of which ever blocks: what it is fed, and what becomes of what it prints.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use serde_json::{Map, Value};

use super::Listener;

/// The most a handler may print as its result, in bytes.
pub(super) const OUTPUT_MAX: usize = 16 << 20;
/// The most of one line that is kept, in bytes.
const LINE_MAX: usize = 8 << 10;
/// The most of a handler's standard error that is passed on, in bytes.
const STDERR_MAX: usize = 1 << 20;
/// The most of its last lines that become the text of an error, in bytes and in lines.
const LAST_WORDS_MAX: usize = 4 << 10;
const LAST_LINES_MAX: usize = 20;

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

/// Hears the lines of a pipe, one by one.
pub(super) trait HearLine {
    /// The next line, without its end.
    fn line(&mut self, line: &str);
}

/// Cuts what it takes into lines. What a line has beyond [`LINE_MAX`] bytes is left out.
pub(super) struct Lines<H> {
    line: Vec<u8>,
    cut: bool,
    /// Hears them.
    pub(super) hearer: H,
}

impl<H: HearLine> Lines<H> {
    /// Lines for `hearer`.
    pub(super) fn new(hearer: H) -> Self {
        Self { line: Vec::new(), cut: false, hearer }
    }

    fn push(&mut self, text: &[u8]) {
        let room = LINE_MAX - self.line.len();
        self.cut |= text.len() > room;
        self.line.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn hand_on(&mut self) {
        let text = String::from_utf8_lossy(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
        if self.cut {
            // The cut may have gone through a character.
            self.hearer.line(&format!("{} …", text.trim_end_matches(char::REPLACEMENT_CHARACTER)));
        } else {
            self.hearer.line(&text);
        }
        self.line.clear();
        self.cut = false;
    }
}

impl<H: HearLine> Sink for Lines<H> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(text) => {
                    self.push(text);
                    self.hand_on();
                }
                None => self.push(piece),
            }
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.hand_on();
        }
    }
}

/// A handler's standard error: passed on as it comes, up to [`STDERR_MAX`], and its last lines kept.
pub(super) struct ErrorLog<'a> {
    listener: &'a dyn Listener,
    passed_on: usize,
    last: VecDeque<String>,
    last_bytes: usize,
}

impl<'a> ErrorLog<'a> {
    /// Passes on to `listener`.
    pub(super) fn new(listener: &'a dyn Listener) -> Self {
        Self { listener, passed_on: 0, last: VecDeque::new(), last_bytes: 0 }
    }

    /// The last lines, as the text of an error; empty where nothing was printed.
    pub(super) fn last_words(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        lines.join("\n").trim().to_owned()
    }

    fn pass_on(&mut self, line: &str) {
        if self.passed_on > STDERR_MAX {
            return;
        }
        // The line break counts, or empty lines would be free.
        self.passed_on += line.len() + 1;
        if self.passed_on > STDERR_MAX {
            self.listener.stderr_line("[prismq: the rest of its standard error is not shown, it is over 1 MiB]");
        } else {
            self.listener.stderr_line(line);
        }
    }

    fn keep(&mut self, line: &str) {
        let line = start_of(line, LAST_WORDS_MAX);
        self.last.push_back(line.to_owned());
        self.last_bytes += line.len();
        while self.last_bytes > LAST_WORDS_MAX || self.last.len() > LAST_LINES_MAX {
            self.last_bytes -= self.last.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

impl HearLine for ErrorLog<'_> {
    fn line(&mut self, line: &str) {
        self.pass_on(line);
        self.keep(line);
    }
}

/// As many whole characters of `line` as fit into `max` bytes.
fn start_of(line: &str, max: usize) -> &str {
    let mut end = line.len().min(max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// A handler's progress reports.
pub(super) struct Reports<'a> {
    listener: &'a dyn Listener,
    complained: bool,
}

impl<'a> Reports<'a> {
    /// Passes on to `listener`.
    pub(super) fn new(listener: &'a dyn Listener) -> Self {
        Self { listener, complained: false }
    }

    /// Says once, to whoever writes the handler, that something there is not understood.
    fn complain(&mut self, line: &str) {
        if !self.complained {
            self.complained = true;
            let start = start_of(line, 80);
            self.listener.stderr_line(&format!(
                "[prismq: not a progress report, ignored: {start:?}; expected {{\"progress\":0 to 100,\"message\":\"…\"}}]"
            ));
        }
    }
}

impl HearLine for Reports<'_> {
    fn line(&mut self, line: &str) {
        let report = serde_json::from_str::<Map<String, Value>>(line).ok();
        match report.as_ref().and_then(|report| Some((report, percent(report.get("progress")?)?))) {
            Some((report, percent)) => self.listener.progress(percent, report.get("message").and_then(Value::as_str)),
            None => self.complain(line),
        }
    }
}

/// A percentage, rounded down; `None` where it is no number from 0 to 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is within 0 to 100 by then.
fn percent(progress: &Value) -> Option<u8> {
    progress.as_f64().filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent as u8)
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
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn progress(&self, percent: u8, message: Option<&str>) {
            self.stderr_line(&format!("{percent} {message:?}"));
        }

        fn stderr_line(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    /// The lines passed on of `text` as standard error, which comes in pieces of `size`, and its last words.
    fn log(text: &str, size: usize) -> (Vec<String>, String) {
        let heard = Heard::default();
        let mut lines = Lines::new(ErrorLog::new(&heard));
        text.as_bytes().chunks(size).for_each(|piece| lines.take(piece));
        lines.end();
        let last_words = lines.hearer.last_words();
        (heard.0.into_inner().unwrap(), last_words)
    }

    #[test]
    fn lines_do_not_depend_on_how_they_arrive() {
        for size in [1, 2, 3, 100] {
            let (heard, last_words) = log("one\r\n\ntwo ä\nthree", size);
            assert_eq!(heard, ["one", "", "two ä", "three"], "{size}");
            assert_eq!(last_words, "one\n\ntwo ä\nthree");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let (heard, last_words) = log(&format!("x{}\nnext", "ä".repeat(LINE_MAX)), 1000);
        assert_eq!(heard, [format!("x{} …", "ä".repeat(LINE_MAX / 2 - 1)), "next".into()]);
        assert_eq!(last_words, "next");
    }

    #[test]
    fn last_words_are_bounded() {
        let (_, last_words) = log(&"x".repeat(LINE_MAX), 100_000);
        assert_eq!(last_words.len(), LAST_WORDS_MAX);
        let (_, last_words) = log(&"a line of thirty bytes, or so..\n".repeat(1000), 100_000);
        assert_eq!(last_words.lines().count(), LAST_LINES_MAX);
        let (_, last_words) = log(&format!("{}\n", "x".repeat(1000)).repeat(10), 100_000);
        assert_eq!(last_words.lines().count(), 4);
    }

    #[test]
    fn empty_lines_are_not_free() {
        let (heard, _) = log(&"\n".repeat(STDERR_MAX + 10), 100_000);
        assert_eq!(heard.len(), STDERR_MAX + 1);
    }

    #[test]
    fn output_is_kept_up_to_its_limit() {
        let mut output = Output::default();
        output.take(&vec![b'x'; OUTPUT_MAX]);
        assert!(!output.too_long && output.bytes.len() == OUTPUT_MAX);
        output.take(b"x");
        assert!(output.too_long && output.bytes.is_empty());
    }
}
