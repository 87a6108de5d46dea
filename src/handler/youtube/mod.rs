//! Handlers that read YouTube through its Data API, version 3.

mod ledger;

pub use ledger::{Budget, Ledger, Spent};
