//! Printing for commands: what goes to a terminal, to a pipe, and what may reach either.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use console::measure_text_width;
use serde::Serialize;

use crate::os_error;

/// Where a command writes: results to standard output, everything else to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Whether a person is looking at it.
    #[must_use]
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether it may have colours, bars and live lines: a terminal that is not dumb, and `NO_COLOR` is not set.
    #[must_use]
    pub(crate) fn is_decorated(self) -> bool {
        self.can_move_cursor() && variable("NO_COLOR").is_none()
    }

    /// Whether it is a terminal on which lines can be drawn over.
    #[must_use]
    pub(crate) fn can_move_cursor(self) -> bool {
        self.is_terminal() && variable("TERM").is_some_and(|term| term != "dumb")
    }
}

/// How a stream may be written to for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Bars and the like, which take signs beyond ASCII.
    pub has_bars: bool,
    /// Whether the locale has such signs.
    pub is_utf8: bool,
    /// The columns of the terminal; without end where there is none.
    pub width: usize,
    has_colours: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// All is well.
    Good,
    /// Somebody should look at it.
    Warn,
    /// Something failed.
    Bad,
    /// Less important than the rest.
    Soft,
}

impl Look {
    /// What the stream, the locale and the environment allow.
    #[must_use]
    pub(crate) fn of(stream: Stream) -> Self {
        let term = match stream {
            Stream::Stdout => console::Term::stdout(),
            Stream::Stderr => console::Term::stderr(),
        };
        Self {
            has_bars: stream.is_decorated() && is_utf8(),
            is_utf8: is_utf8(),
            width: if stream.is_terminal() { term.size().1.into() } else { usize::MAX },
            has_colours: stream.is_decorated() && variable("CLICOLOR").is_none_or(|value| value != "0"),
        }
    }

    /// Text alone.
    #[must_use]
    pub(crate) fn plain() -> Self {
        Self { has_bars: false, is_utf8: false, width: usize::MAX, has_colours: false }
    }

    /// The most columns that names take in a table: on a terminal, a long one must leave room for what the table says.
    #[must_use]
    pub(crate) fn longest_name(&self) -> usize {
        if self.width == usize::MAX { usize::MAX } else { (self.width / 4).max(20) }
    }

    /// `text` in this colour, where there are colours.
    #[must_use]
    pub(crate) fn paint(&self, text: &str, colour: Colour) -> String {
        let style = console::Style::new().force_styling(self.has_colours);
        let style = match colour {
            Colour::Good => style.green(),
            Colour::Warn => style.yellow(),
            Colour::Bad => style.red(),
            Colour::Soft => style.dim(),
        };
        if text.is_empty() { String::new() } else { style.apply_to(text).to_string() }
    }
}

/// A variable that is set to more than nothing.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether the locale has more signs than ASCII's.
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    let locale = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// Prints `text` and a line break on standard output.
///
/// Where the reader is gone (`prismq results | head`) the error is one that [`is_closed_pipe`] knows.
pub(crate) fn print_line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    on_stdout(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Says something good to know as a line on standard error, unless `-q` or the log's level wants less than that.
pub(crate) fn note(text: impl Display) {
    if log::max_level() >= log::LevelFilter::Info {
        say(text);
    }
}

/// Says what went wrong as a line on standard error. Where nobody reads that any more, nobody is left to tell.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
}

/// Prints `value` as one line of JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = buffered();
    on_stdout(write_json_line(&mut out, value).and_then(|()| out.flush()))
}

/// Writes `value` as one line of JSON.
pub(crate) fn write_json_line(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", printable_json(&json))
}

/// Standard output for many lines. Whoever takes it must flush it at the end, to hear of errors.
#[must_use]
pub(crate) fn buffered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// What came of writing to standard output; an error says that it is about that.
pub(crate) fn on_stdout<T>(written: io::Result<T>) -> io::Result<T> {
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write to standard output: {}", os_error::words(&error)))
    })
}

/// Whether `error` only says that the reader of what was printed is gone: the command ends, quietly.
#[must_use]
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// A table without borders: a heading, then one line a row. Control characters in cells are escaped.
#[must_use]
pub(crate) fn table<'a>(
    heading: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item: IntoIterator<Item = String>>,
) -> String {
    laid_out(heading, rows).trim_fmt()
}

