//! SQLite, as the results file and the embedded TaskManager's database use it: opening, migrations, waiting for other
//! processes, group commit, syncs of the write-ahead log. Nothing else opens a connection to SQLite.

mod anchor;
mod busy;
mod error;
pub(crate) mod free_space;
mod group_commit;
mod open;
mod read_only;
mod shared_connection;
mod wal;

pub(crate) use anchor::{Anchor, Anchors, is_same_file};
pub(crate) use busy::BusyPolicy;
pub(crate) use error::{DatabaseError, OpenError, message};
pub(crate) use group_commit::GroupCommit;
pub(crate) use open::{Layout, OpenFile, beside, check_creatable, open_as_guest};
pub(crate) use read_only::{Frozen, ReadOnly};
pub(crate) use shared_connection::SharedConnection;
pub(crate) use wal::WriteAheadLog;
