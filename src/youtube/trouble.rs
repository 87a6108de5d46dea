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
pub(super) enum Trouble {
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

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Interrupted(interruption) => interruption.outcome(""),
            Trouble::Quota(error) => {
                Failure { error, error_type: ErrorType::Other("quota".into()), retryable: true }.into()
            }
            Trouble::Key(error) => Self {
                not_before: Some(after(Timestamp::now(), PAUSE)),
                ..Self::failure(ErrorType::Configuration, error)
            },
            Trouble::Missing(error) => Self::failure(ErrorType::Other("not_found".into()), error),
            Trouble::Failed(error_type, error) => Self::failure(error_type, error),
        }
    }
}
