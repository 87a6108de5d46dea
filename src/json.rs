//! JSON reader with one set of limits for everything from users, handlers and servers.
//!
//! It accepts non-standard output of Python and Node: escaped lone surrogates become U+FFFD, and a byte order mark is
//! skipped. Numbers keep all digits, up to [`MAX_NUMBER`]; only an exponent without a sign gets a `+`.

mod number;
mod text;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::text_file;

pub(crate) use self::number::canonical;
use self::text::{Token, Tokens, duplicate_key, position, prune};
pub(crate) use self::text::{repaired, starts_like_object, without_bom};

/// Maximum nesting depth of params, schemas and handler output. Including the envelopes of prismq and the TaskManager,
/// it stays below 100 levels, the limit of Ruby's parser and of `MySQL`.
pub(crate) const MAX_DEPTH: usize = 96;
/// Maximum nesting depth of a result with its envelope.
pub(crate) const MAX_RESULT_DEPTH: usize = MAX_DEPTH + 1;
/// Maximum nesting depth of a request or an answer: the limit of the parser.
pub(crate) const MAX_MESSAGE_DEPTH: usize = 127;
/// Maximum size of params and of handler output, in bytes.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Maximum number of values in params, schemas and handler output: items of arrays and fields of objects; empty ones
/// count as one. In memory, each takes many times its length.
pub(crate) const MAX_VALUES: usize = 1_000_000;
/// How many values a non-empty object counts as: it takes as much memory, 600 bytes.
const OBJECT: usize = 9;
/// Maximum number of values in a request or an answer, which may contain several tasks.
const MAX_MESSAGE_VALUES: usize = 4 * MAX_VALUES;
/// Maximum length of a number, in characters. Python rejects integers of more than 4,300 digits.
pub(crate) const MAX_NUMBER: usize = 1000;

/// Prefix of the placeholder for an omitted value, followed by the reason and `]`.
const OMITTED: &str = "[left out by prismq: ";
/// Prefix of keys that the JSON library uses internally. A user's key with it would be misinterpreted.
const RESERVED: &str = "$serde_json::private::";

/// Why a text cannot be read, and where. The message completes a sentence such as 'the output is …'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not valid JSON.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// An object contains a key twice.
    #[error("the key {0} is defined twice{1}")]
    DuplicateKey(String, String),
    /// It exceeds a limit.
    #[error("{0}")]
    Limit(String),
}

/// Parses a text of at most `MAX_BYTES` and `MAX_DEPTH`.
pub fn read(text: &str) -> Result<Value, JsonError> {
    if text.len() > MAX_BYTES {
        return Err(too_long());
    }
    read_within(text, MAX_DEPTH, MAX_VALUES)
}

/// Parses a file written by a user, and rejects duplicate keys.
pub(crate) fn read_strict(bytes: &[u8]) -> Result<Value, JsonError> {
    let text = utf_8(bytes)?;
    let value = read(text)?;
    let text = without_bom(text);
    match duplicate_key(text) {
        Some(place) => Err(JsonError::DuplicateKey(text[place.clone()].to_owned(), position(text, place.start))),
        None => Ok(value),
    }
}

/// Parses bytes, replacing invalid UTF-8 by U+FFFD.
pub(crate) fn read_lossy(bytes: &[u8]) -> Result<Value, JsonError> {
    if text_file::is_utf_16(bytes) { utf_8(bytes).and_then(read) } else { read(&String::from_utf8_lossy(bytes)) }
}

/// Parses a request, up to [`MAX_MESSAGE_DEPTH`]. The caller limits its length.
#[cfg(feature = "server")]
pub(crate) fn read_message(bytes: &[u8]) -> Result<Value, JsonError> {
    read_within(utf_8(bytes)?, MAX_MESSAGE_DEPTH, MAX_MESSAGE_VALUES)
}

