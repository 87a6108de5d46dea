//! Client of the TaskManager: its calls, their answers, retries.
//!
//! Servers differ from their documentation and from each other; only `wire` knows how. Callers see ids as numbers, params
//! as they were sent, and an empty queue as `None`.

mod batch;
mod client;
mod creation;
mod error;
mod exactly_once;
mod features;
mod http;
mod listing;
mod long_poll;
mod retry;
pub(crate) mod wire;

pub(crate) use batch::{BatchClaim, MOST_CLAIMS, MOST_RENEWALS, MOST_REPORTS, TypeLimit};
pub(crate) use client::Claimed;
pub use client::{Client, Order};
pub use error::Error;
pub(crate) use exactly_once::join_names;
pub use exactly_once::{Delivery, ResultReport};
pub(crate) use features::Features;
pub use http::Connection;
pub(crate) use http::{Exchange, Meter};
pub use listing::TaskFilter;
pub(crate) use listing::TaskPages;
pub use long_poll::LongPollRequest;
pub(crate) use long_poll::{LongPollPolicy, LongPollSupport, withdraw_claims};
pub(crate) use retry::Backoff;
pub use retry::Retries;
pub use wire::TaskView;
pub(crate) use wire::{Created, Registered, TaskTypeView};
