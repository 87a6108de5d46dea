//! JSON that arguments give, in place, in a file, or on standard input.

use std::fs::File;
use std::io::{self, Read};

use serde_json::Value;

use crate::exit::UserError;
use crate::json::{self, MAX_BYTES};

/// The JSON that `argument` gives: itself, `@FILE`, or `-` for standard input. `option` is its name, for errors.
pub(super) fn json(option: &str, argument: &str) -> Result<Value, UserError> {
    match argument.strip_prefix('@') {
        Some(path) => parse(&format!("{option} {argument}"), &read(option, path)?),
        None if argument == "-" => parse(&format!("{option} (standard input)"), &standard_input(option)?),
        None => parse(option, argument.as_bytes()),
    }
}

/// The JSON Schema that `argument` gives: a file, `-` for standard input, or JSON in place.
pub(super) fn schema(option: &str, argument: &str) -> Result<Value, UserError> {
    if argument == "-" || argument.starts_with('@') || argument.trim_start().starts_with('{') {
        return json(option, argument);
    }
    parse(&format!("{option} {argument}"), &read(option, argument)?)
}

fn parse(place: &str, bytes: &[u8]) -> Result<Value, UserError> {
    json::read_bytes(bytes).map_err(|error| UserError::usage(format!("{place}: {error}")))
}

fn read(option: &str, path: &str) -> Result<Vec<u8>, UserError> {
    let bytes = File::open(path).and_then(read_bounded);
    bytes.map_err(|error| UserError::usage(format!("{option}: cannot read {path}: {error}")))
}

fn standard_input(option: &str) -> Result<Vec<u8>, UserError> {
    let bytes = read_bounded(io::stdin());
    bytes.map_err(|error| UserError::usage(format!("{option}: cannot read standard input: {error}")))
}

/// As much as is read at all, and a byte more where there is more.
fn read_bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
