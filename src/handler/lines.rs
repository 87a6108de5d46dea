//! What a child says line by line: its standard error and its progress.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::Listener;
use super::redact::Redactor;
use crate::json;

/// The most of one line that is kept, in bytes.
const LINE_MAX: usize = 8 << 10;
/// The most of a handler's standard error that is passed on, in bytes.
const STDERR_MAX: usize = 1 << 20;
/// The most of its last lines that become the text of an error, in bytes and in lines.
const LAST_WORDS_MAX: usize = 4 << 10;
const LAST_LINES_MAX: usize = 20;

/// Takes what comes out of a pipe.
pub(super) trait Sink {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]);

    /// Nothing will come any more.
    fn end(&mut self) {}
}

/// Hears the lines of a pipe, one by one.
pub(super) trait HearLine {
    /// The next line, without its end; `cut` where more of it was left out.
    fn line(&mut self, line: &str, cut: bool);
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
        // The cut may have gone through a character.
        let text = if self.cut { text.trim_end_matches(char::REPLACEMENT_CHARACTER) } else { &text };
        self.hearer.line(text, self.cut);
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

/// Who hears what a child says, and what of it nobody may hear.
#[derive(Clone, Copy)]
pub(super) struct Ears<'a> {
    pub(super) listener: &'a dyn Listener,
    pub(super) redactor: &'a Redactor,
}

impl Ears<'_> {
    /// The start of `line`, to be shown to whoever writes the handler.
    pub(super) fn start_of(&self, line: &str) -> String {
        start_of(&self.redactor.start_of_text(line), 80).to_owned()
    }
}

/// A handler's standard error: passed on as it comes, up to [`STDERR_MAX`], and its last lines kept.
pub(super) struct ErrorLog<'a> {
    ears: Ears<'a>,
    passed_on: usize,
    last: VecDeque<String>,
    last_bytes: usize,
}

impl<'a> ErrorLog<'a> {
    /// Passes it on to `ears`.
    pub(super) fn new(ears: Ears<'a>) -> Self {
        Self { ears, passed_on: 0, last: VecDeque::new(), last_bytes: 0 }
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
        let rest = "[prismq: stderr exceeds 1 MiB, the rest is not logged]";
        self.ears.listener.stderr_line(if self.passed_on > STDERR_MAX { rest } else { line });
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
    fn line(&mut self, line: &str, cut: bool) {
        let redactor = self.ears.redactor;
        let line = if cut { format!("{} …", redactor.start_of_text(line)).into() } else { redactor.text(line) };
        self.pass_on(&line);
        self.keep(&line);
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
    pub(super) ears: Ears<'a>,
    complained: bool,
}

impl<'a> Reports<'a> {
    /// Passes them on to `ears`.
    pub(super) fn new(ears: Ears<'a>) -> Self {
        Self { ears, complained: false }
    }

    /// Passes on `report`, which was read from `line`.
    pub(super) fn report(&mut self, report: &Map<String, Value>, line: &str) {
        let Some(percent) = report.get("progress").and_then(percent) else { return self.complain("", line) };
        let message = report.get("message").and_then(Value::as_str).map(|message| self.ears.redactor.text(message));
        self.ears.listener.progress(percent, message.as_deref());
    }

    /// Says once, to whoever writes the handler, that something there is not understood, and `why` where that is known.
    fn complain(&mut self, why: &str, line: &str) {
        if !self.complained {
            self.complained = true;
            let start = self.ears.start_of(line);
            self.ears.listener.stderr_line(&format!(
                "[prismq: invalid progress report ignored: {start:?}{why}; expected {{\"progress\":0 to 100,\"message\":\"…\"}}]"
            ));
        }
    }
}

impl HearLine for Reports<'_> {
    fn line(&mut self, line: &str, cut: bool) {
        match json::read(line) {
            Ok(Value::Object(report)) => self.report(&report, line),
            Ok(_) => self.complain("", line),
            Err(_) if cut => self.complain(&format!(", which is longer than {} KiB", LINE_MAX >> 10), line),
            Err(error) => self.complain(&format!(", which is {error}"), line),
        }
    }
}

/// A percentage, rounded down; `None` where it is no number from 0 to 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is within 0 to 100 by then.
fn percent(progress: &Value) -> Option<u8> {
    progress.as_f64().filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent as u8)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn progress(&self, percent: u8, message: Option<&str>) {
            self.stderr_line(&format!("{percent} {message:?}"));
        }

        fn stderr_line(&self, line: &str) {
            self.0.lock().push(line.to_owned());
        }
    }

    /// The lines passed on of `text` as standard error, which comes in pieces of `size`, and its last words.
    fn log(text: &str, size: usize) -> (Vec<String>, String) {
        let heard = Heard::default();
        let redactor = Redactor::new(["hunter2"]);
        let mut lines = Lines::new(ErrorLog::new(Ears { listener: &heard, redactor: &redactor }));
        text.as_bytes().chunks(size).for_each(|piece| lines.take(piece));
        lines.end();
        let last_words = lines.hearer.last_words();
        (heard.0.into_inner(), last_words)
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
    fn a_secret_is_hidden_wherever_a_piece_or_a_line_is_cut() {
        for size in [1, 2, 3, 100] {
            let (heard, last_words) = log("a hunter2 and\nhunter2", size);
            assert_eq!(heard, ["a *** and", "***"]);
            assert_eq!(last_words, "a *** and\n***");
        }
        for before in LINE_MAX - 8..=LINE_MAX {
            let (heard, last_words) = log(&format!("{}hunter2", "x".repeat(before)), 1000);
            assert!(!heard[0].contains('h') && !last_words.contains('h'), "{before}");
        }
        let (_, last_words) = log(&format!("{}hunter2", "x".repeat(LAST_WORDS_MAX - 3)), 1000);
        assert_eq!(last_words, format!("{}***", "x".repeat(LAST_WORDS_MAX - 3)));
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
}
