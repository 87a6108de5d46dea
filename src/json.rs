//! Reading JSON: one reader, and one set of limits, for everything that people, handlers and other servers write.
//!
//! It takes what the encoders of Python and Node write beyond the standard: half a surrogate pair as an escape becomes
//! U+FFFD, and a byte order mark is skipped. Numbers are kept digit for digit, whatever their length up to
//! [`MAX_NUMBER`]; only an exponent without a sign gets a `+`.

mod number;
mod text;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::text_file;

pub(crate) use self::number::canonical;
use self::text::{Part, Parts, at, pruned, repeated_key};
pub(crate) use self::text::{mended, starts_like_object, without_mark};

/// How deep arrays and objects may be nested in params, in a schema, and in what a handler prints. With the envelopes of
/// prismq and of the TaskManager around them they stay under 100 levels, where Ruby's reader and the JSON of `MySQL` end.
pub(crate) const MAX_DEPTH: usize = 96;
/// The same for a result together with its envelope.
pub(crate) const MAX_RESULT_DEPTH: usize = MAX_DEPTH + 1;
/// The same for a whole request or answer: the most that the parser reads without a danger for the stack.
pub(crate) const MAX_MESSAGE_DEPTH: usize = 127;
/// The longest params, and the most that a handler may print as its result, in bytes.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// The most values in params, in a schema, and in what a handler prints: items of arrays and fields of objects, where an
/// empty one counts as one. In memory, each takes many times its length.
pub(crate) const MAX_VALUES: usize = 1_000_000;
/// How many values an object with fields counts for itself: it takes as much memory, 600 bytes, even with one field.
const OBJECT: usize = 9;
/// The same for a whole request or answer, of which the params or results of several tasks may be parts.
const MAX_MESSAGE_VALUES: usize = 4 * MAX_VALUES;
/// The most characters of one number. Python turns away integers of more than 4,300 digits.
pub(crate) const MAX_NUMBER: usize = 1000;

/// What takes the place of a value that was left out of an answer. It is followed by the reason and `]`.
const LEFT_OUT: &str = "[left out by prismq: ";
/// How keys begin by which the JSON library passes values on inside of itself: as a user's key, they would be taken for
/// that.
const RESERVED: &str = "$serde_json::private::";

/// Why a text cannot be read, and where: the end of a sentence such as 'the output is …'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// An object has this key twice, at this place.
    #[error("the key {0} is defined twice{1}")]
    Twice(String, String),
    /// It is beyond a limit.
    #[error("{0}")]
    Limit(String),
}

/// Reads a text that is at most [`MAX_BYTES`] long and [`MAX_DEPTH`] deep.
pub fn read(text: &str) -> Result<Value, JsonError> {
    if text.len() > MAX_BYTES {
        return Err(too_long());
    }
    read_within(text, MAX_DEPTH, MAX_VALUES)
}

/// The same for what people write, where a key that is there twice is a mistake.
pub(crate) fn read_written(bytes: &[u8]) -> Result<Value, JsonError> {
    let text = utf_8(bytes)?;
    let value = read(text)?;
    let text = without_mark(text);
    match repeated_key(text) {
        Some(place) => Err(JsonError::Twice(text[place.clone()].to_owned(), at(text, place.start))),
        None => Ok(value),
    }
}

/// The same for bytes of which those that are not UTF-8 become U+FFFD.
pub(crate) fn read_lossy(bytes: &[u8]) -> Result<Value, JsonError> {
    if text_file::is_utf_16(bytes) { utf_8(bytes).and_then(read) } else { read(&String::from_utf8_lossy(bytes)) }
}

/// Reads a whole request, which may be [`MAX_MESSAGE_DEPTH`] deep. Its length is for its reader to bound.
#[cfg(feature = "server")]
pub(crate) fn read_message(bytes: &[u8]) -> Result<Value, JsonError> {
    read_within(utf_8(bytes)?, MAX_MESSAGE_DEPTH, MAX_MESSAGE_VALUES)
}