/// The same for numbers, which end below each other; the first column has their names.
#[must_use]
pub(crate) fn numbers<'a>(
    heading: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item: IntoIterator<Item = String>>,
) -> String {
    let mut table = laid_out(heading, rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn laid_out<'a>(
    heading: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item: IntoIterator<Item = String>>,
) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading.into_iter().collect::<Vec<_>>());
    let printable = |cell: String| printable(&cell).into_owned();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(printable).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// `text` on one line that leaves a terminal as it is: line breaks and other control characters are escaped.
#[must_use]
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The beginning of `text`, at most `most` columns wide, marked where something is left out.
#[must_use]
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most || measure_text_width(text) <= most {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut room = most.saturating_sub(1);
    for c in text.chars() {
        let Some(left) = room.checked_sub(measure_text_width(c.encode_utf8(&mut [0; 4]))) else { break };
        room = left;
        shown.push(c);
    }
    shown.push('…');
    shown
}

/// `text` with blanks after it, so that it takes at least `least` columns.
#[must_use]
pub(crate) fn padded(text: &str, least: usize) -> String {
    format!("{text}{:1$}", "", least.saturating_sub(measure_text_width(text)))
}

/// JSON text without the control characters that JSON itself lets stand (DEL, C1, line separators, directions).
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unprintable) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unprintable(c) {
            // Writing to a String does not fail. None of these characters is above U+FFFF.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, line separators, and what turns the direction of all that follows on the line: behind such a
/// character, a terminal shows the next columns backwards.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_break_a_line_is_escaped() {
        for (text, escaped) in [
            ("plain žluťoučký 🐎", "plain žluťoučký 🐎"),
            ("two\nlines\r\n", "two\\nlines\\r\\n"),
            ("\u{1b}[31mred\u{9b}", "\\u{1b}[31mred\\u{9b}"),
            ("a\tb\0\u{7f}\u{2028}", "a\\tb\\u{0}\\u{7f}\\u{2028}"),
            ("שלום \u{202e}gpj.exe\u{2066}", "שלום \\u{202e}gpj.exe\\u{2066}"),
        ] {
            assert_eq!(printable(text), escaped);
        }
    }

    #[test]
    fn json_stays_json_without_control_characters() {
        let value = json!({"a": "\u{7f}\u{9b}\u{2028}\u{202e}\u{2067}\n"});
        let text = value.to_string();
        let escaped = printable_json(&text);
        assert!(!escaped.contains(is_unprintable));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn json_is_one_line() {
        let mut out = Vec::new();
        write_json_line(&mut out, &json!({"a": [1, "x\ny\u{9b}"]})).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":[1,\"x\\ny\\u009b\"]}\n");
    }

    #[test]
    fn a_row_is_a_line() {
        let rows = [["1".to_owned(), "two\nlines".to_owned()], ["12345".to_owned(), String::new()]];
        assert_eq!(table(["ID", "TEXT"], rows), "ID     TEXT\n1      two\\nlines\n12345");
        assert_eq!(table(["ID"], [[""; 0]; 0].map(|row| row.map(str::to_owned))), "ID");
        assert_eq!(["ab", "abc", "äöü"].map(|text| shortened(text, 2)), ["ab", "a…", "ä…"]);
        // Signs of East Asia take two columns.
        let long = "エラー".repeat(30);
        assert_eq!([1, 2, 4, 5].map(|most| shortened(&long, most)), ["…", "…", "エ…", "エラ…"]);
        assert_eq!([padded("エ", 4), padded("ab", 1)], ["エ  ", "ab"]);
    }

    #[test]
    fn a_reader_that_left_is_known() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = write_json_line(&mut writer, &1).unwrap_err();
        assert!(is_closed_pipe(&error.into()));
        assert!(is_closed_pipe(&Err::<(), _>(gone()).context("writing").unwrap_err()));
        assert!(!is_closed_pipe(&io::Error::from(io::ErrorKind::StorageFull).into()));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
