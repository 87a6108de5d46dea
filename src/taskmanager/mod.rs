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
pub mod wire;

pub use client::{Claimed, Client, Order};
pub use deliver::{Delivery, Report, in_words};
pub use error::Error;
pub use http::{Connection, Exchange, Meter, Wait, Waits};
pub use listing::{TaskFilter, TaskPages};
pub use retry::{Backoff, Retries};
pub use wire::{Created, Health, Registered, TaskType, TaskView};
