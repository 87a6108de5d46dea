//! Why a call was refused.

/// Why a call was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    TypeNotFound,
    TypeNotActive,
    /// The schema is no JSON Schema; why not.
    BadSchema(String),
    /// The params break the schema; where and how.
    BadParams(String),
    /// It was not known in time whether they do; why not.
    Busy(String),
    /// A part of the request is beyond a limit; which, and why.
    BeyondLimit(String),
    /// Too many long answers are being sent.
    NoRoom,
    NoTask,
    TaskNotFound,
    NotClaimed,
    ClaimedByAnother,
    NotFailed,
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

pub(super) type Result<T> = std::result::Result<T, Refusal>;
