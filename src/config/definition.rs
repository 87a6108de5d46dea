//! The definition of a setting, apart from its type.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::values;

/// Where a setting can be set, and how its text is parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Definition {
    /// Name of the setting, also in `prismq.toml`.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// How its text is checked.
    pub form: TextForm,
    /// Command line option, if it has one.
    pub flag: Option<CliOption>,
    pub(super) variable: &'static str,
    /// A second variable, which sets this value if it is `1` or `true`.
    pub(super) switch: Option<(&'static str, &'static str)>,
    /// Keys are never in `prismq.toml`, but can be in a file of their own.
    pub(super) key_file: Option<KeyFile>,
    pub(super) is_in_toml: bool,
    /// What `prismq config` shows if it has no value.
    pub(super) unset: &'static str,
    pub(super) check: fn(&OsStr) -> Result<(), String>,
}

/// How the text of a setting is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextForm {
    /// A value that the command line parser checks and may repeat in its error.
    Value,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that only [`super::load`] checks, since it may contain a password.
    Text,
    /// A path, relative to where it is set.
    Path,
}

/// A command line option.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CliOption {
    /// Which commands have it.
    pub scope: Scope,
    /// Name, without dashes.
    pub long: &'static str,
    /// Placeholder of its value in help.
    pub value_name: &'static str,
    /// Alias.
    pub alias: Option<&'static str>,
}

/// Which commands have an option, and its heading in their help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All commands, under Settings.
    Global,
    /// All commands, under Output.
    Output,
    /// Commands that run a worker.
    Worker,
}

impl Scope {
    /// Returns an option `--long VALUE_NAME` with this scope.
    pub(super) const fn flag(self, long: &'static str, value_name: &'static str) -> CliOption {
        CliOption { scope: self, long, value_name, alias: None }
    }
}

/// Where the path of a key's file can be set, and what that file is.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyFile {
    pub(super) variable: &'static str,
    pub(super) name: &'static str,
    pub(super) what: &'static str,
}

impl Definition {
    /// Defaults for the fields.
    pub(super) const BLANK: Self = Self {
        name: "",
        help: "",
        form: TextForm::Value,
        flag: None,
        variable: "",
        switch: None,
        key_file: None,
        is_in_toml: true,
        unset: "none",
        check: |_| Ok(()),
    };

    /// Returns its key in `prismq.toml`, if it may be there.
    pub(super) fn key(&self) -> Option<&'static str> {
        self.is_in_toml.then_some(self.key_file.map_or(self.name, |file| file.name))
    }

    /// Checks `text` and returns it; a path is made absolute, from `base`.
    pub(crate) fn check(&self, base: &Path, text: &OsStr) -> Result<OsString, String> {
        match self.form {
            TextForm::Path => values::path(base, text).map(PathBuf::into_os_string),
            _ => (self.check)(text).map(|()| text.to_owned()),
        }
    }
}
