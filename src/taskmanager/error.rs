//! Errors of calls to the TaskManager, as callers distinguish them.

use std::time::Duration;

use super::http::THROUGH;

/// Why a call failed. The text is one line and never contains the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No complete answer arrived: no connection, a time-out, a truncated answer.
    #[error("cannot reach the TaskManager at {url}: {reason}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// What happened.
        reason: String,
    },
    /// This process lacks a resource for a connection, such as open files. Nothing was sent.
    #[error("cannot open a connection to the TaskManager at {url}, out of open files or memory: {reason}")]
    Shortage {
        /// The base URL.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// TLS or a proxy refused the connection; a retry would not help.
    #[error("cannot connect to the TaskManager at {url}: {reason}")]
    NotConnected {
        /// The base URL.
        url: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Something that is not a TaskManager answered.
    #[error("no TaskManager at {url}: {reason}")]
    NotATaskManager {
        /// The base URL.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// The server cannot serve the call now, but may later.
    #[error("the TaskManager at {url} is unavailable: {reason} ({status})")]
    Unavailable {
        /// The base URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's message, or what it means.
        reason: String,
        /// The time from `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The server rejects the key or this client's address.
    #[error("the TaskManager at {url} {}{}", if *.with_key { "refused the key" } else { "refused a request without a key" }, reason_of(message))]
    KeyRefused {
        /// The base URL.
        url: String,
        /// Its own words.
        message: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The server rejects the call, and would reject it again.
    #[error("the TaskManager refused the request: {message} ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's message, with its details.
        message: String,
    },
    /// The answer does not fit the call, while other calls work.
    #[error("the TaskManager at {url} gave an invalid answer to {call}: {reason}")]
    InvalidAnswer {
        /// The base URL.
        url: String,
        /// The call, as method and path.
        call: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The server's pages cannot be combined into a list that has each task once.
    #[error("the TaskManager at {url} cannot list these tasks reliably: {reason}")]
    Inexact {
        /// The base URL.
        url: String,
        /// What is wrong with the pages.
        reason: String,
    },
    /// The program is stopping and gave up waiting for the next try.
    #[error("interrupted while waiting for the TaskManager")]
    Interrupted,
}

/// Returns the server's message about a refused key, unless it is the usual one.
fn reason_of(message: &str) -> String {
    if message.starts_with("Invalid or missing API key") { String::new() } else { format!(": {message}") }
}

impl Error {
    /// Whether the same call may succeed later (`Retry` in the TaskManager's contract).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Shortage { .. })
    }

    /// Whether the error may come from the proxy, or from something behind it that is not a TaskManager.
    pub(crate) fn may_be_by_proxy(&self) -> bool {
        match self {
            Self::Unreachable { url, .. }
            | Self::NotConnected { url, .. }
            | Self::NotATaskManager { url, .. }
            | Self::Unavailable { url, status: 502..=504, .. } => url.contains(THROUGH),
            _ => false,
        }
    }

    /// Whether the TaskManager rejected the call. Any other error may be temporary.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::KeyRefused { .. })
    }

    /// Whether the call may have taken effect despite the error.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotATaskManager { .. } | Self::InvalidAnswer { .. } => true,
            Self::Unavailable { status, .. } => *status != 429,
            _ => false,
        }
    }

    /// Whether the error concerns this report only. Otherwise, all reports have to wait.
    #[must_use]
    pub fn refuses_report(&self) -> bool {
        self.is_refusal() || matches!(self, Self::InvalidAnswer { .. })
    }

    /// Turns [`Self::NotATaskManager`] into an invalid answer to `call`, since another call has just succeeded.
    pub(super) fn into_invalid_answer_to(self, call: &str) -> Self {
        match self {
            Self::NotATaskManager { url, reason } => Self::InvalidAnswer { url, reason, call: call.to_owned() },
            other => other,
        }
    }

    /// Returns the time from `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server says that this worker does not hold the claim: another worker or nobody does, or there is no
    /// such task. For a repeated report, it may mean that the first one arrived.
    #[must_use]
    pub fn says_not_claimed(&self) -> bool {
        match self {
            Self::Refused { status: 403 | 404 | 409, .. } => true,
            Self::Refused { status: 400, message } => message.contains("not in claimed state"),
            _ => false,
        }
    }

    /// Whether the server says that there is no such task type.
    #[must_use]
    pub fn says_unknown_type(&self) -> bool {
        matches!(self, Self::Refused { status: 404, message } if message.contains("type"))
    }

    /// Whether the server says that its database has rolled the call back because of a deadlock.
    pub(super) fn says_deadlock(&self) -> bool {
        matches!(self, Self::Unavailable { status: 500, reason, .. } if reason.contains("SQLSTATE[40001]"))
    }

    /// Whether the server says that a value is too long.
    #[must_use]
    pub fn says_too_long(&self) -> bool {
        match self {
            Self::Refused { status: 413, .. } => true,
            Self::Refused { message, .. } => message.contains("SQLSTATE[22001]"),
            _ => false,
        }
    }
}
