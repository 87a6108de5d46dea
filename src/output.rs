//! Printing for commands: what goes to a terminal, to a pipe, and what may reach either.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// Where a command writes: results to standard output, everything else to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Whether a person is looking at it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether it may have colours, bars and live lines: a terminal, and `NO_COLOR` is not set.
    #[must_use]
    pub fn is_decorated(self) -> bool {
        self.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// Prints `text` and a line break on standard output.
///
/// Where the reader is gone (`prismq results | head`) the error is one that [`is_closed_pipe`] knows.
pub fn print_line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    on_stdout(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints `text` as a line on standard error. Where nobody reads that any more, nobody is left to tell.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
}

/// Prints `value` as one line of JSON on standard output.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = buffered();
    on_stdout(write_json_line(&mut out, value).and_then(|()| out.flush()))
}

/// Writes `value` as one line of JSON.
pub fn write_json_line(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", printable_json(&json))
}

/// Standard output for many lines. Whoever takes it must flush it at the end, to hear of errors.
#[must_use]
pub fn buffered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// What came of writing to standard output; an error says that it is about that.
pub fn on_stdout<T>(written: io::Result<T>) -> io::Result<T> {
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

/// Whether `error` only says that the reader of what was printed is gone: the command ends, quietly.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// A table without borders: a heading, then one line a row. Control characters in cells are escaped.
#[must_use]
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// `text` on one line that leaves a terminal as it is: line breaks and other control characters are escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
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

/// JSON text without the control characters that JSON itself lets stand (DEL, C1, line separators).
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

fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
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
        ] {
            assert_eq!(printable(text), escaped);
        }
    }

    #[test]
    fn json_stays_json_without_control_characters() {
        let value = json!({"a": "\u{7f}\u{9b}\u{2028}\n"});
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
        assert_eq!(table(["ID"], []), "ID");
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
