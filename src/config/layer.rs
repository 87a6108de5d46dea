//! What one source of settings says, and how sources lie over each other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::setting::Value;
use super::{ConfigError, Definition, Origin, SETTINGS, Setting};
use crate::text_file;

/// What the command line gave, or a program that builds a worker: the text of each setting. Paths are relative to the
/// working folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags(BTreeMap<&'static str, OsString>);

impl Flags {
    /// These, and the setting `name` as `text`.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<OsString>) -> Self {
        self.0.insert(name, text.into());
        self
    }

    /// These, and `others` where they say something.
    #[must_use]
    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }

    /// Those among them that have one of these names.
    #[must_use]
    pub(crate) fn only(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| names.contains(name));
        self
    }

    /// Checks the values, for a caller that is not the command line: errors name settings rather than options.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.read(Path::new("/"), |setting| setting.name.to_owned()).map(drop)
    }

    /// The layer of the command line.
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

/// Only names: a value may be a key.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The text of a setting, checked; a path is absolute.
pub(super) struct Given {
    pub(super) text: OsString,
    pub(super) origin: Origin,
    /// If the text is the path of a file that holds the value, what that file is.
    pub(super) file: Option<&'static str>,
}

impl Given {
    pub(super) fn new(text: OsString, origin: Origin) -> Self {
        Self { text, origin, file: None }
    }
}

/// What one source says, by the names of settings.
#[derive(Default)]
pub(super) struct Layer(BTreeMap<&'static str, Given>);

impl Layer {
    pub(super) fn insert(&mut self, name: &'static str, given: Given) {
        self.0.insert(name, given);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Given> {
        self.0.remove(name)
    }

    /// This layer, and `lower` where it says nothing.
    pub(super) fn over(self, mut lower: Self) -> Self {
        lower.0.extend(self.0);
        lower
    }

    /// The value of the setting `name`, if there is one. A file that holds it is read here.
    pub(super) fn get<T: Value>(
        &self,
        name: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, ConfigError> {
        let Some(Given { text, origin, file }) = self.0.get(name) else { return Ok(None) };
        let value = match file {
            Some(what) => {
                let place = format!("{what} {} ({origin})", text.display());
                let bytes = text_file::read(Path::new(text), text_file::MAX_SETTINGS)
                    .map_err(|error| ConfigError::unreadable(&place, &error))?;
                text_file::utf_8(&bytes).and_then(parse).map_err(|problem| ConfigError::at(&place, problem))?
            }
            None => T::read(text, parse).map_err(|problem| ConfigError::at(origin, problem))?,
        };
        Ok(Some(Setting::new(value, origin.clone())))
    }
}
