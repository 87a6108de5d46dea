//! Why a task comes to nothing, and what the worker is told of it.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::handler::Interruption;
use crate::task::{ErrorType, Failure, Outcome};

/// How long the tasks of a type wait for a person to mend the key.
const PAUSE: Duration = Duration::from_mins(10);

/// Why a task comes to nothing. The texts are one line each.
#[derive(Debug)]
pub(super) enum TaskError {
    /// It was stopped, or ran out of time.
    Interrupted(Interruption),
    /// The day has no units left for it.
    Quota(String),
    /// There is no key, or it is not accepted.
    Key(String),
    /// What it asks for does not exist.
    Missing(String),
    /// Anything else.
    Failed(ErrorType, String),
}

impl From<TaskError> for Outcome {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Interrupted(interruption) => interruption.outcome(""),
            TaskError::Quota(error) => {
                Failure { error, error_type: ErrorType::Other("quota".into()), retryable: true }.into()
            }
            TaskError::Key(error) => Self {
                not_before: Some(after(Timestamp::now(), PAUSE)),
                ..Self::failure(ErrorType::Configuration, error)
            },
            TaskError::Missing(error) => Self::failure(ErrorType::Other("not_found".into()), error),
            TaskError::Failed(error_type, error) => Self::failure(error_type, error),
        }
    }
}
