//! What works a task: programs, and what is built in.

mod answer;
mod builtin;
mod envelope;
mod environment;
mod exec;
mod interruption;
#[cfg(target_os = "linux")]
mod leftovers;
mod lines;
mod lookup;
mod misplaced;
mod not_before;
mod persistent;
mod pipes;
#[cfg(target_os = "linux")]
mod proc;
mod process;
mod redact;
mod run;
mod script;
mod session;
mod settings;
#[cfg(target_os = "linux")]
mod supervision;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod supervision;
#[cfg(test)]
mod tests;
mod wake;

pub(crate) use builtin::{builtin, builtin_schema};
pub(crate) use envelope::outcome_of;
pub use exec::Exec;
pub(crate) use interruption::{Interruption, stopped};
#[cfg(target_os = "linux")]
pub use leftovers::{Leftover, end_leftovers};
pub(crate) use persistent::Persistent;
pub(crate) use redact::Redactor;
pub use run::{Listener, Run};
pub use settings::{Command, ExecSettings};
pub use supervision::supervise;
#[cfg(not(target_os = "linux"))]
pub use supervision::{Leftover, end_leftovers};

use jiff::Timestamp;

use crate::shutdown::Stop;
use crate::task::{Claim, Outcome};

/// How many files a handler has open, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// For each task that it works at a time.
    pub running: usize,
    /// Between tasks as well, for each task that it has worked at the same time as others.
    pub idle: usize,
}

/// Works tasks of one type. One handler serves every slot, several at once.
///
/// A function or a closure does as well, if it takes a claim and its run, and returns an [`Outcome`] or a
/// `Result<serde_json::Value, Failure>`.
pub trait Handler: Send + Sync {
    /// Works `claim`'s task to its end. Whatever goes wrong is in the outcome; a panic is a failure as well
    /// (`handler`, not tried again).
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome;

    /// Whether it could run now: what it needs is there. Asked once, before the first claim. The error is one line that
    /// says what is wrong and where.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// When it can take tasks again, where it cannot now: a quota is used up, say. Asked before each claim.
    fn not_before(&self) -> Option<Timestamp> {
        None
    }

    /// How many files it has open, at most.
    // For the reckoning of how many slots there may be. What others need is not known.
    #[doc(hidden)]
    fn open_files(&self) -> OpenFiles {
        OpenFiles { running: 2, idle: 0 }
    }

    /// Ends what it keeps for tasks to come, since there are none: in order, unless `stop` is raised.
    // For handlers that keep processes; what others keep is dropped with them.
    #[doc(hidden)]
    fn end_idle(&self, _stop: &Stop) {}
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
