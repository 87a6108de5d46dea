//! A value and its origin.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use super::duration::LONGEST;
use super::{LogFormat, Strategy, TextForm, format_duration};

/// A value and its origin. Dereferences to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub value: T,
    /// Its origin.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// Creates a setting.
    pub(crate) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where a value was set. Displayed to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Environment(&'static str),
    /// A variable of the `.env` in the working folder.
    DotEnv(&'static str),
    /// A `prismq.toml`.
    File(PathBuf),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment ({name})"),
            Self::DotEnv(name) => write!(f, ".env ({name})"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting, its value as it would be written, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Name in `prismq.toml`; `config` is that file itself.
    pub name: &'static str,
    /// Value; a secret is masked.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
}

/// A secret text. Its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for the one place that needs it.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A type that settings can have.
pub(super) trait Value: Sized {
    const FORM: TextForm = TextForm::Value;

    /// Parses a text that [`Definition::check`](super::Definition::check) has accepted.
    fn read(text: &OsStr, parse: fn(&str) -> Result<Self, String>) -> Result<Self, String> {
        parse(text.to_str().ok_or("not UTF-8")?)
    }

    /// Returns the value for people; a secret is masked.
    fn shown(&self) -> String;

    /// Returns the value as its setting parses it.
    fn exact(&self) -> OsString {
        self.shown().into()
    }
}

macro_rules! printed_values {
    ($($type:ty: $form:expr),*) => { $(impl Value for $type {
        const FORM: TextForm = $form;

        fn shown(&self) -> String {
            self.to_string()
        }
    })* };
}

printed_values! {
    u32: TextForm::Value, u64: TextForm::Value, usize: TextForm::Value, SocketAddr: TextForm::Value, String: TextForm::Text,
    Strategy: TextForm::Choice(&Self::NAMES), LogFormat: TextForm::Choice(&Self::NAMES)
}

impl Value for Duration {
    fn shown(&self) -> String {
        format_duration(*self)
    }

    fn exact(&self) -> OsString {
        let time = (*self).min(LONGEST);
        format!("{}.{:09}", time.as_secs(), time.subsec_nanos()).into()
    }
}

impl Value for PathBuf {
    const FORM: TextForm = TextForm::Path;

    fn read(text: &OsStr, _: fn(&str) -> Result<Self, String>) -> Result<Self, String> {
        Ok(text.into())
    }

    fn shown(&self) -> String {
        self.display().to_string()
    }

    fn exact(&self) -> OsString {
        self.clone().into_os_string()
    }
}

impl Value for Secret {
    const FORM: TextForm = TextForm::Text;

    fn shown(&self) -> String {
        "***".to_owned()
    }

    fn exact(&self) -> OsString {
        self.expose().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let setting = Setting::new(Secret::new("hunter2"), Origin::Environment("TASKMANAGER_API_KEY"));
        assert!(!format!("{setting:?}").contains("hunter2"));
        assert_eq!(setting.expose(), "hunter2");
    }

    #[test]
    fn origins_are_displayed() {
        for (origin, text) in [
            (Origin::Flag, "command line"),
            (Origin::Environment("WORKER_ID"), "environment (WORKER_ID)"),
            (Origin::DotEnv("WORKER_ID"), ".env (WORKER_ID)"),
            (Origin::File("/etc/prismq.toml".into()), "/etc/prismq.toml"),
            (Origin::Default, "default"),
        ] {
            assert_eq!(origin.to_string(), text);
        }
    }
}