/// Parses an answer of a TaskManager. Values that are nested too deeply for the parser are omitted.
pub fn read_answer(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes);
    let text = repaired(without_bom(&text));
    if text.len() > MAX_MESSAGE_VALUES / 2 && count(&text) > MAX_MESSAGE_VALUES {
        return start_of(&text, "it has too many values");
    }
    match serde_json::from_str(&text) {
        Err(error) if is_too_deep(&error) => {
            serde_json::from_str(&prune(text, MAX_MESSAGE_DEPTH, "it is nested too deep").0)
        }
        answer => answer,
    }
}

/// Parses the start of an answer that is too long, without values nested in its data.
pub(crate) fn read_start(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    start_of(&repaired(without_bom(&String::from_utf8_lossy(bytes))), "the answer is too long")
}

fn start_of(text: &str, why: &str) -> Result<Value, serde_json::Error> {
    let within = |max_depth| {
        let (text, end) = prune(Cow::Borrowed(text), max_depth, why);
        serde_json::from_str(&format!("{text}{end}"))
    };
    // Some servers do not use an envelope.
    within(2).or_else(|_| within(1))
}

fn read_within(text: &str, max_depth: usize, max_values: usize) -> Result<Value, JsonError> {
    let text = without_bom(text);
    // If the text is long enough for too many values, count them before they take memory.
    if text.len() > max_values / 2
        && let Err(limit) = check_text(text, max_depth, max_values)
    {
        let syntax = serde_json::from_str::<IgnoredAny>(&repaired(text)).err();
        return Err(syntax.map_or(limit, |error| JsonError::Syntax(explain(text, &error))));
    }
    let is_within = |value: &Value| check_part(value, max_depth, max_depth, &mut max_values.clone()).is_ok();
    match serde_json::from_str(&repaired(text)) {
        Ok(value) if is_within(&value) && !may_contain_reserved(text) => Ok(value),
        Err(error) if !is_too_deep(&error) => Err(JsonError::Syntax(explain(text, &error))),
        value => {
            check_text(text, max_depth, max_values)?;
            value.map_err(|error| JsonError::Limit(error.to_string()))
        }
    }
}

/// Whether a string in `text` may start with [`RESERVED`].
fn may_contain_reserved(text: &str) -> bool {
    text.contains("\"$") || text.contains("\"\\u0024")
}

/// Whether a quoted string starts with [`RESERVED`], possibly escaped.
fn is_reserved(text: &str) -> bool {
    if !may_contain_reserved(text) {
        return false;
    }
    let read = serde_json::from_str(&repaired(text));
    read.unwrap_or_else(|_| text[1..].to_owned()).starts_with(RESERVED)
}

/// Whether the parser's recursion limit was exceeded. The library reveals that only in the message.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

fn utf_8(bytes: &[u8]) -> Result<&str, JsonError> {
    text_file::utf_8(bytes).map_err(JsonError::Syntax)
}

/// Returns why a part of `value` was omitted from an answer, if one was.
#[must_use]
pub(crate) fn omission_reason(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.strip_prefix(OMITTED)?.strip_suffix(']'),
        Value::Array(items) => items.iter().find_map(omission_reason),
        Value::Object(fields) => fields.values().find_map(omission_reason),
        _ => None,
    }
}

/// Checks that a value is within the limits.
pub(crate) fn check(value: &Value, max_depth: usize) -> Result<(), JsonError> {
    check_parts(value, max_depth)?;
    let mut length = Length(0);
    // Counting cannot fail, and all keys are strings.
    let _ = serde_json::to_writer(&mut length, value);
    if length.0 > MAX_BYTES { Err(too_long()) } else { Ok(()) }
}

/// Returns a value as text if it is within the limits.
#[cfg(feature = "server")]
pub(crate) fn text_within(value: &Value, max_depth: usize) -> Result<String, JsonError> {
    check_parts(value, max_depth)?;
    let text = value.to_string();
    if text.len() > MAX_BYTES { Err(too_long()) } else { Ok(text) }
}

/// Checks that a value is within the limits, except for its length.
pub(crate) fn check_parts(value: &Value, max_depth: usize) -> Result<(), JsonError> {
    let mut values_left = MAX_VALUES;
    check_part(value, max_depth, max_depth, &mut values_left)
}

