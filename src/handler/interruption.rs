//! Why a handler was stopped before it was done.

use std::time::Duration;

use crate::headline::STDERR_SEPARATOR;
use crate::json;
use crate::shutdown::CancelReason;
use crate::task::{ErrorType, Failure, Outcome};

/// Maximum size of a handler's result, in bytes.
pub(super) const OUTPUT_MAX: usize = json::MAX_BYTES;

/// Why a handler was stopped before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interruption {
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
    pub(crate) fn outcome(&self, stderr_tail: &str) -> Outcome {
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
    Failure { error, error_type: ErrorType::Other("claim_lost".into()), retryable: true }.into()
}

/// Appends the stderr tail to `error`.
pub(super) fn with_stderr_tail(mut error: String, stderr_tail: &str) -> String {
    if !stderr_tail.is_empty() {
        error.push_str(STDERR_SEPARATOR);
        error.push_str(stderr_tail);
    }
    error
}
