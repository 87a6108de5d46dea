//! JSON that arguments give, in place, in a file, or on standard input.

use std::fs;
use std::io::Read;

use serde_json::Value;

use crate::exit::UserError;

/// The JSON that `argument` gives: itself, `@FILE`, or `-` for standard input. `option` is its name, for errors.
pub(super) fn json(option: &str, argument: &str) -> Result<Value, UserError> {
    let (text, place) = match argument.strip_prefix('@') {
        Some(path) => (read(option, path)?, format!("{option} {argument}")),
        None if argument == "-" => (standard_input(option)?, format!("{option} (standard input)")),
        None => (argument.to_owned(), option.to_owned()),
    };
    parse(&place, &text)
}

/// The JSON Schema that `argument` gives: a file, `-` for standard input, or JSON in place.
pub(super) fn schema(option: &str, argument: &str) -> Result<Value, UserError> {
    if argument == "-" || argument.starts_with('@') || argument.trim_start().starts_with('{') {
        return json(option, argument);
    }
    parse(&format!("{option} {argument}"), &read(option, argument)?)
}

fn parse(place: &str, text: &str) -> Result<Value, UserError> {
    serde_json::from_str(text).map_err(|error| UserError::usage(format!("{place}: this is not JSON: {error}")))
}

fn read(option: &str, path: &str) -> Result<String, UserError> {
    fs::read_to_string(path).map_err(|error| UserError::usage(format!("{option}: cannot read {path}: {error}")))
}

fn standard_input(option: &str) -> Result<String, UserError> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| UserError::usage(format!("{option}: cannot read standard input: {error}")))?;
    Ok(text)
}
