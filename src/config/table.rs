//! Reads tables of a TOML file, so that every mistake is named with its file, line and key.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::did_you_mean;
use super::{ConfigError, values};
use crate::json;

/// The file that tables are part of.
pub(super) struct TomlDocument<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl TomlDocument<'_> {
    /// Creates an error for `problem` at the byte `offset` of the file.
    pub(super) fn error(&self, offset: usize, problem: impl std::fmt::Display) -> ConfigError {
        let line = 1 + self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        ConfigError::at(format_args!("{}:{line}", self.path.display()), problem)
    }

    /// Returns the folder that paths in the file are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// A table whose keys are known.
pub(super) struct TomlTable<'a> {
    pub(super) document: &'a TomlDocument<'a>,
    entries: &'a DeTable<'a>,
    offset: usize,
}

impl<'a> TomlTable<'a> {
    /// Creates a table of `entries` that starts at `offset`. A key that is not in `known` is an error.
    pub(super) fn new(
        document: &'a TomlDocument<'a>,
        (offset, entries): (usize, &'a DeTable<'a>),
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            Some(key) => {
                let name = key.get_ref().as_ref();
                let error = document.error(key.span().start, format_args!("unknown key `{}`", name.escape_debug()));
                Err(error.hint(did_you_mean(name, known)))
            }
            None => Ok(Self { document, entries, offset }),
        }
    }

    /// Returns the value of `key`, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Entry<'a>> {
        let value = self.entries.get(key)?;
        Some(Entry { document: self.document, key, value })
    }

    /// Returns the value of `key`, parsed with `parse`.
    pub(super) fn parse<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|entry| entry.parse(parse)).transpose()
    }

    /// Returns the text of `key`.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        self.get(key).map(|entry| entry.text().map(str::to_owned)).transpose()
    }

    /// Returns the path in `key`, resolved from the file's folder.
    pub(super) fn path(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        self.get(key).map(|entry| entry.path()).transpose()
    }

    /// Creates an error about the whole table.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> ConfigError {
        self.document.error(self.offset, problem)
    }
}

/// One key and its value.
pub(super) struct Entry<'a> {
    document: &'a TomlDocument<'a>,
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    /// Creates an error about this value.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> ConfigError {
        self.document.error(self.value.span().start, format_args!("`{}`: {problem}", self.key))
    }

    /// Returns the value itself.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// Returns the value as text; an empty one is an error.
    pub(super) fn text(&self) -> Result<&'a str, ConfigError> {
        let text = self.value().as_str().ok_or_else(|| self.error("must be a quoted string"))?;
        match text.trim() {
            "" => Err(self.error("must not be empty")),
            _ if text.contains('\0') => Err(self.error("must not contain a NUL character")),
            _ => Ok(text),
        }
    }

    /// Returns the value as a path, resolved from the file's folder.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        values::path(self.document.folder(), self.text()?).map_err(|problem| self.error(problem))
    }

    /// Returns a text or a number, parsed with `parse`, which also says what else it must be.
    pub(super) fn parse<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let text = match self.value() {
            DeValue::String(_) => self.text()?.to_owned(),
            value => scalar(value).ok_or_else(|| self.error("must be a quoted string or a number"))?,
        };
        let value = parse(&text).map_err(|problem| self.error(problem))?;
        if self.value().is_bool() { Err(self.error("must be a quoted string or a number")) } else { Ok(value) }
    }

    /// Returns the value as a boolean.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value().as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    /// Returns the value as a list of texts.
    pub(super) fn texts(&self) -> Result<Vec<String>, ConfigError> {
        let wrong = || self.error("must be a list of strings, such as [\"a\", \"b\"]");
        let list = self.value().as_array().ok_or_else(wrong)?;
        let texts = list.iter().map(|item| item.get_ref().as_str().filter(|text| !text.contains('\0')));
        texts.map(|text| text.map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// Returns a table of texts, numbers and booleans, as texts.
    pub(super) fn variables(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let wrong = || self.error("must be a table of strings, such as { MODEL = \"small\" }");
        let table = self.value().as_table().ok_or_else(wrong)?;
        let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            let value = scalar(value.get_ref()).ok_or_else(wrong)?;
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            if is_name && !value.contains('\0') { Ok((name.clone().into_owned(), value)) } else { Err(wrong()) }
        };
        table.iter().map(pair).collect()
    }

    /// Returns the value as a table whose keys must be in `known`.
    pub(super) fn table(&self, known: &[&str]) -> Result<TomlTable<'a>, ConfigError> {
        let entries = self.value().as_table().ok_or_else(|| self.error("must be a table, such as { … }"))?;
        TomlTable::new(self.document, (self.value.span().start, entries), known)
    }

    /// Returns the tables of an array of tables, such as `[[task_type]]`, each with the byte offset of its start.
    pub(super) fn tables(&self) -> Result<Vec<(usize, &'a DeTable<'a>)>, ConfigError> {
        let wrong = || self.error(format_args!("must be a list of tables: write [[{}]]", self.key));
        let list = self.value().as_array().ok_or_else(wrong)?;
        list.iter().map(|item| Ok((item.span().start, item.get_ref().as_table().ok_or_else(wrong)?))).collect()
    }

    /// Returns the value as JSON.
    pub(super) fn json(&self) -> Result<Value, ConfigError> {
        to_json(self.value())
            .ok_or_else(|| self.error("contains a number that JSON cannot represent, or one that is too long"))
    }
}

/// Formats a text, a number or a boolean as text.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => Some(match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => integer.to_string(),
        }),
        DeValue::Float(float) => Some(float.to_string()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn number(text: &str) -> Option<Value> {
    json::read(text.trim_start_matches('+')).ok()
}

fn to_json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => json!(text),
        // Keeps its digits as written, as in the params that it is compared with.
        DeValue::Integer(integer) if integer.radix() == 10 => number(integer.as_str())?,
        DeValue::Integer(integer) => {
            number(&u128::from_str_radix(integer.as_str(), integer.radix()).ok()?.to_string())?
        }
        // `inf` and `nan` are not JSON.
        DeValue::Float(float) => number(float.as_str())?,
        DeValue::Boolean(boolean) => json!(boolean),
        DeValue::Datetime(datetime) => json!(datetime.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect::<Option<_>>()?,
        DeValue::Table(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), to_json(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}
