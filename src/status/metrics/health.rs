//! How a worker is, as programs read it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

/// How a worker is. The names are those of `prismq health --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Health {
    /// Its loop turns.
    pub(crate) healthy: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) worker_id: String,
    pub(crate) version: &'static str,
    /// How long it has been running.
    pub(crate) uptime_seconds: u64,
    /// The TaskManager answers.
    pub(crate) api_connectivity: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_error: Option<String>,
    /// How long the last answer took.
    pub(crate) api_latency_ms: Option<u64>,
    /// The TaskManager has taken the key; not known before its first answer.
    pub(crate) api_key_accepted: Option<bool>,
    /// The types it works, each with its number, or none where the TaskManager does not know it any more.
    pub(crate) task_types: BTreeMap<String, Option<u64>>,
    /// The last result could be stored.
    pub(crate) results_writable: bool,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) results_error: Option<String>,
    /// Results that wait to be reported.
    pub(crate) unreported: usize,
    /// How long ago the oldest of them was finished.
    pub(crate) oldest_unreported_seconds: Option<u64>,
    /// Pending reports that the TaskManager refused.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) refused: usize,
    /// The task of the last of them, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_refused: Option<String>,
    /// The types that a program works, which was found when the worker started.
    pub(crate) handlers: BTreeMap<String, &'static str>,
    /// YouTube's API, where types read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) youtube_api: Option<YouTube>,
    /// Memory of the worker's process, where the system tells.
    pub(crate) memory_usage_mb: Option<f64>,
    /// Tasks that run.
    pub(crate) tasks_in_flight: usize,
    /// Attempts that have ended.
    pub(crate) tasks_processed: u64,
    /// Those of them that failed.
    pub(crate) tasks_failed: u64,
    /// Consecutive failed attempts.
    pub(crate) consecutive_errors: u32,
    /// When it last asked for a task.
    pub(crate) seconds_since_poll: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What a worker knows of the YouTube Data API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct YouTube {
    /// A key for it is set.
    pub(crate) key_set: bool,
    /// The units of the day, once they were looked at.
    #[serde(flatten)]
    pub(crate) quota: Option<Quota>,
}

/// The units of a day, for all who share them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quota {
    /// Those of a whole day.
    pub(crate) limit: u64,
    /// Those that are used.
    pub(crate) used: u64,
    /// Those that are left.
    pub(crate) left: u64,
    /// When the next day starts, as RFC 3339.
    pub(crate) resets_at: String,
    /// The same, for whoever wants to know how long that is.
    #[serde(skip)]
    pub(crate) resets: Option<Instant>,
}
