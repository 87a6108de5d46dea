//! A value and where it came from.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

/// A value in force, and what set it. It can be used as the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub value: T,
    /// What set it.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// `value`, as `origin` set it.
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

/// What set a value. It prints for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// This variable of the environment.
    Environment(&'static str),
    /// This variable of the `.env` in the working folder.
    DotEnv(&'static str),
    /// This `prismq.toml`.
    File(PathBuf),
    /// Nothing: it is the default.
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

/// A text that must not be seen. Its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
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
    fn origins_are_for_people() {
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
