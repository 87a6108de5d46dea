//! What all workers on a results file share of the YouTube Data API.

use std::collections::HashMap;

use serde_json::Value;

use super::quota::Budget;

/// What became of a wish to spend units of the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// They are counted as used.
    Counted,
    /// They would be more than the day has left: none is counted.
    Exhausted,
}

/// Counts the units of the daily quota and keeps what was read lately, for all workers that share it. Errors are one
/// line for a person: the file behind it cannot be used.
pub trait Ledger: Send + Sync {
    /// What the day has left.
    fn budget(&self) -> Result<Budget, String>;

    /// Counts `units` as used, before the call that costs them is made.
    fn spend(&self, units: u64) -> Result<Spent, String>;

    /// Takes back units that were counted for a call which the API did not count.
    fn give_back(&self, units: u64) -> Result<(), String>;

    /// The API says that nothing is left of the day.
    fn exhaust(&self) -> Result<(), String>;

    /// What is known of these videos and not too old, by id: each a `youtube#video` as the API gave it.
    fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String>;

    /// Keeps videos, by id, for those who ask soon.
    fn remember(&self, videos: &[(String, Value)]) -> Result<(), String>;
}