/// Reads an answer of a TaskManager, however deep: what is nested deeper than the parser goes is left out.
pub fn read_answer(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes);
    let text = mended(without_mark(&text));
    if text.len() > MAX_MESSAGE_VALUES / 2 && count(&text) > MAX_MESSAGE_VALUES {
        return start_of(&text, "it has too many values");
    }
    match serde_json::from_str(&text) {
        Err(error) if is_too_deep(&error) => {
            serde_json::from_str(&pruned(text, MAX_MESSAGE_DEPTH, "it is nested too deep").0)
        }
        answer => answer,
    }
}

/// Reads the start of an answer that is too long to be read whole, without what is nested in its data.
pub(crate) fn read_start(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    start_of(&mended(without_mark(&String::from_utf8_lossy(bytes))), "the answer is too long")
}

fn start_of(text: &str, why: &str) -> Result<Value, serde_json::Error> {
    let within = |max_depth| {
        let (text, end) = pruned(Cow::Borrowed(text), max_depth, why);
        serde_json::from_str(&format!("{text}{end}"))
    };
    // Not every server puts its data into an envelope.
    within(2).or_else(|_| within(1))
}

fn read_within(text: &str, max_depth: usize, max_values: usize) -> Result<Value, JsonError> {
    let text = without_mark(text);
    // Values that may be too many, by the length of the text, are counted before they take memory.
    if text.len() > max_values / 2
        && let Err(limit) = check_text(text, max_depth, max_values)
    {
        let syntax = serde_json::from_str::<IgnoredAny>(&mended(text)).err();
        return Err(syntax.map_or(limit, |error| JsonError::Syntax(explained(text, &error))));
    }
    let is_within = |value: &Value| check_part(value, max_depth, max_depth, &mut max_values.clone()).is_ok();
    match serde_json::from_str(&mended(text)) {
        Ok(value) if is_within(&value) && !may_hold_reserved(text) => Ok(value),
        Err(error) if !is_too_deep(&error) => Err(JsonError::Syntax(explained(text, &error))),
        value => {
            check_text(text, max_depth, max_values)?;
            value.map_err(|error| JsonError::Limit(error.to_string()))
        }
    }
}

/// Whether a text in `text` begins as [`RESERVED`] does.
fn may_hold_reserved(text: &str) -> bool {
    text.contains("\"$") || text.contains("\"\\u0024")
}

/// Whether `text`, in quotes, begins with [`RESERVED`]. Its characters may be escaped.
fn is_reserved(text: &str) -> bool {
    if !may_hold_reserved(text) {
        return false;
    }
    let read = serde_json::from_str(&mended(text));
    read.unwrap_or_else(|_| text[1..].to_owned()).starts_with(RESERVED)
}

/// Whether the parser gave up for the sake of the stack. The library tells by its text alone.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

fn utf_8(bytes: &[u8]) -> Result<&str, JsonError> {
    text_file::utf_8(bytes).map_err(JsonError::Syntax)
}

/// Why a part of `value`, which came in an answer, was left out.
#[must_use]
pub(crate) fn left_out(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.strip_prefix(LEFT_OUT)?.strip_suffix(']'),
        Value::Array(items) => items.iter().find_map(left_out),
        Value::Object(fields) => fields.values().find_map(left_out),
        _ => None,
    }
}

/// Whether `value`, which this module need not have read, is within the limits.
pub(crate) fn check(value: &Value, max_depth: usize) -> Result<(), JsonError> {
    check_parts(value, max_depth)?;
    let mut length = Length(0);
    // Counting cannot fail, and every key is text.
    let _ = serde_json::to_writer(&mut length, value);
    if length.0 > MAX_BYTES { Err(too_long()) } else { Ok(()) }
}

/// The same, but for its length.
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
        // Its first field goes with it.
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
    JsonError::Limit(format!("beyond a limit: more than {max_values} values{place}"))
}

fn reserved(text: &str, place: &str) -> JsonError {
    JsonError::Limit(format!("beyond a limit: the reserved text {text}{place}"))
}

