//! How a run of `prismq` ends: the exit codes, and the error a person reads.

use std::process::ExitCode;

/// Every exit code `prismq` uses. Scripts depend on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line, the environment or a settings file is wrong.
    Usage = 2,
    /// There was no task to claim.
    NoTask = 3,
    /// The TaskManager could not be reached.
    Unreachable = 4,
    /// The TaskManager refused the key.
    KeyRefused = 5,
    /// A signal ended it before it was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for a person: one line that says what is wrong and where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UserError {
    /// The code the process ends with.
    pub exit: Exit,
    /// What is wrong and where, without a trailing full stop.
    pub message: String,
    /// What to do next, where there is something to do.
    pub hint: Option<String>,
}

impl UserError {
    /// An error that ends the process with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Wrong usage or settings ([`Exit::Usage`]).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same error with advice on what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
