//! What can go wrong between prismq and the TaskManager, in the terms that callers branch on.

use std::time::Duration;

use super::http::THROUGH;

/// Why a call failed. The text is one line for a person; it never holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No whole answer came: no connection, a time-out, an answer cut short.
    #[error("cannot reach the TaskManager at {url}: {reason}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// What happened.
        reason: String,
    },
    /// This process has no open files, say, left for a connection: nothing was asked.
    #[error("cannot open a connection to the TaskManager at {url}, out of open files or memory: {reason}")]
    Shortage {
        /// The base URL.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// TLS, or a proxy on the way, refuses the connection, and would do so again.
    #[error("cannot connect to the TaskManager at {url}: {reason}")]
    NotConnected {
        /// The base URL.
        url: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Something answered that is no TaskManager.
    #[error("no TaskManager at {url}: {reason}")]
    NotATaskManager {
        /// The base URL.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// It answered that it cannot do the call now, and may later.
    #[error("the TaskManager at {url} is unavailable: {reason} ({status})")]
    Unavailable {
        /// The base URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its own words, or what they mean.
        reason: String,
        /// How long it asked callers to wait.
        retry_after: Option<Duration>,
    },
    /// It does not accept the key, or not this address.
    #[error("the TaskManager at {url} {}{}", if *.with_key { "refused the key" } else { "refused a request without a key" }, reason_of(message))]
    KeyRefused {
        /// The base URL.
        url: String,
        /// Its own words.
        message: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// It understood the call and refuses it; the same call would be refused again.
    #[error("the TaskManager refused the request: {message} ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own words, with its details.
        message: String,
    },
    /// It answered what does not fit the call, while it answers others as it should.
    #[error("the TaskManager at {url} gave an invalid answer to {call}: {reason}")]
    BadAnswer {
        /// The base URL.
        url: String,
        /// The call, as method and path.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its answers do not make one list in which each task is there once.
    #[error("the TaskManager at {url} cannot list these tasks reliably: {reason}")]
    Inexact {
        /// The base URL.
        url: String,
        /// What is wrong with its lists.
        reason: String,
    },
    /// The program was asked to end while it waited to try again.
    #[error("interrupted while waiting for the TaskManager")]
    Interrupted,
}

/// What a refusal of the key says besides that. The usual words only repeat it, for programmers.
fn reason_of(message: &str) -> String {
    if message.starts_with("Invalid or missing API key") { String::new() } else { format!(": {message}") }
}

impl Error {
    /// Whether the same call may succeed later (`Retry` in the TaskManager's contract).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Shortage { .. })
    }

    /// Whether nothing, or nothing of a TaskManager, came back through a proxy.
    pub(crate) fn may_be_by_proxy(&self) -> bool {
        match self {
            Self::Unreachable { url, .. }
            | Self::NotConnected { url, .. }
            | Self::NotATaskManager { url, .. }
            | Self::Unavailable { url, status: 502..=504, .. } => url.contains(THROUGH),
            _ => false,
        }
    }

    /// Whether the TaskManager has decided against the call. Anything else is a fault on the way, which may pass.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::KeyRefused { .. })
    }

    /// Whether the TaskManager may have done what it was asked although this is what came of it.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotATaskManager { .. } | Self::BadAnswer { .. } => true,
            Self::Unavailable { status, .. } => *status != 429,
            _ => false,
        }
    }

    /// Whether the answer to a report is about this report. Where it is not, all of them have to wait.
    #[must_use]
    pub fn refuses_report(&self) -> bool {
        self.is_refusal() || matches!(self, Self::BadAnswer { .. })
    }

    /// The same as the answer to `call`, while another call was just answered as it should be.
    pub(super) fn narrowed_to(self, call: &str) -> Self {
        match self {
            Self::NotATaskManager { url, reason } => Self::BadAnswer { url, reason, call: call.to_owned() },
            other => other,
        }
    }

    /// How long the server asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server says that this worker does not hold the task: another worker does, nobody does, or there is
    /// no such task. After a report was sent before, this may only mean that the first one arrived.
    #[must_use]
    pub fn says_not_claimed(&self) -> bool {
        match self {
            Self::Refused { status: 403 | 404 | 409, .. } => true,
            Self::Refused { status: 400, message } => message.contains("not in claimed state"),
            _ => false,
        }
    }

    /// Whether the server says that it does not know the task type.
    #[must_use]
    pub fn says_unknown_type(&self) -> bool {
        matches!(self, Self::Refused { status: 404, message } if message.contains("type"))
    }

    /// Whether the server has no room for a value of this length.
    #[must_use]
    pub fn says_too_long(&self) -> bool {
        match self {
            Self::Refused { status: 413, .. } => true,
            Self::Refused { message, .. } => message.contains("SQLSTATE[22001]"),
            _ => false,
        }
    }
}
