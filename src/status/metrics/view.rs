//! Snapshot of a worker for its web page.

use std::time::{Duration, Instant};

use super::activity::Activity;
use super::history::{History, RecentAttempt, TypeHistory};
use super::{Metrics, WorkerHealth};

/// Snapshot of a worker's activity and history.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) health: WorkerHealth,
    /// Tasks in flight, by id.
    pub(crate) running: Vec<RunningTask>,
    /// Completed and failed attempts in each minute of the last hour, the current minute last.
    pub(crate) minutes: Vec<(u64, u64)>,
    pub(crate) types: Vec<TypeView>,
    /// The last finished attempts, newest first.
    pub(crate) ended: Vec<FinishedAttempt>,
    /// The last failed attempts, newest first.
    pub(crate) failed: Vec<FinishedAttempt>,
}
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) id: u64,
    pub(crate) task_type: String,
    pub(crate) age: Duration,
    /// Percentage and message.
    pub(crate) progress: Option<(u8, String)>,
}
#[derive(Debug)]
pub(crate) struct TypeView {
    pub(crate) name: String,
    /// Whether it is registered.
    pub(crate) known: bool,
    /// Its tasks in flight.
    pub(crate) running: usize,
    /// Attempts that succeeded since the worker started.
    pub(crate) completed: u64,
    /// Attempts that failed since the worker started.
    pub(crate) failed: u64,
    /// The median and the 95th percentile of its recent durations, in seconds.
    pub(crate) seconds: Option<(f64, f64)>,
    /// How much longer its circuit breaker stays open.
    pub(crate) circuit_open: Option<Duration>,
    /// How much longer it is snoozed.
    pub(crate) snoozed: Option<Duration>,
}
#[derive(Debug)]
pub(crate) struct FinishedAttempt {
    pub(crate) id: u64,
    pub(crate) task_type: String,
    pub(crate) ago: Duration,
    /// The duration.
    pub(crate) seconds: f64,
    /// The type of the error, and its text in one line, most informative part first.
    pub(crate) failure: Option<(String, String)>,
}

impl Metrics {
    /// Takes a snapshot.
    pub(crate) fn view(&self) -> View {
        let health = self.health();
        let now = Instant::now();
        let since = |time: Instant| now.saturating_duration_since(time);
        let history = self.history.lock();
        let ended = |recent: &RecentAttempt| FinishedAttempt {
            id: recent.id,
            task_type: recent.task_type.clone(),
            ago: since(recent.ended),
            seconds: recent.seconds,
            failure: recent.failure.clone(),
        };
        let activity = self.lock();
        let running = activity.in_flight.iter().map(|(id, it)| RunningTask {
            id: *id,
            task_type: it.task_type.clone(),
            age: since(it.since),
            progress: it.progress.clone(),
        });
        View {
            health,
            running: running.collect(),
            minutes: history.minutes(now),
            types: activity.types.keys().map(|name| type_view(name, &activity, &history, now)).collect(),
            ended: history.recent.iter().map(ended).collect(),
            failed: history.failures.iter().map(ended).collect(),
        }
    }
}

fn type_view(name: &str, activity: &Activity, history: &History, now: Instant) -> TypeView {
    let done = history.type_history(name);
    let left = |until: &Instant| until.saturating_duration_since(now);
    TypeView {
        name: name.to_owned(),
        known: activity.types.get(name).is_some_and(Option::is_some),
        running: activity.in_flight.values().filter(|it| it.task_type == name).count(),
        completed: done.map_or(0, |it| it.completed),
        failed: done.map_or(0, |it| it.failed),
        seconds: done.and_then(TypeHistory::percentiles),
        circuit_open: activity.circuit_open.get(name).map(left),
        snoozed: activity.snoozed.get(name).map(left),
    }
}
