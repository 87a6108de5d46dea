//! What is wrong with the settings, for a person.

use std::fmt::Display;

use crate::text_file;

/// A setting that cannot be used: one line that says what is wrong and where. It never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong and where, without a trailing full stop.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub hint: Option<String>,
}

impl ConfigError {
    /// `problem`, found at `place`: a variable, a file, a file and its line.
    pub(super) fn at(place: impl Display, problem: impl Display) -> Self {
        Self { message: format!("{place}: {problem}"), hint: None }
    }

    /// `file` cannot be read.
    pub(super) fn unreadable(file: impl Display, error: &std::io::Error) -> Self {
        Self::at(file, format_args!("cannot be read: {}", text_file::reason(error)))
    }

    /// The same error with advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether `known`, in small letters, is near enough to `name` that it may be meant.
#[must_use]
pub(crate) fn is_near(name: &str, known: &str) -> bool {
    likeness(name, known) > 0.8
}

/// Names are told apart by their letters, however the words are joined: `poll-interval` is near `poll_interval`.
fn likeness(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(&name.to_lowercase(), known)
}

/// Advice on `name`, which is none of `known`: the nearest of them, or all where none is near.
#[must_use]
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().max_by(|a, b| likeness(name, a).total_cmp(&likeness(name, b)));
    match nearest {
        Some(nearest) if is_near(name, nearest) => format!("did you mean `{nearest}`?"),
        _ => format!("use one of: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["poll_interval", "max_tasks", "strategy"];

    #[test]
    fn names_the_nearest() {
        for typo in ["poll_intervall", "poll-interval", "pollinterval", "POLL_INTERVAL", "pol_interval"] {
            assert_eq!(did_you_mean(typo, &KNOWN), "did you mean `poll_interval`?", "{typo}");
        }
    }

    #[test]
    fn names_all_where_none_is_near() {
        assert_eq!(did_you_mean("xyz", &KNOWN), "use one of: poll_interval, max_tasks, strategy");
    }
}
