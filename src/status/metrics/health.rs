//! How a worker is, as programs read it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

/// How a worker is. The names are those of `prismq health --json`.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Its loop turns.
    pub healthy: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who it is.
    pub worker_id: String,
    /// The version of prismq.
    pub version: &'static str,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// The TaskManager answers.
    pub api_connectivity: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_error: Option<String>,
    /// How long the last answer took.
    pub api_latency_ms: Option<u64>,
    /// The TaskManager has taken the key; not known before its first answer.
    pub api_key_accepted: Option<bool>,
    /// The types it works, each with its number, or none where the TaskManager does not know it any more.
    pub task_types: BTreeMap<String, Option<u64>>,
    /// The last result could be stored.
    pub results_writable: bool,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results_error: Option<String>,
    /// Results that wait to be reported.
    pub unreported: usize,
    /// How long ago the oldest of them was finished.
    pub oldest_unreported_seconds: Option<u64>,
    /// Those of them that the TaskManager refused when they were last sent.
    #[serde(skip_serializing_if = "is_none")]
    pub refused: usize,
    /// The task of the last of them, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<String>,
    /// The types that a program works, which was found when the worker started.
    pub handlers: BTreeMap<String, &'static str>,
    /// YouTube's API, where types read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub youtube_api: Option<YouTube>,
    /// Memory of the worker's process, where the system tells.
    pub memory_usage_mb: Option<f64>,
    /// Tasks that run.
    pub tasks_in_flight: usize,
    /// Attempts that have ended.
    pub tasks_processed: u64,
    /// Those of them that failed.
    pub tasks_failed: u64,
    /// Attempts in a row that failed.
    pub consecutive_errors: u32,
    /// When it last asked for a task.
    pub seconds_since_poll: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What a worker knows of the YouTube Data API.
#[derive(Debug, Clone, Serialize)]
pub struct YouTube {
    /// A key for it is set.
    pub key_set: bool,
    /// The units of the day, once they were looked at.
    #[serde(flatten)]
    pub quota: Option<Quota>,
}

/// The units of a day, for all who share them.
#[derive(Debug, Clone, Serialize)]
pub struct Quota {
    /// Those of a whole day.
    pub limit: u64,
    /// Those that are used.
    pub used: u64,
    /// Those that are left.
    pub left: u64,
    /// When the next day starts, as RFC 3339.
    pub resets_at: String,
    /// The same, for whoever wants to know how long that is.
    #[serde(skip)]
    pub resets: Option<Instant>,
}
