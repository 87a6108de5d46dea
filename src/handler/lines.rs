//! Output of a child that is read line by line: standard error and progress.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::Listener;
use super::redact::Redactor;
use crate::json;

/// Maximum length of a line, in bytes; the rest is cut.
const LINE_MAX: usize = 8 << 10;
/// Maximum size of a handler's standard error that is forwarded, in bytes.
const STDERR_MAX: usize = 1 << 20;
/// Maximum size of the stderr tail that becomes the text of an error, in bytes and in lines.
const STDERR_TAIL_MAX: usize = 4 << 10;
const STDERR_TAIL_LINES_MAX: usize = 20;

/// Consumes the bytes of a pipe.
pub(super) trait Sink {
    fn take(&mut self, bytes: &[u8]);

    /// Called at the end of the pipe.
    fn end(&mut self) {}
}

/// Consumes the lines of a pipe.
pub(super) trait LineConsumer {
    /// Takes the next line, without its line break; `cut` if the rest of it was dropped.
    fn line(&mut self, line: &str, cut: bool);
}

/// Splits bytes into lines of at most [`LINE_MAX`] bytes.
pub(super) struct LineSplitter<H> {
    line: Vec<u8>,
    cut: bool,
    pub(super) consumer: H,
}

impl<H: LineConsumer> LineSplitter<H> {
    pub(super) fn new(consumer: H) -> Self {
        Self { line: Vec::new(), cut: false, consumer }
    }

    fn push(&mut self, text: &[u8]) {
        let room = LINE_MAX - self.line.len();
        self.cut |= text.len() > room;
        self.line.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn emit(&mut self) {
        let text = String::from_utf8_lossy(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
        // The cut may have split a character.
        let text = if self.cut { text.trim_end_matches(char::REPLACEMENT_CHARACTER) } else { &text };
        self.consumer.line(text, self.cut);
        self.line.clear();
        self.cut = false;
    }
}

impl<H: LineConsumer> Sink for LineSplitter<H> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(text) => {
                    self.push(text);
                    self.emit();
                }
                None => self.push(piece),
            }
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }
}

/// A listener, and the redactor for everything that it is sent.
#[derive(Clone, Copy)]
pub(super) struct RedactingListener<'a> {
    pub(super) listener: &'a dyn Listener,
    pub(super) redactor: &'a Redactor,
}

impl RedactingListener<'_> {
    /// Returns the start of `line`, redacted, for a message.
    pub(super) fn start_of(&self, line: &str) -> String {
        start_of(&self.redactor.start_of_text(line), 80).to_owned()
    }
}

/// Forwards a handler's standard error line by line, up to [`STDERR_MAX`] bytes, and keeps its tail.
pub(super) struct StderrForwarder<'a> {
    listener: RedactingListener<'a>,
    forwarded: usize,
    last: VecDeque<String>,
    last_bytes: usize,
}

impl<'a> StderrForwarder<'a> {
    pub(super) fn new(listener: RedactingListener<'a>) -> Self {
        Self { listener, forwarded: 0, last: VecDeque::new(), last_bytes: 0 }
    }

    /// Returns the last lines, joined; empty if nothing was printed.
    pub(super) fn stderr_tail(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        lines.join("\n").trim().to_owned()
    }

    fn forward(&mut self, line: &str) {
        if self.forwarded > STDERR_MAX {
            return;
        }
        // Count the line break, so that empty lines are limited too.
        self.forwarded += line.len() + 1;
        let rest = "[prismq: stderr exceeds 1 MiB, the rest is not logged]";
        self.listener.listener.stderr_line(if self.forwarded > STDERR_MAX { rest } else { line });
    }

