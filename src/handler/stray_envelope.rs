//! Detects envelopes that are not at the start of a handler's output, or are not written as JSON, such as a Python
//! `repr`. If they were taken as text, a failure that they report would count as success.

use console::{AnsiCodeIterator, strip_ansi_codes};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The part of an object that makes it an envelope.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    success: Option<SuccessValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SuccessValue {
    Is(bool),
    Other(IgnoredAny),
}

/// Returns what is wrong with `text`, which is not valid JSON, if it contains an envelope or something like one.
pub(super) fn find(text: &str) -> Option<String> {
    let mut from = 0;
    while let Some(found) = text[from..].find('{') {
        let at = from + found;
        let rest = &text[at..];
        from = at + 1;
        let (starts_line, is_named) = (starts_line(&text[..at]), names_success(&rest[1..]));
        if !starts_line && !is_named {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Head>();
        let is_envelope = match values.next() {
            Some(Ok(head)) => {
                from = at + values.byte_offset();
                matches!(head.success, Some(SuccessValue::Is(true | false)))
                    && (starts_line || is_end(line_of(&text[from..])))
            }
            // In the middle of a line, it may be a quotation.
            _ => is_named && (starts_line || without_closing(line_of(rest)).ends_with('}')),
        };
        if is_envelope {
            return Some(explained(&text[..at], rest));
        }
    }
    None
}

/// What may follow an envelope on its line: the closing quotes of a language that prints it as a string.
const CLOSING: [char; 5] = ['\'', '"', ' ', '\t', ')'];

fn explained(before: &str, rest: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let is_repr = rest[1..].trim_start().starts_with('\'') || before.ends_with("b'") || before.ends_with("b\"");
    if is_repr {
        return format!("output has the envelope at line {line} as a Python repr: print json.dumps(…) instead");
    }
    format!("output has text before the envelope at line {line}")
}

fn starts_line(before: &str) -> bool {
    let before = before.trim_end_matches([' ', '\t', '\u{feff}']);
    before.is_empty() || before.ends_with(['\n', '\r'])
}

fn line_of(text: &str) -> &str {
    text.split(['\n', '\r']).next().unwrap_or_default()
}

fn is_end(rest: &str) -> bool {
    without_closing(&strip_ansi_codes(rest)).is_empty()
}

/// Returns `line` without what may follow an envelope, closing HTML tags included.
fn without_closing(line: &str) -> &str {
    let line = line.trim_end_matches(CLOSING);
    match line.strip_suffix('>').and_then(|line| line.rfind("</")) {
        Some(tag) => without_closing(&line[..tag]),
        None => line,
    }
}

/// Whether the rest of an object starts with a `success` that is true or false, as JSON, Python, Node or Ruby write it.
fn names_success(text: &str) -> bool {
    let text = text.trim_start();
    let text = text.strip_prefix(':').unwrap_or(text);
    let quote = ["\"", "'"].into_iter().find(|quote| text.starts_with(quote)).unwrap_or("");
    let after = text[quote.len()..].strip_prefix("success").and_then(|text| text.strip_prefix(quote));
    let after = after.map(str::trim_start).and_then(|text| text.strip_prefix(':').or(text.strip_prefix("=>")));
    after.is_some_and(|text| {
        let text = text.trim_start();
        ["true", "false", "True", "False"].into_iter().any(|value| text.starts_with(value))
    })
}

/// Returns `text` without the escape codes around it.
pub(super) fn without_colours(text: &str) -> &str {
    if !text.contains('\u{1b}') {
        return text;
    }
    let (mut start, mut end, mut at) = (None, 0, 0);
    for (piece, is_escape) in AnsiCodeIterator::new(text) {
        let begins = at;
        at += piece.len();
        if !is_escape && !piece.trim().is_empty() {
            start.get_or_insert(begins);
            end = at;
        }
    }
    &text[start.unwrap_or(end)..end]
}
