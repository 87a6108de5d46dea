//! Arguments with a syntax of their own.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use crate::config::{Strategy, expand_home, task_type_name, whole};
use crate::json;

/// One of a new task's params: `KEY=TEXT`, or `KEY:=JSON`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Param {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// A handler given on the command line: `TYPE=CMD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Task type.
    pub task_type: String,
    /// Command line for `sh -c`.
    pub command: String,
}

pub(super) fn param(text: &str) -> Result<Param, String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=TEXT or KEY:=JSON")?;
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => (key, json(value)?),
        None => (key, Value::String(value.to_owned())),
    };
    if key.is_empty() {
        return Err("there is no key before the `=`: write KEY=TEXT or KEY:=JSON".to_owned());
    }
    Ok(Param { key: key.to_owned(), value })
}

fn json(text: &str) -> Result<Value, String> {
    json::read_strict(text.as_bytes()).map_err(|error| format!("the value after `:=`: {error}; text takes a plain `=`"))
}

pub(super) fn handle(text: &str) -> Result<Handle, String> {
    let (task_type, command) = text.split_once('=').ok_or("write TYPE=COMMAND, such as 'example.count=wc -w'")?;
    let task_type = task_type_name(task_type)?;
    if command.trim().is_empty() {
        return Err("there is no command after the `=`".to_owned());
    }
    Ok(Handle { task_type, command: command.to_owned() })
}

/// Returns a parser of paths. A `~` at the start is a home folder: shells leave it in `--option=~/file`.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| expand_home(&path))
}

/// Checks a name, or a pattern of names.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Parses a task id. `SQLite`, `MySQL` and the API keep ids below 2^63.
pub(super) fn task_id(text: &str) -> Result<u64, String> {
    whole(text, 0..=i64::MAX.into())
}

pub(super) fn priority(text: &str) -> Result<i64, String> {
    whole(text, i64::MIN.into()..=i64::MAX.into())
}

pub(super) fn percent(text: &str) -> Result<u8, String> {
    whole(text, 0..=100)
}

pub(super) fn limit(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX.into())
}

pub(super) fn strategy() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(Strategy::NAMES).try_map(|name| name.parse::<Strategy>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_text_or_json() {
        for (text, key, value) in [
            ("a=1", "a", json!("1")),
            ("a:=1", "a", json!(1)),
            ("a:={\"b\":[true]}", "a", json!({"b": [true]})),
            ("a=", "a", json!("")),
            ("a=b=c", "a", json!("b=c")),
            ("url=http://x/?y:=1", "url", json!("http://x/?y:=1")),
            ("a:b=c", "a:b", json!("c")),
        ] {
            assert_eq!(param(text), Ok(Param { key: key.to_owned(), value }), "{text}");
        }
    }

    #[test]
    fn invalid_params_are_refused_in_one_line() {
        for (text, part) in
            [("a", "KEY=TEXT"), ("=1", "no key"), (":=1", "no key"), ("a:=x", "not valid JSON"), ("a:=", "JSON")]
        {
            let error = param(text).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn handles_are_a_type_and_a_command() {
        let expected = Handle { task_type: "example.count".into(), command: "wc -w | a=b".into() };
        assert_eq!(handle("example.count=wc -w | a=b"), Ok(expected));
        for text in ["example.count", "=wc", "example.count=", "a= ", "a b=wc"] {
            assert!(handle(text).is_err(), "{text}");
        }
    }
}
