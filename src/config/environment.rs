//! The environment and `.env` as sources of settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::layer::{Given, Layer};
use super::{ConfigError, Origin, SETTINGS, values};

/// Variables and their values.
pub(super) type VariableMap = BTreeMap<String, String>;

/// A source of variables.
pub(super) struct VariableSource<'a> {
    pub(super) variables: &'a VariableMap,
    /// Variables that must not be used, each with the reason.
    pub(super) refused: &'a BTreeMap<String, ConfigError>,
    /// Returns the origin of a setting from this source.
    pub(super) origin: fn(&'static str) -> Origin,
    /// Base of relative paths.
    pub(super) base: &'a Path,
}

impl VariableSource<'_> {
    /// Reads the settings from the variables. An empty variable counts as unset.
    pub(super) fn layer(&self) -> Result<Layer, ConfigError> {
        let mut layer = Layer::default();
        for setting in SETTINGS {
            let mut given = self.given(setting.variable, |text| setting.check(self.base, text.as_ref()))?;
            if let Some(file) = setting.key_file {
                let path = |text: &str| values::path(self.base, text).map(PathBuf::into_os_string);
                let path = self.given(file.variable, path)?;
                given = given.or(path.map(|path| Given { file: Some(file.what), ..path }));
            }
            if let Some((variable, text)) = setting.switch.filter(|(variable, _)| self.is_on(variable)) {
                given = given.or(Some(Given::new(text.into(), (self.origin)(variable))));
            }
            if let Some(given) = given {
                layer.insert(setting.name, given);
            }
        }
        Ok(layer)
    }

    fn given(
        &self,
        variable: &'static str,
        check: impl Fn(&str) -> Result<OsString, String>,
    ) -> Result<Option<Given>, ConfigError> {
        if let Some(error) = self.refused.get(variable) {
            return Err(error.clone());
        }
        let Some(text) = self.text(variable) else { return Ok(None) };
        let origin = (self.origin)(variable);
        // Bytes that are not UTF-8 have been replaced, so the text would be another path.
        let is_utf_8 = !text.contains(char::REPLACEMENT_CHARACTER);
        let checked = if is_utf_8 { check(text) } else { Err("not UTF-8".to_owned()) };
        let text = checked.map_err(|problem| ConfigError::at(&origin, problem))?;
        Ok(Some(Given::new(text, origin)))
    }

    /// Whether the variable is `1` or `true`. Other programs give such variables other values, which are ignored.
    fn is_on(&self, variable: &str) -> bool {
        self.text(variable).is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    }

    fn text(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(|text| text.trim()).filter(|text| !text.is_empty())
    }
}
