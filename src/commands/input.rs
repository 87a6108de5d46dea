//! JSON arguments: inline, in a file, or on standard input.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::expand_home;
use crate::exit::UserError;
use crate::json::{self, MAX_BYTES};
use crate::text_file;

/// Parses a JSON argument: inline, `@FILE`, or `-` for standard input. `option` is its name, for errors.
pub(super) fn json(option: &str, argument: &str) -> Result<Value, UserError> {
    match argument.strip_prefix('@') {
        Some("") => {
            Err(UserError::usage(format!("{option} @: no file name")).hint("write @FILE, or - for standard input"))
        }
        Some(path) => parse(&format!("{option} {argument}"), &read(option, path)?),
        None if argument == "-" => parse(&format!("{option} (standard input)"), &standard_input(option)?),
        None => parse(option, argument.as_bytes()),
    }
}

/// Parses a JSON Schema argument: a file, `-` for standard input, or inline JSON.
pub(super) fn schema(option: &str, argument: &str) -> Result<Value, UserError> {
    let is_inline = argument.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    if argument == "-" || argument.starts_with('@') || is_inline {
        return json(option, argument);
    }
    parse(&format!("{option} {argument}"), &read(option, argument)?)
}

fn parse(place: &str, bytes: &[u8]) -> Result<Value, UserError> {
    json::read_strict(bytes).map_err(|error| UserError::usage(format!("{place}: {error}")))
}

fn read(option: &str, path: &str) -> Result<Vec<u8>, UserError> {
    let bytes = text_file::read(&self::path(option, path)?, MAX_BYTES);
    bytes.map_err(|error| UserError::usage(format!("{option}: cannot read {path}: {}", text_file::reason(&error))))
}

fn standard_input(option: &str) -> Result<Vec<u8>, UserError> {
    let bytes = text_file::read_bounded(io::stdin(), MAX_BYTES);
    bytes.map_err(|error| {
        UserError::usage(format!("{option}: cannot read standard input: {}", text_file::reason(&error)))
    })
}

/// Expands `~` at the start of a path, which shells do not do in `--option=~/file` and `@~/file`.
fn path(option: &str, path: &str) -> Result<PathBuf, UserError> {
    expand_home(Path::new(path)).map_err(|problem| UserError::usage(format!("{option}: {problem}")))
}
