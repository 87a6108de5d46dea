//! Exit codes, and errors with advice for users.

use std::process::ExitCode;

/// The exit codes of `prismq`. Scripts depend on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// Failure.
    Failed = 1,
    /// The command line, the environment or a settings file is wrong.
    Usage = 2,
    /// There was no task to claim.
    NoTask = 3,
    /// The TaskManager could not be reached.
    Unreachable = 4,
    /// The TaskManager refused the key.
    KeyRefused = 5,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for users: one line that says what is wrong and where, and a hint on what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UserError {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and where, without a trailing full stop.
    pub message: String,
    /// What to do next, if there is anything.
    pub hint: Option<String>,
}

impl UserError {
    /// Creates an error with an exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Creates an error for wrong usage or settings ([`Exit::Usage`]).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
