//! Errors in settings, in words for people.

use std::fmt::Display;

use crate::text_file;

/// An invalid setting: one line that says what is wrong and where. Never contains a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong and where, without a trailing full stop.
    pub message: String,
    /// What to do about it, if anything.
    pub hint: Option<String>,
}

impl ConfigError {
    /// Creates an error for `problem`, found at `place`: a variable, a file, or a file and its line.
    pub(super) fn at(place: impl Display, problem: impl Display) -> Self {
        Self { message: format!("{place}: {problem}"), hint: None }
    }

    /// Creates an error for a file that cannot be read.
    pub(super) fn unreadable(file: impl Display, error: &std::io::Error) -> Self {
        Self::at(file, format_args!("cannot be read: {}", text_file::reason(error)))
    }

    /// Adds a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether `known`, in lower case, is similar enough to `name` to be what was meant.
#[must_use]
pub(crate) fn is_near(name: &str, known: &str) -> bool {
    likeness(name, known) > 0.8
}

/// Returns the similarity of two names. Only their letters count: `poll-interval` is like `poll_interval`.
fn likeness(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(&name.to_lowercase(), known)
}

/// Returns a hint for the unknown `name`: the most similar of `known`, or all of them if none is similar.
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
    fn the_most_similar_name_is_suggested() {
        for typo in ["poll_intervall", "poll-interval", "pollinterval", "POLL_INTERVAL", "pol_interval"] {
            assert_eq!(did_you_mean(typo, &KNOWN), "did you mean `poll_interval`?", "{typo}");
        }
    }

    #[test]
    fn all_names_are_listed_if_none_is_similar() {
        assert_eq!(did_you_mean("xyz", &KNOWN), "use one of: poll_interval, max_tasks, strategy");
    }
}
