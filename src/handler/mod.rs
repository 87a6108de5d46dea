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
mod persistent;
mod pipes;
#[cfg(target_os = "linux")]
mod proc;
mod process;
mod redact;
mod session;
#[cfg(target_os = "linux")]
mod supervision;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod supervision;
mod wake;
pub mod youtube;

pub use builtin::{BUILTIN, builtin, builtin_schema};
pub use envelope::outcome_of;
pub use exec::{Command, Exec, ExecSettings};
#[cfg(target_os = "linux")]
pub use leftovers::{Leftover, end_leftovers};
pub use persistent::Persistent;
pub use supervision::supervise;
#[cfg(not(target_os = "linux"))]
pub use supervision::{Leftover, end_leftovers};

use std::time::Duration;

use jiff::Timestamp;

use crate::shutdown::Stop;
use crate::task::{Claim, Outcome};

/// Works tasks of one type. One handler serves every slot, several at once.
pub trait Handler: Send + Sync {
    /// Works `claim`'s task to its end. Whatever goes wrong is in the outcome.
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome;

    /// Whether it could run now: a program is there and may be executed. The error is one line that says what is
    /// wrong and where.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// When it can take tasks again, where it cannot now: a quota is used up, say. Asked before each claim.
    fn not_before(&self) -> Option<Timestamp> {
        None
    }

    /// Ends what it keeps for tasks to come, since there are none: in order, unless `stop` is raised.
    fn end_idle(&self, _stop: &Stop) {}
}

/// What surrounds one run of a handler.
pub struct Run<'a> {
    /// How long it may take, from now.
    pub timeout: Duration,
    /// Raised where it must end before that.
    pub stop: &'a Stop,
    /// Who hears of it while it runs.
    pub listener: &'a dyn Listener,
}

/// Hears what a handler says while it runs. Calls must return quickly: they hold up the handler.
pub trait Listener: Sync {
    /// The handler is `percent` (0 to 100) done.
    fn progress(&self, percent: u8, message: Option<&str>);

    /// The handler printed `line` on its standard error.
    fn stderr_line(&self, line: &str);
}
