//! Settings from one source, and merging of sources.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::setting::Value;
use super::{ConfigError, Definition, Origin, SETTINGS, Setting};
use crate::text_file;

/// Settings from the command line, or from a program that builds a worker, as text. Paths are relative to the working
/// folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags(BTreeMap<&'static str, OsString>);

impl Flags {
    /// Sets the setting `name` to `text`.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<OsString>) -> Self {
        self.0.insert(name, text.into());
        self
    }

    /// Merges `others` into these; `others` win.
    #[must_use]
    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }

    /// Keeps only settings with these names.
    #[must_use]
    pub(crate) fn only(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| names.contains(name));
        self
    }

    /// Checks the values for a caller other than the command line: errors name settings rather than options.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.read(Path::new("/"), |setting| setting.name.to_owned()).map(drop)
    }

    /// Returns the command line's layer.
    pub(super) fn layer(&self, working_dir: &Path) -> Result<Layer, ConfigError> {
        self.read(working_dir, |it| it.flag.map_or(it.name.to_owned(), |flag| format!("--{}", flag.long)))
    }

    fn read(&self, base: &Path, place: fn(&Definition) -> String) -> Result<Layer, ConfigError> {
        let mut layer = Layer::default();
        for setting in SETTINGS {
            if let Some(text) = self.0.get(setting.name) {
                let text = setting.check(base, text).map_err(|problem| ConfigError::at(place(setting), problem))?;
                layer.insert(setting.name, Given::new(text, Origin::Flag));
            }
        }
        Ok(layer)
    }
}

/// Shows only names: a value may be a key.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The checked text of a setting; a path is absolute.
pub(super) struct Given {
    pub(super) text: OsString,
    pub(super) origin: Origin,
    /// What the file is, if the text is the path of a file that contains the value.
    pub(super) file: Option<&'static str>,
}

impl Given {
    pub(super) fn new(text: OsString, origin: Origin) -> Self {
        Self { text, origin, file: None }
    }
}

/// The settings of one source, by name.
#[derive(Default)]
pub(super) struct Layer(BTreeMap<&'static str, Given>);

impl Layer {
    pub(super) fn insert(&mut self, name: &'static str, given: Given) {
        self.0.insert(name, given);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Given> {
        self.0.remove(name)
    }

    /// Lays this layer over `lower`, whose values count only if this one has none.
    pub(super) fn over(self, mut lower: Self) -> Self {
        lower.0.extend(self.0);
        lower
    }

    /// Returns the value of the setting `name`, if there is one. Reads the file that contains it, if any.
    pub(super) fn get<T: Value>(
        &self,
        name: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, ConfigError> {
        let Some(Given { text, origin, file }) = self.0.get(name) else { return Ok(None) };
        let value = match file {
            Some(what) => {
                let place = format!("{what} {}, from {origin}", text.display());
                let bytes = text_file::read(Path::new(text), text_file::MAX_SETTINGS)
                    .map_err(|error| ConfigError::unreadable(&place, &error))?;
                text_file::utf_8(&bytes).and_then(parse).map_err(|problem| ConfigError::at(&place, problem))?
            }
            None => T::read(text, parse).map_err(|problem| ConfigError::at(origin, problem))?,
        };
        Ok(Some(Setting::new(value, origin.clone())))
    }
}