fn check_part(value: &Value, max_depth: usize, levels_left: usize, values_left: &mut usize) -> Result<(), JsonError> {
    if let Value::Object(fields) = value
        && let Some(key) = fields.keys().find(|key| key.starts_with(RESERVED))
    {
        return Err(reserved(&json!(key).to_string(), ""));
    }
    let (count, parts): (_, &mut dyn Iterator<Item = &Value>) = match value {
        Value::Array(items) => (items.len(), &mut items.iter()),
        // `OBJECT` includes the first field.
        Value::Object(fields) if !fields.is_empty() => (fields.len() - 1 + OBJECT, &mut fields.values()),
        Value::Object(_) => (1, &mut std::iter::empty()),
        Value::Number(number) if number.as_str().len() > MAX_NUMBER => return Err(long_number("")),
        _ => return Ok(()),
    };
    let levels_left = levels_left.checked_sub(1).ok_or_else(|| too_deep(max_depth, ""))?;
    *values_left = values_left.checked_sub(count.max(1)).ok_or_else(|| too_many(MAX_VALUES, ""))?;
    for part in parts {
        check_part(part, max_depth, levels_left, values_left)?;
    }
    Ok(())
}

fn too_long() -> JsonError {
    JsonError::Limit(format!("longer than {} MiB", MAX_BYTES >> 20))
}

fn too_deep(max_depth: usize, place: &str) -> JsonError {
    JsonError::Limit(format!("nested deeper than {max_depth} levels{place}"))
}

fn too_many(max_values: usize, place: &str) -> JsonError {
    JsonError::Limit(format!("too large: more than {max_values} values{place}"))
}

fn reserved(text: &str, place: &str) -> JsonError {
    JsonError::Limit(format!("not allowed: the reserved text {text}{place}"))
}

fn long_number(place: &str) -> JsonError {
    JsonError::Limit(format!("too large: a number of more than {MAX_NUMBER} characters{place}"))
}

/// A writer that counts bytes.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks that a JSON text is within the limits.
fn check_text(text: &str, max_depth: usize, max_values: usize) -> Result<(), JsonError> {
    let (mut depth, mut values) = (0, 0);
    for (token, place) in Tokens::of(text) {
        values += weight(token, &text[place.start..]);
        match token {
            _ if values > max_values => return Err(too_many(max_values, &position(text, place.start))),
            Token::Open if depth == max_depth => return Err(too_deep(max_depth, &position(text, place.start))),
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Number if place.len() > MAX_NUMBER => return Err(long_number(&position(text, place.start))),
            Token::Text if is_reserved(&text[place.clone()]) => {
                return Err(reserved(&text[place.clone()], &position(text, place.start)));
            }
            Token::Comma | Token::Number | Token::LoneSurrogate | Token::Text => {}
        }
    }
    Ok(())
}

/// Counts the values in a JSON text.
fn count(text: &str) -> usize {
    Tokens::of(text).map(|(token, place)| weight(token, &text[place.start..])).sum()
}

/// Returns how many values the token at the start of `text` counts as.
fn weight(token: Token, text: &str) -> usize {
    match token {
        Token::Open if text.starts_with('{') && !text[1..].trim_ascii_start().starts_with('}') => OBJECT,
        Token::Open | Token::Comma => 1,
        Token::Close | Token::Number | Token::LoneSurrogate | Token::Text => 0,
    }
}

/// What the parser says, and in plain words.
const OUR_WORDS: [(&str, &str); 11] = [
    ("EOF while parsing a value", "a value is missing"),
    ("EOF while parsing", "unexpected end of text"),
    ("expected value", "expected a JSON value"),
    ("expected ident", "expected true, false or null"),
    ("key must be a string", "keys must be in double quotes"),
    ("trailing characters", "unexpected text after the end"),
    ("trailing comma", "a comma after the last item"),
    (
        "control character (\\u0000-\\u001F) found while parsing a string",
        "a line break or control character in a string",
    ),
    ("lone leading surrogate in hex escape", "half a character in a \\u escape"),
    ("unexpected end of hex escape", "half a character in a \\u escape"),
    ("invalid unicode code point", "a \\u escape that stands for no character"),
];

