//! Client of the TaskManager: its calls, their answers, retries.
//!
//! Servers differ from their documentation and from each other; only `wire` knows how. Callers see ids as numbers, params
//! as they were sent, and an empty queue as `None`.

mod claim;
mod client;
mod deliver;
mod error;
mod http;
mod listing;
mod retry;
pub(crate) mod wire;

pub(crate) use client::Claimed;
pub use client::{Client, Order};
pub(crate) use deliver::join_names;
pub use deliver::{Delivery, ResultReport};
pub use error::Error;
pub use http::{Connection, LongPollRequest};
pub(crate) use http::{Exchange, LongPolling, Meter};
pub use listing::TaskFilter;
pub(crate) use listing::TaskPages;
pub(crate) use retry::Backoff;
pub use retry::Retries;
pub use wire::TaskView;
pub(crate) use wire::{Created, Registered, TaskType};
