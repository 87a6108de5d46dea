//! Errors of starting the embedded TaskManager, and of its calls.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::http::StartError;

/// Why the embedded TaskManager could not start. Each is one line that says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use.
    #[error("another program is already listening on {0}: stop it or choose another port")]
    AddressInUse(SocketAddr),
    /// The system does not allow listening on the address.
    #[error("cannot listen on {address}: {}", crate::os_error::message(.source))]
    AddressUnusable {
        /// The address to listen on.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// Without a key, anyone on the network could create tasks.
    #[error("other machines can reach {0}: set an API key, or listen on 127.0.0.1")]
    KeyRequired(SocketAddr),
    /// A short key could be guessed from the network.
    #[error(
        "other machines can reach {0}, and the API key has fewer than 16 characters: make a longer one, for example with `openssl rand -hex 16`, or listen on 127.0.0.1"
    )]
    KeyTooShort(SocketAddr),
    /// The file is not an SQLite database.
    #[error("{} is not a database: name another file for the TaskManager's tasks", .0.display())]
    NotADatabase(PathBuf),
    /// The file is another program's database.
    #[error("{} is another program's database: name another file for the TaskManager's tasks", .0.display())]
    ForeignDatabase(PathBuf),
    /// The file has the layout of a newer prismq.
    #[error(
        "{} was written by a newer prismq (layout {found}, this one knows {known}): update prismq or name another file",
        .path.display()
    )]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// The layout of the file.
        found: u32,
        /// The newest layout that this version supports.
        known: u32,
    },
    /// It cannot be used at all: it is a folder, it or its folder may not be written, say.
    #[error("cannot use {} as the TaskManager's database: {reason}", .path.display())]
    DatabaseUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Reading or writing failed: the disk is full, say, or another program holds it.
    #[error("the TaskManager's database {} cannot be read or written: {reason}", .path.display())]
    DatabaseFailed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file was moved or deleted, so further writes would be lost.
    #[error("the TaskManager's database {} {reason} while it was in use", .path.display())]
    DatabaseGone {
        /// The file, or one of those that SQLite keeps next to it.
        path: PathBuf,
        /// What happened to it.
        reason: &'static str,
    },
    /// The system cannot create the thread or the runtime.
    #[error("cannot start the TaskManager's thread: {}", crate::os_error::message(.0))]
    Thread(#[source] io::Error),
}

impl From<StartError> for ServerError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::AddressInUse(address) => Self::AddressInUse(address),
            StartError::AddressUnusable { address, source } => Self::AddressUnusable { address, source },
            StartError::Thread(error) => Self::Thread(error),
        }
    }
}

/// Why a call was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    TypeNotFound,
    /// One of several types of a claim does not exist.
    UnknownType(i64),
    TypeNotActive,
    /// The schema is not a valid JSON Schema.
    BadSchema(String),
    /// The params violate the schema.
    BadParams(String),
    /// The check of the params did not finish in time.
    Busy(String),
    /// A part of the request exceeds a limit.
    BeyondLimit(String),
    /// Too many large answers are being sent.
    NoRoom,
    /// The task is too large for the serving thread and must be claimed in another one.
    Large,
    NoTask,
    TaskNotFound,
    NotClaimed,
    ClaimedByAnother,
    /// The report is about an earlier attempt.
    AttemptOver,
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
