//! Task handlers: external programs, and the built-in ones.

mod answer;
mod builtin;
mod envelope;
mod exec;
mod lines;
mod lookup;
mod not_before;
mod persistent;
mod pipes;
mod process;
mod redact;
mod run;
mod session;
mod settings;
mod stray_envelope;

#[cfg(test)]
mod tests;

pub(crate) use builtin::{builtin, builtin_schema};
pub(crate) use envelope::outcome_of;
pub use exec::Exec;
pub(crate) use persistent::Persistent;
pub use process::{Orphan, kill_orphans, supervise};
pub(crate) use redact::Redactor;
pub(crate) use run::stopped;
pub use run::{Listener, Run};
pub use settings::{ExecCommand, ExecSettings};

use jiff::Timestamp;

use crate::shutdown::CancelToken;
use crate::task::{Claim, Outcome};

/// The maximum number of files that a handler has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// For each task that runs.
    pub running: usize,
    /// For each slot that has run a task, also between tasks.
    pub idle: usize,
}

/// Runs tasks of one type. All slots share one handler, so it must be able to run several tasks at the same time.
///
/// Functions and closures that take a claim and its run, and return an [`Outcome`] or a
/// `Result<serde_json::Value, Failure>`, are handlers too.
pub trait Handler: Send + Sync {
    /// Runs `claim`'s task. The outcome contains any error; a panic is a failure of type `handler` that is not retried.
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome;

    /// Checks that what the handler needs is available. Called once, before the first claim. The error is one line that
    /// says what is wrong and where.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns when the handler can take tasks again, if it cannot now, for example because a quota is used up. Called
    /// before each claim.
    fn not_before(&self) -> Option<Timestamp> {
        None
    }

    /// Returns the maximum number of files that it has open.
    // Used to compute how many slots the limit on open files allows. For handlers of users it is a guess.
    #[doc(hidden)]
    fn open_files(&self) -> OpenFiles {
        OpenFiles { running: 2, idle: 0 }
    }

    /// Shuts down what it keeps for future tasks; gracefully, unless `stop` is raised.
    // Only handlers that keep processes need this.
    #[doc(hidden)]
    fn end_idle(&self, _stop: &CancelToken) {}
}

impl<F, R> Handler for F
where
    F: Fn(&Claim, &Run<'_>) -> R + Send + Sync,
    R: Into<Outcome>,
{
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        self(claim, run).into()
    }
}
