//! What surrounds one run of a handler: its time, whether it may go on, and who hears of it.

use std::time::{Duration, Instant};

use super::interruption::Interruption;
use crate::shutdown::{Stop, StopReason};
use crate::task::Outcome;

/// What surrounds one run of a handler.
pub struct Run<'a> {
    pub(crate) timeout: Duration,
    pub(crate) stop: &'a Stop,
    pub(crate) listener: &'a dyn Listener,
    started: Instant,
}

/// Hears what a handler says while it runs. Calls must return quickly: they hold up the handler.
pub trait Listener: Sync {
    /// The handler is `percent` (0 to 100) done.
    fn progress(&self, percent: u8, message: Option<&str>);

    /// The handler printed `line` on its standard error.
    fn stderr_line(&self, line: &str);

    /// Something in the handler's answer makes no sense and is ignored; `problem` says what.
    fn complaint(&self, problem: &str) {
        self.stderr_line(problem);
    }
}

impl<'a> Run<'a> {
    /// A run that may take `timeout` from now, and must end before that where `stop` is raised.
    pub(crate) fn new(timeout: Duration, stop: &'a Stop, listener: &'a dyn Listener) -> Self {
        Self { timeout, stop, listener, started: Instant::now() }
    }

    /// How much of its time is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    /// Whether the handler must end now, since its time is up, the worker shuts down, or the task was given to another
    /// worker. It returns the outcome that it finds here. Nothing can end it otherwise: what takes long asks now and
    /// then.
    #[must_use]
    pub fn interruption(&self) -> Option<Outcome> {
        let interruption = match self.stop.get() {
            Some(reason) => Interruption::Stopped(reason),
            None if self.time_left().is_zero() => Interruption::Timeout(self.timeout),
            None => return None,
        };
        Some(interruption.outcome(""))
    }

    /// Waits, but no longer than the handler may go on; then as [`interruption`](Self::interruption).
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Option<Outcome> {
        self.stop.wait_for(Some(StopReason::Shutdown), duration.min(self.time_left()));
        self.interruption()
    }

    /// Tells the TaskManager that the handler is `percent` (0 to 100) done: at most once a second, and the last always.
    pub fn progress<'m>(&self, percent: u8, message: impl Into<Option<&'m str>>) {
        self.listener.progress(percent.min(100), message.into());
    }

    /// Writes a line to the log, with the task's id.
    pub fn log(&self, line: &str) {
        self.listener.stderr_line(line);
    }
}