fn long_number(place: &str) -> JsonError {
    JsonError::Limit(format!("beyond a limit: a number of more than {MAX_NUMBER} characters{place}"))
}

/// Counts what is written to it.
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

/// Whether `text`, if it is JSON, is within the limits.
fn check_text(text: &str, max_depth: usize, max_values: usize) -> Result<(), JsonError> {
    let (mut depth, mut values) = (0, 0);
    for (part, place) in Parts::of(text) {
        values += weight(part, &text[place.start..]);
        match part {
            _ if values > max_values => return Err(too_many(max_values, &at(text, place.start))),
            Part::Open if depth == max_depth => return Err(too_deep(max_depth, &at(text, place.start))),
            Part::Open => depth += 1,
            Part::Close => depth = depth.saturating_sub(1),
            Part::Number if place.len() > MAX_NUMBER => return Err(long_number(&at(text, place.start))),
            Part::Text if is_reserved(&text[place.clone()]) => {
                return Err(reserved(&text[place.clone()], &at(text, place.start)));
            }
            Part::Comma | Part::Number | Part::Half | Part::Text => {}
        }
    }
    Ok(())
}

/// How many values there are in `text`, if it is JSON.
fn count(text: &str) -> usize {
    Parts::of(text).map(|(part, place)| weight(part, &text[place.start..])).sum()
}

/// As how many values a part counts with which `text` begins.
fn weight(part: Part, text: &str) -> usize {
    match part {
        Part::Open if text.starts_with('{') && !text[1..].trim_ascii_start().starts_with('}') => OBJECT,
        Part::Open | Part::Comma => 1,
        Part::Close | Part::Number | Part::Half | Part::Text => 0,
    }
}

/// What the parser says, and in plain words.
const OUR_WORDS: [(&str, &str); 11] = [
    ("EOF while parsing a value", "a value is missing"),
    ("EOF while parsing", "it ends inside"),
    ("expected value", "expected a JSON value"),
    ("expected ident", "expected true, false or null"),
    ("key must be a string", "keys must be in double quotes"),
    ("trailing characters", "characters after the end"),
    ("trailing comma", "a comma after the last item"),
    (
        "control character (\\u0000-\\u001F) found while parsing a string",
        "a line break or control character in a string",
    ),
    ("lone leading surrogate in hex escape", "half a character in a \\u escape"),
    ("unexpected end of hex escape", "half a character in a \\u escape"),
    ("invalid unicode code point", "a \\u escape that stands for no character"),
];

/// What the parser says of `text`, with what it leaves out where somebody's encoder is known for it.
fn explained(text: &str, error: &serde_json::Error) -> String {
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
    fn what_is_too_deep_in_an_answer_is_left_out_and_the_rest_is_read() {
        let list = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for deep in [127, 128, 1000, 100_000] {
            let answer =
                read_answer(format!("{{\"a\":\"[{{\",\"deep\":{},\"id\":5}}", list(deep - 1)).as_bytes()).unwrap();
            assert_eq!((&answer["a"], &answer["id"]), (&json!("[{"), &json!(5)));
            assert_eq!(left_out(&answer).is_some(), deep > MAX_MESSAGE_DEPTH, "{deep}");
        }
        for text in ["[", "]", "{\"a\":", "[1,]", &"[".repeat(1000), &format!("{}{{", "[".repeat(126))] {
            read_answer(text.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn of_an_answer_that_is_cut_the_start_is_read() {
        let left_out = "[left out by prismq: the answer is too long]";
        for (cut, read) in [
            (r#"{"data":{"id":5,"params":{"a":["x"#, json!({"data": {"id": 5, "params": left_out}})),
            (
                r#"{"data":{"id":5,"params":{"a":1},"b":{"c"#,
                json!({"data": {"id": 5, "params": left_out, "b": left_out}}),
            ),
            (r#"{"id":5,"params":{"a":"x"#, json!({"id": 5, "params": left_out})),
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