/// Returns the parser's message, with a hint for well-known mistakes of encoders.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let rest = line.as_bytes().get(error.column().saturating_sub(1)..).unwrap_or_default();
    let rest = rest.strip_prefix(b"-").unwrap_or(rest);
    let words = ["NaN", "Infinity", "nan", "inf", "None", "True", "False", "undefined"];
    let word = words.into_iter().find(|word| rest.starts_with(word.as_bytes()));
    if text.trim_ascii().is_empty() {
        return "it is empty".to_owned();
    }
    let mut said = error.to_string();
    for (theirs, ours) in OUR_WORDS {
        said = said.replace(theirs, ours);
    }
    word.map_or_else(|| said.clone(), |word| format!("{said}: {word} is not a JSON value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_deep_parts_of_an_answer_are_omitted_and_the_rest_is_read() {
        let list = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for deep in [127, 128, 1000, 100_000] {
            let answer =
                read_answer(format!("{{\"a\":\"[{{\",\"deep\":{},\"id\":5}}", list(deep - 1)).as_bytes()).unwrap();
            assert_eq!((&answer["a"], &answer["id"]), (&json!("[{"), &json!(5)));
            assert_eq!(omission_reason(&answer).is_some(), deep > MAX_MESSAGE_DEPTH, "{deep}");
        }
        for text in ["[", "]", "{\"a\":", "[1,]", &"[".repeat(1000), &format!("{}{{", "[".repeat(126))] {
            read_answer(text.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn of_an_answer_that_is_cut_the_start_is_read() {
        let omitted = "[left out by prismq: the answer is too long]";
        for (cut, read) in [
            (r#"{"data":{"id":5,"params":{"a":["x"#, json!({"data": {"id": 5, "params": omitted}})),
            (
                r#"{"data":{"id":5,"params":{"a":1},"b":{"c"#,
                json!({"data": {"id": 5, "params": omitted, "b": omitted}}),
            ),
            (r#"{"id":5,"params":{"a":"x"#, json!({"id": 5, "params": omitted})),
        ] {
            assert_eq!(read_start(cut.as_bytes()).unwrap(), read);
        }
        for cut in ["", "{\"id\":", "{\"id\":5,\"type\":\"x", "nonsense"] {
            read_start(cut.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn numbers_are_kept_digit_for_digit() {
        for text in ["18446744073709551616", "-0", "1.0", "0.10", "1e+400", "0.1234567890123456789012345"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("[1e2,1E2,1e-2]").unwrap().to_string(), "[1e+2,1e+2,1e-2]");
    }

    #[test]
    fn values_are_checked_as_texts_are() {
        let list = |depth: usize| (0..depth).fold(json!(1), |inside, _| json!([inside]));
        for depth in [95, 96, 97] {
            assert_eq!(check(&list(depth), MAX_DEPTH).is_ok(), read(&list(depth).to_string()).is_ok(), "{depth}");
        }
        for (inside, count) in [
            ("1", MAX_VALUES),
            ("[]", MAX_VALUES / 2),
            ("{ }", MAX_VALUES / 2),
            ("[1,2,3]", MAX_VALUES / 4),
            ("{\"a\":1}", MAX_VALUES / 10),
            ("{ \"a\":1,\"b\":2 }", MAX_VALUES / 11),
        ] {
            for (count, is_well) in [(count, true), (count + 1, false)] {
                let text = format!("[{}]", vec![inside; count].join(","));
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((check(&value, MAX_DEPTH).is_ok(), read(&text).is_ok()), (is_well, is_well), "{inside}");
            }
        }
        let text = |length: usize| json!("x".repeat(length - 2));
        assert_eq!(check(&text(MAX_BYTES), MAX_DEPTH), Ok(()));
        assert_eq!(check(&text(MAX_BYTES + 1), MAX_DEPTH).unwrap_err().to_string(), "longer than 16 MiB");
    }
}
