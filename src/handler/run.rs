//! One run of a handler: its timeout, its cancellation, its listener, and why it was stopped before it was done.

use std::time::{Duration, Instant};

use crate::headline::STDERR_SEPARATOR;
use crate::json;
use crate::shutdown::{CancelReason, CancelToken};
use crate::task::{ErrorType, Failure, Outcome};

/// Maximum size of a handler's result, in bytes.
pub(super) const OUTPUT_MAX: usize = json::MAX_BYTES;

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

/// Discards progress and log lines.
pub(super) struct NullListener;

impl Listener for NullListener {
    fn progress(&self, _: u8, _: Option<&str>) {}

    fn stderr_line(&self, _: &str) {}
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

/// Why a handler was stopped before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interruption {
    /// It ran longer than this.
    Timeout(Duration),
    /// The worker stopped it.
    Stopped(CancelReason),
    /// Its result is longer than [`OUTPUT_MAX`] bytes.
    OutputTooLong,
    /// It printed an invalid line; the text says what is wrong with it.
    ProtocolViolation(String),
}

impl Interruption {
    /// Returns the outcome of the attempt, with the stderr tail in its error.
    pub(super) fn outcome(&self, stderr_tail: &str) -> Outcome {
        let error = with_stderr_tail(self.error(), stderr_tail);
        match self {
            Self::Timeout(_) => Outcome::failure(ErrorType::Timeout, error),
            Self::Stopped(CancelReason::Shutdown | CancelReason::Kill) => Outcome::failure(ErrorType::Shutdown, error),
            Self::Stopped(CancelReason::ClaimLost) => claim_lost(error),
            Self::OutputTooLong | Self::ProtocolViolation(_) => Outcome::failure(ErrorType::Handler, error),
        }
    }

    fn error(&self) -> String {
        match self {
            Self::Timeout(timeout) => {
                // `timeout` is slightly less than the configured one, because starting took some of it.
                let seconds = timeout.as_secs_f64();
                let shown = match seconds {
                    ..1.0 => format!("{:.0} ms", seconds * 1000.0),
                    ..10.0 => format!("{} s", (seconds * 10.0).round() / 10.0),
                    _ => format!("{seconds:.0} s"),
                };
                format!("timed out after {shown}")
            }
            Self::Stopped(CancelReason::Shutdown | CancelReason::Kill) => "stopped: the worker is shutting down".into(),
            Self::Stopped(CancelReason::ClaimLost) => "stopped: the claim was lost".into(),
            Self::OutputTooLong => {
                format!("killed: printed more than {} MiB to standard output", OUTPUT_MAX >> 20)
            }
            Self::ProtocolViolation(problem) => format!("killed: printed {problem}"),
        }
    }
}

/// Returns the outcome of a task that was stopped before its handler ran.
pub(crate) fn stopped(reason: CancelReason) -> Outcome {
    Interruption::Stopped(reason).outcome("")
}

/// Returns the outcome of an attempt whose claim was lost. It is always retryable, since the task is not at fault.
fn claim_lost(error: String) -> Outcome {
    Failure { error, error_type: ErrorType::Other(ErrorType::CLAIM_LOST.into()), retryable: true }.into()
}

/// Appends the stderr tail to `error`.
pub(super) fn with_stderr_tail(mut error: String, stderr_tail: &str) -> String {
    if !stderr_tail.is_empty() {
        error.push_str(STDERR_SEPARATOR);
        error.push_str(stderr_tail);
    }
    error
}
