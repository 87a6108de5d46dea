//! Why a handler was ended before it was done, in the words of an outcome.

use std::time::Duration;

use crate::headline::LAST_WORDS;
use crate::json;
use crate::shutdown::StopReason;
use crate::task::{ErrorType, Failure, Outcome};

/// The most a handler may print as its result, in bytes.
pub(super) const OUTPUT_MAX: usize = json::MAX_BYTES;

/// Why a handler was ended before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// It took longer than this.
    Timeout(Duration),
    /// The worker asked for it.
    Stopped(StopReason),
    /// It printed more than [`OUTPUT_MAX`] bytes as its result.
    OutputTooLong,
    /// It printed a line that makes no sense: what is wrong with it.
    Misspoke(String),
}

impl Interruption {
    /// The failure it makes of the attempt; `last_words` are what the handler printed before.
    pub(crate) fn outcome(&self, last_words: &str) -> Outcome {
        let error = with_last_words(self.error(), last_words);
        match self {
            Self::Timeout(_) => Outcome::failure(ErrorType::Timeout, error),
            Self::Stopped(StopReason::Shutdown | StopReason::Kill) => Outcome::failure(ErrorType::Shutdown, error),
            Self::Stopped(StopReason::ClaimLost) => claim_lost(error),
            Self::OutputTooLong | Self::Misspoke(_) => Outcome::failure(ErrorType::Handler, error),
        }
    }

    fn error(&self) -> String {
        match self {
            Self::Timeout(timeout) => {
                // It is what was left of the time, of which the start took some.
                let seconds = timeout.as_secs_f64();
                let shown = match seconds {
                    ..1.0 => format!("{:.0} ms", seconds * 1000.0),
                    ..10.0 => format!("{} s", (seconds * 10.0).round() / 10.0),
                    _ => format!("{seconds:.0} s"),
                };
                format!("timed out after {shown}")
            }
            Self::Stopped(StopReason::Shutdown | StopReason::Kill) => "stopped: the worker is shutting down".into(),
            Self::Stopped(StopReason::ClaimLost) => "stopped: the claim was lost".into(),
            Self::OutputTooLong => {
                format!("killed: printed more than {} MiB to standard output", OUTPUT_MAX >> 20)
            }
            Self::Misspoke(problem) => format!("killed: printed {problem}"),
        }
    }
}

/// The outcome of a task that was stopped before its handler ran.
pub(crate) fn stopped(reason: StopReason) -> Outcome {
    Interruption::Stopped(reason).outcome("")
}

/// The failure of an attempt whose task is another worker's by now. It says nothing against the task, so the attempt
/// must never count as one that is not worth another try.
fn claim_lost(error: String) -> Outcome {
    Failure { error, error_type: ErrorType::Other("claim_lost".into()), retryable: true }.into()
}

/// What happened, then what the handler said before it did.
pub(super) fn with_last_words(mut error: String, last_words: &str) -> String {
    if !last_words.is_empty() {
        error.push_str(LAST_WORDS);
        error.push_str(last_words);
    }
    error
}
