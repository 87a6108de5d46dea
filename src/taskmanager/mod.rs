//! The client of the TaskManager: its calls, what they answer, and what to do where they fail.
//!
//! Servers differ from their documents and from each other; `wire` alone knows how. Callers see ids as numbers, params
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
pub(crate) use deliver::in_words;
pub use deliver::{Delivery, Report};
pub use error::Error;
pub use http::{Connection, Wait};
pub(crate) use http::{Exchange, Meter, Waits};
pub use listing::TaskFilter;
pub(crate) use listing::TaskPages;
pub(crate) use retry::Backoff;
pub use retry::Retries;
pub use wire::TaskView;
pub(crate) use wire::{Created, Registered, TaskType};
