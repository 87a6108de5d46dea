//! Health of a worker, as JSON.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

/// Health of a worker. The names are those of `prismq health --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkerHealth {
    /// Whether its loop is alive.
    pub(crate) healthy: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) worker_id: String,
    pub(crate) version: &'static str,
    pub(crate) uptime_seconds: u64,
    /// Whether the TaskManager answers.
    pub(crate) api_connectivity: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_error: Option<String>,
    /// Duration of the last call.
    pub(crate) api_latency_ms: Option<u64>,
    /// Whether the TaskManager accepted the key; unknown before its first answer.
    pub(crate) api_key_accepted: Option<bool>,
    /// Its types with their ids; null if a type is no longer registered.
    pub(crate) task_types: BTreeMap<String, Option<u64>>,
    /// Whether the last result could be stored.
    pub(crate) results_writable: bool,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) results_error: Option<String>,
    /// Number of pending reports.
    pub(crate) unreported: usize,
    /// Age of the oldest of them.
    pub(crate) oldest_unreported_seconds: Option<u64>,
    /// Pending reports that the TaskManager refused.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) refused: usize,
    /// The task of the last refused one, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_refused: Option<String>,
    /// The types whose handlers are programs, which were found at the start.
    pub(crate) handlers: BTreeMap<String, &'static str>,
    /// Present if a type uses the YouTube Data API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) youtube_api: Option<YouTubeStatus>,
    /// Resident memory of the worker's process, if known.
    pub(crate) memory_usage_mb: Option<f64>,
    pub(crate) tasks_in_flight: usize,
    /// Finished attempts.
    pub(crate) tasks_processed: u64,
    /// Finished attempts that failed.
    pub(crate) tasks_failed: u64,
    pub(crate) consecutive_errors: u32,
    /// Time since the last poll.
    pub(crate) seconds_since_poll: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What a worker knows about the YouTube Data API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct YouTubeStatus {
    pub(crate) key_set: bool,
    /// The quota, after the first call.
    #[serde(flatten)]
    pub(crate) quota: Option<Quota>,
}

/// A day's quota, shared by all processes with the same key, in units.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) left: u64,
    /// When the next day starts, as RFC 3339.
    pub(crate) resets_at: String,
    /// The same as an instant.
    #[serde(skip)]
    pub(crate) resets: Option<Instant>,
}
