//! Output of commands: terminal detection, colours, tables, and escaping of control characters.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use console::measure_text_width;
use serde::Serialize;

use crate::os_error;

/// An output stream: results go to standard output, everything else to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Whether it is a terminal.
    #[must_use]
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether it may have colours, bars and live lines: it is a terminal, not dumb, and `NO_COLOR` is not set.
    #[must_use]
    pub(crate) fn is_decorated(self) -> bool {
        self.can_move_cursor() && variable("NO_COLOR").is_none()
    }

    /// Whether it is a terminal on which lines can be redrawn.
    #[must_use]
    pub(crate) fn can_move_cursor(self) -> bool {
        self.is_terminal() && variable("TERM").is_some_and(|term| term != "dumb")
    }
}

/// The capabilities of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether to draw bars, which need characters beyond ASCII.
    pub has_bars: bool,
    /// Whether the locale has such characters.
    pub is_utf8: bool,
    /// The columns of the terminal; `usize::MAX` if there is none.
    pub width: usize,
    has_colours: bool,
}

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Success.
    Good,
    /// Somebody should look at it.
    Warn,
    /// Failure.
    Bad,
    /// Less important than the rest.
    Soft,
}

impl Look {
    /// Detects the capabilities from the stream, the locale and the environment.
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

    /// Returns plain text without colours.
    #[must_use]
    pub(crate) fn plain() -> Self {
        Self { has_bars: false, is_utf8: false, width: usize::MAX, has_colours: false }
    }

    /// Returns the maximum width of names in a table, so that a long name leaves room for the other columns.
    #[must_use]
    pub(crate) fn longest_name(&self) -> usize {
        if self.width == usize::MAX { usize::MAX } else { (self.width / 4).max(20) }
    }

    /// Colours `text`, if colours are enabled.
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

/// Returns an environment variable that is not empty.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether the locale uses UTF-8.
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    let locale = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// Prints `text` and a line break on standard output.
///
/// If the reader has closed the pipe (`prismq results | head`), [`is_closed_pipe`] recognizes the error.
pub(crate) fn print_line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    on_stdout(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints a line of information to standard error, unless `-q` or the log level suppresses it.
pub(crate) fn note(text: impl Display) {
    if log::max_level() >= log::LevelFilter::Info {
        say(text);
    }
}

/// Prints a line to standard error. Errors of that are ignored.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
}

/// Prints `value` as one line of JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print_line(printable_json(&serde_json::to_string(value)?))
}

/// Prints `text` on standard output as it is.
pub(crate) fn print_text(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    on_stdout(out.write_all(text.as_ref()).and_then(|()| out.flush()))
}

/// Writes `value` as one line of JSON.
pub(crate) fn write_json_line(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", printable_json(&json))
}

/// Returns buffered standard output. The caller must flush it at the end to see errors.
#[must_use]
pub(crate) fn buffered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Adds context to an error of writing to standard output.
pub(crate) fn on_stdout<T>(written: io::Result<T>) -> io::Result<T> {
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write to standard output: {}", os_error::message(&error)))
    })
}

/// Whether `error` is a closed pipe on standard output: the command then ends silently.
#[must_use]
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// Formats a table without borders: a header, then one line per row. Control characters are escaped.
#[must_use]
pub(crate) fn table<'a>(
    heading: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item: IntoIterator<Item = String>>,
) -> String {
    laid_out(heading, rows).trim_fmt()
}

/// Formats a table with right-aligned columns, except for the first.
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

/// Escapes line breaks and other control characters in `text`.
#[must_use]
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c, out| out.extend(c.escape_default()))
}

/// Escapes control characters that JSON allows unescaped (DEL, C1, line separators, directions).
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    // Writing to a String does not fail. None of these characters is above U+FFFF.
    escaped(json, |c, out| _ = write!(out, "\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            escape(c, &mut escaped);
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Truncates `text` to `most` columns, with `…` at the end.
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

/// Pads `text` with blanks to `least` columns.
#[must_use]
pub(crate) fn padded(text: &str, least: usize) -> String {
    format!("{text}{:1$}", "", least.saturating_sub(measure_text_width(text)))
}

/// Whether a character is a control character, a line separator, or changes the text direction, after which a terminal may
/// show the rest of the line reversed.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Formats a number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use serde_json::json;

    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
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
    fn a_closed_pipe_is_recognised() {
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
