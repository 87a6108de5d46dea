//! Why the embedded TaskManager could not start, and why it refuses a call.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::http::StartError;

/// Why the embedded TaskManager could not start. Each is one line that says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another program listens there.
    #[error("another program is already listening on {0}: stop it or choose another port")]
    AddressInUse(SocketAddr),
    /// The system does not let it listen there.
    #[error("cannot listen on {address}: {}", crate::os_error::words(.source))]
    AddressUnusable {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Without a key, it would take programs' params from anybody on the network.
    #[error("other machines can reach {0}: set an API key, or listen on 127.0.0.1")]
    KeyRequired(SocketAddr),
    /// Such a key is found by trying, from anywhere on the network.
    #[error(
        "other machines can reach {0}, and the API key has fewer than 16 characters: make a longer one, with `openssl rand -hex 16` say, or listen on 127.0.0.1"
    )]
    KeyTooShort(SocketAddr),
    /// The file is no SQLite database.
    #[error("{} is not a database: name another file for the TaskManager's tasks", .0.display())]
    NotADatabase(PathBuf),
    /// The file is a database, with something else in it.
    #[error("{} is another program's database: name another file for the TaskManager's tasks", .0.display())]
    ForeignDatabase(PathBuf),
    /// A newer prismq has changed its layout.
    #[error(
        "{} was written by a newer prismq (layout {found}, this one knows {known}): update prismq or name another file",
        .path.display()
    )]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// The layout it has.
        found: u32,
        /// The newest layout this program knows.
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
    /// The file is not where it was any more, so what would be written there is lost.
    #[error("the TaskManager's database {} {reason} while it was in use", .path.display())]
    DatabaseGone {
        /// The file, or one of those beside it.
        path: PathBuf,
        /// What became of it.
        reason: &'static str,
    },
    /// The system gives it no thread or no event queue.
    #[error("cannot start the TaskManager's thread: {}", crate::os_error::words(.0))]
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
    /// The task is larger than a claim may take here: it is to be claimed beside the thread that serves.
    Large,
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