    fn keep(&mut self, line: &str) {
        let line = start_of(line, STDERR_TAIL_MAX);
        self.last.push_back(line.to_owned());
        self.last_bytes += line.len();
        while self.last_bytes > STDERR_TAIL_MAX || self.last.len() > STDERR_TAIL_LINES_MAX {
            self.last_bytes -= self.last.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

impl LineConsumer for StderrForwarder<'_> {
    fn line(&mut self, line: &str, cut: bool) {
        let redactor = self.listener.redactor;
        let line = if cut { format!("{} …", redactor.start_of_text(line)).into() } else { redactor.text(line) };
        self.forward(&line);
        self.keep(&line);
    }
}

/// Returns at most `max` bytes of `line`, cut between characters.
fn start_of(line: &str, max: usize) -> &str {
    let mut end = line.len().min(max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Forwards a handler's progress reports.
pub(super) struct ProgressForwarder<'a> {
    pub(super) listener: RedactingListener<'a>,
    warned: bool,
}

impl<'a> ProgressForwarder<'a> {
    pub(super) fn new(listener: RedactingListener<'a>) -> Self {
        Self { listener, warned: false }
    }

    /// Forwards `report`, which was read from `line`.
    pub(super) fn report(&mut self, report: &Map<String, Value>, line: &str) {
        let Some(percent) = report.get("progress").and_then(percent) else { return self.warn_once("", line) };
        let message = report.get("message").and_then(Value::as_str).map(|message| self.listener.redactor.text(message));
        self.listener.listener.progress(percent, message.as_deref());
    }

    /// Logs the first invalid report, with `why` it is invalid if that is known.
    fn warn_once(&mut self, why: &str, line: &str) {
        if !self.warned {
            self.warned = true;
            let start = self.listener.start_of(line);
            self.listener.listener.stderr_line(&format!(
                "[prismq: invalid progress report ignored: {start:?}{why}; expected {{\"progress\":0 to 100,\"message\":\"…\"}}]"
            ));
        }
    }
}

impl LineConsumer for ProgressForwarder<'_> {
    fn line(&mut self, line: &str, cut: bool) {
        match json::read(line) {
            Ok(Value::Object(report)) => self.report(&report, line),
            Ok(_) => self.warn_once("", line),
            Err(_) if cut => self.warn_once(&format!(", which is longer than {} KiB", LINE_MAX >> 10), line),
            Err(error) => self.warn_once(&format!(", which is {error}"), line),
        }
    }
}

/// Returns a percentage, rounded down; `None` if it is not a number from 0 to 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The filter limits it to 0 to 100.
fn percent(progress: &Value) -> Option<u8> {
    progress.as_f64().filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent as u8)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct LineRecorder(Mutex<Vec<String>>);

    impl Listener for LineRecorder {
        fn progress(&self, percent: u8, message: Option<&str>) {
            self.stderr_line(&format!("{percent} {message:?}"));
        }

        fn stderr_line(&self, line: &str) {
            self.0.lock().push(line.to_owned());
        }
    }

    /// Feeds `text` in pieces of `size` bytes. Returns the forwarded lines and the stderr tail.
    fn log(text: &str, size: usize) -> (Vec<String>, String) {
        let lines_seen = LineRecorder::default();
        let redactor = Redactor::new(["hunter2"]);
        let mut lines =
            LineSplitter::new(StderrForwarder::new(RedactingListener { listener: &lines_seen, redactor: &redactor }));
        text.as_bytes().chunks(size).for_each(|piece| lines.take(piece));
        lines.end();
        let stderr_tail = lines.consumer.stderr_tail();
        (lines_seen.0.into_inner(), stderr_tail)
    }

    #[test]
    fn lines_do_not_depend_on_the_size_of_reads() {
        for size in [1, 2, 3, 100] {
            let (lines_seen, stderr_tail) = log("one\r\n\ntwo ä\nthree", size);
            assert_eq!(lines_seen, ["one", "", "two ä", "three"], "{size}");
            assert_eq!(stderr_tail, "one\n\ntwo ä\nthree");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let (lines_seen, stderr_tail) = log(&format!("x{}\nnext", "ä".repeat(LINE_MAX)), 1000);
        assert_eq!(lines_seen, [format!("x{} …", "ä".repeat(LINE_MAX / 2 - 1)), "next".into()]);
        assert_eq!(stderr_tail, "next");
    }

    #[test]
    fn a_secret_is_redacted_wherever_a_read_or_a_line_is_cut() {
        for size in [1, 2, 3, 100] {
            let (lines_seen, stderr_tail) = log("a hunter2 and\nhunter2", size);
            assert_eq!(lines_seen, ["a *** and", "***"]);
            assert_eq!(stderr_tail, "a *** and\n***");
        }
        for before in LINE_MAX - 8..=LINE_MAX {
            let (lines_seen, stderr_tail) = log(&format!("{}hunter2", "x".repeat(before)), 1000);
            assert!(!lines_seen[0].contains('h') && !stderr_tail.contains('h'), "{before}");
        }
        let (_, stderr_tail) = log(&format!("{}hunter2", "x".repeat(STDERR_TAIL_MAX - 3)), 1000);
        assert_eq!(stderr_tail, format!("{}***", "x".repeat(STDERR_TAIL_MAX - 3)));
    }

    #[test]
    fn the_stderr_tail_is_limited() {
        let (_, stderr_tail) = log(&"x".repeat(LINE_MAX), 100_000);
        assert_eq!(stderr_tail.len(), STDERR_TAIL_MAX);
        let (_, stderr_tail) = log(&"a line of thirty bytes, or so..\n".repeat(1000), 100_000);
        assert_eq!(stderr_tail.lines().count(), STDERR_TAIL_LINES_MAX);
        let (_, stderr_tail) = log(&format!("{}\n", "x".repeat(1000)).repeat(10), 100_000);
        assert_eq!(stderr_tail.lines().count(), 4);
    }

    #[test]
    fn empty_lines_count_towards_the_limit() {
        let (lines_seen, _) = log(&"\n".repeat(STDERR_MAX + 10), 100_000);
        assert_eq!(lines_seen.len(), STDERR_MAX + 1);
    }
}
