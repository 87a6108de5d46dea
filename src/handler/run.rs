//! Context of one run of a handler: its timeout, its cancellation, and its listener.

use std::time::{Duration, Instant};

use super::interruption::Interruption;
use crate::shutdown::{CancelReason, CancelToken};
use crate::task::Outcome;

/// The context of one run of a handler.
pub struct Run<'a> {
    pub(crate) timeout: Duration,
    pub(crate) stop: &'a CancelToken,
    pub(crate) listener: &'a dyn Listener,
    started: Instant,
}

/// Receives progress and log lines of a running handler. Calls must return quickly, since they block the handler.
pub trait Listener: Sync {
    /// The handler is `percent` (0 to 100) done.
    fn progress(&self, percent: u8, message: Option<&str>);

    /// The handler printed `line` on its standard error.
    fn stderr_line(&self, line: &str);

    /// A part of the handler's answer is invalid and ignored; `problem` says which.
    fn warning(&self, problem: &str) {
        self.stderr_line(problem);
    }
}

impl<'a> Run<'a> {
    /// Creates a run that may take `timeout` from now and must end early if `stop` is raised.
    pub(crate) fn new(timeout: Duration, stop: &'a CancelToken, listener: &'a dyn Listener) -> Self {
        Self { timeout, stop, listener, started: Instant::now() }
    }

    /// Returns how much of the timeout is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    /// Returns the outcome to return now if the handler must stop: its time is up, the worker shuts down, or the claim was
    /// lost. A handler that takes long must check this regularly, since nothing else can stop it.
    #[must_use]
    pub fn interruption(&self) -> Option<Outcome> {
        let interruption = match self.stop.get() {
            Some(reason) => Interruption::Stopped(reason),
            None if self.time_left().is_zero() => Interruption::Timeout(self.timeout),
            None => return None,
        };
        Some(interruption.outcome(""))
    }

    /// Sleeps, but not longer than the handler may run; then returns [`interruption`](Self::interruption).
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Option<Outcome> {
        self.stop.wait_for(Some(CancelReason::Shutdown), duration.min(self.time_left()));
        self.interruption()
    }

    /// Reports progress to the TaskManager, from 0 to 100 percent. At most one report a second is sent, and always the
    /// last one.
    pub fn progress<'m>(&self, percent: u8, message: impl Into<Option<&'m str>>) {
        self.listener.progress(percent.min(100), message.into());
    }

    /// Logs a line with the task's id.
    pub fn log(&self, line: &str) {
        self.listener.stderr_line(line);
    }
}
