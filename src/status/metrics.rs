//! Metrics and health of a worker, updated by its events.
//!
//! All calls are short and wait for nothing but each other.

mod activity;
mod families;
mod health;
mod history;
#[cfg(target_os = "linux")]
mod process;
mod view;

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use activity::{Activity, Heartbeat, InFlightTask, TaskManagerState};
use families::Families;
pub(crate) use health::{Quota, WorkerHealth, YouTubeStatus};
use history::History;
pub(crate) use view::{FinishedAttempt, RunningTask, TypeView, View};

/// Handlers choose the names of error types, and each name becomes a series. Further ones are counted as `other`.
const MAX_ERROR_TYPES: usize = 50;

/// Why a metric could not be created or encoded.
pub(crate) type MetricsError = prometheus::Error;

/// The metrics of a worker.
pub(crate) struct Metrics {
    families: Families,
    #[cfg(target_os = "linux")]
    process: process::ProcessMetrics,
    activity: Mutex<Activity>,
    history: Mutex<History>,
    error_types: Mutex<BTreeSet<String>>,
    info: WorkerInfo,
    started: Instant,
}

/// What is known about a worker when it starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerInfo {
    pub(crate) worker_id: String,
    /// The types whose handlers are programs.
    pub(crate) handlers: Vec<String>,
    /// Whether a YouTube API key is set; `None` if no type needs one.
    pub(crate) youtube_key: Option<bool>,
}
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptOutcome<'a> {
    pub(crate) id: u64,
    pub(crate) task_type: &'a str,
    /// The duration.
    pub(crate) seconds: f64,
    /// The type and the text of the error, if it failed.
    pub(crate) failure: Option<(&'a str, &'a str)>,
}

impl Metrics {
    /// Creates the metrics of a worker that starts now.
    pub(crate) fn new(info: WorkerInfo) -> Result<Self, MetricsError> {
        let started = Instant::now();
        let families = Families::new()?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            process: process::ProcessMetrics::register(&families.registry)?,
            families,
            activity: Mutex::new(Activity::new()),
            history: Mutex::new(History::new(started)),
            error_types: Mutex::default(),
            info,
            started,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock()
    }

    /// The worker is ready. `types` are its types with their ids.
    pub(crate) fn ready(&self, types: &[(&str, u64)]) {
        let mut activity = self.lock();
        activity.taskmanager = TaskManagerState::Reachable;
        for (name, id) in types {
            self.families.show_type(name);
            activity.types.insert((*name).to_owned(), Some(*id));
        }
    }

    /// A type is no longer registered.
    pub(crate) fn type_gone(&self, task_type: &str) {
        self.lock().types.insert(task_type.to_owned(), None);
    }

    /// A type is registered again.
    pub(crate) fn type_found(&self, task_type: &str, id: u64) {
        self.lock().types.insert(task_type.to_owned(), Some(id));
    }

    /// The worker's loop is alive, and will confirm that within `timeout`.
    pub(crate) fn heartbeat(&self, timeout: Duration) {
        // A time that is out of range never comes.
        self.lock().heartbeat = Instant::now().checked_add(timeout).map(Heartbeat::Alive);
    }

    /// The worker reports that its loop is stuck.
    pub(crate) fn loop_stuck(&self, reason: &str) {
        self.lock().heartbeat = Some(Heartbeat::Stuck(reason.to_owned()));
    }

    /// The results file cannot be written, or can be written again.
    pub(crate) fn store_error(&self, error: Option<&str>) {
        self.lock().store_error = error.map(str::to_owned);
    }

    /// The results file, or another required file, is gone: the worker has to exit.
    pub(crate) fn files_gone(&self, error: &str) {
        let mut activity = self.lock();
        activity.files_gone = Some(error.to_owned());
        activity.store_error = Some(error.to_owned());
    }

    /// The worker has polled for tasks.
    pub(crate) fn polled(&self) {
        self.lock().polled = Some(Instant::now());
    }

    /// A task was claimed and starts running.
    pub(crate) fn claimed(&self, id: u64, task_type: &str) {
        self.families.claimed.with_label_values(&[task_type]).inc();
        self.in_flight(id, task_type);
    }

    /// A task is in flight, but may not be running yet.
    pub(crate) fn in_flight(&self, id: u64, task_type: &str) {
        let task = InFlightTask { task_type: task_type.to_owned(), since: Instant::now(), progress: None };
        if self.lock().in_flight.insert(id, task).is_none() {
            self.families.in_flight.with_label_values(&[task_type]).inc();
        }
    }

    /// A running task was claimed again.
    pub(crate) fn claimed_again(&self, task_type: &str) {
        self.families.claimed.with_label_values(&[task_type]).inc();
    }

    /// An attempt has finished and its result is stored.
    pub(crate) fn finished(&self, attempt: &AttemptOutcome<'_>) {
        let AttemptOutcome { id, task_type, seconds, failure } = *attempt;
        self.remove_in_flight(id);
        self.families.duration.with_label_values(&[task_type]).observe(seconds);
        self.history.lock().add(attempt, Instant::now());
        match failure {
            None => self.families.completed.with_label_values(&[task_type]).inc(),
            Some((error_type, _)) => {
                self.families.failed.with_label_values(&[task_type, self.error_type(error_type)]).inc();
            }
        }
        let mut activity = self.lock();
        activity.store_error = None;
        activity.processed += 1;
        activity.failed += u64::from(failure.is_some());
        activity.consecutive_errors = if failure.is_some() { activity.consecutive_errors + 1 } else { 0 };
    }

    /// A task was failed without running it, which says nothing about its handler. Its result is stored.
    pub(crate) fn not_run(&self, id: u64) {
        self.remove_in_flight(id);
        self.lock().store_error = None;
    }

    /// The result of an attempt, or the outcome of its report, could not be stored.
    pub(crate) fn not_stored(&self, id: u64, error: &str) {
        self.remove_in_flight(id);
        self.lock().store_error = Some(error.to_owned());
    }

    /// A task is no longer in flight.
    pub(crate) fn remove_in_flight(&self, id: u64) {
        let ended = self.lock().in_flight.remove(&id);
        if let Some(ended) = ended {
            self.families.in_flight.with_label_values(&[&ended.task_type]).dec();
        }
    }

    /// The claim of a result was lost.
    pub(crate) fn claim_lost(&self, task_type: &str) {
        self.families.lost.with_label_values(&[task_type]).inc();
    }

    /// Updates the number of pending reports, how many of them were refused, and the age of the oldest.
    pub(crate) fn unreported(&self, count: usize, refused: usize, oldest: Option<Duration>) {
        let mut activity = self.lock();
        activity.unreported = count;
        activity.refused = refused;
        activity.oldest_unreported = oldest.and_then(|age| Instant::now().checked_sub(age));
    }

    /// The TaskManager refused the result of a task.
    pub(crate) fn refused(&self, id: u64, error: &str) {
        self.lock().last_refused = Some(format!("task {id}: {error}"));
    }

    /// A type's circuit breaker has opened for `pause`, or closed.
    pub(crate) fn circuit_open(&self, task_type: &str, pause: Option<Duration>) {
        self.families.circuit_open.with_label_values(&[task_type]).set(pause.is_some().into());
        set(&mut self.lock().circuit_open, task_type, pause.and_then(|pause| Instant::now().checked_add(pause)));
    }

    /// A type is snoozed for `time`, or no longer.
    pub(crate) fn snoozed(&self, task_type: &str, time: Option<Duration>) {
        self.families.snoozed.with_label_values(&[task_type]).set(time.is_some().into());
        set(&mut self.lock().snoozed, task_type, time.and_then(|time| Instant::now().checked_add(time)));
    }

    /// The YouTube quota has changed.
    pub(crate) fn quota(&self, quota: Quota) {
        self.lock().quota = Some(quota);
    }

    /// A handler has reported progress.
    pub(crate) fn progress(&self, id: u64, percent: u8, message: Option<&str>) {
        if let Some(task) = self.lock().in_flight.get_mut(&id) {
            task.progress = Some((percent, message.unwrap_or_default().to_owned()));
        }
    }

    pub(crate) fn taskmanager_reachable(&self) {
        self.lock().taskmanager = TaskManagerState::Reachable;
    }

    pub(crate) fn taskmanager_unreachable(&self, error: &str) {
        self.lock().taskmanager = TaskManagerState::Unreachable(error.to_owned());
    }

    /// A request to the TaskManager was answered with `status`, or not at all. Long polls do not count for the latency.
    pub(crate) fn requested(&self, call: &str, status: Option<u16>, took: Duration, snoozed: bool) {
        let text = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.families.requests.with_label_values(&[call, &text]).inc();
        self.families.request_duration.with_label_values(&[call]).observe(took.as_secs_f64());
        if status.is_some() && !snoozed {
            self.lock().last_call = Some(took);
        }
    }

    /// Returns the name under which an error type is counted.
    fn error_type<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.error_types.lock();
        if known.contains(name) {
            return name;
        }
        if known.len() >= MAX_ERROR_TYPES || name.len() > 64 {
            return "other";
        }
        known.insert(name.to_owned());
        name
    }

    /// Returns why the worker is not ready, if so.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match &self.lock().taskmanager {
            TaskManagerState::None => Some("the TaskManager has not answered yet".to_owned()),
            TaskManagerState::Unreachable(error) => Some(error.clone()),
            TaskManagerState::Reachable => None,
        }
    }

    /// Returns the worker's health.
    pub(crate) fn health(&self) -> WorkerHealth {
        #[allow(clippy::cast_precision_loss)] // exact up to 8 PiB
        let memory = self.update_process().map(|bytes| bytes as f64);
        let now = Instant::now();
        let since = |time: Instant| now.saturating_duration_since(time).as_secs();
        let activity = self.lock();
        let reason = activity.stuck_reason(now);
        let api_error =
            if let TaskManagerState::Unreachable(error) = &activity.taskmanager { Some(error.clone()) } else { None };
        WorkerHealth {
            healthy: reason.is_none(),
            reason,
            worker_id: self.info.worker_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: since(self.started),
            api_connectivity: matches!(activity.taskmanager, TaskManagerState::Reachable),
            api_error,
            api_latency_ms: activity.last_call.map(|took| took.as_millis().try_into().unwrap_or(u64::MAX)),
            // A refused key ends the worker.
            api_key_accepted: (!activity.types.is_empty()).then_some(true),
            task_types: activity.types.clone(),
            results_writable: activity.store_error.is_none(),
            results_error: activity.store_error.clone(),
            unreported: activity.unreported,
            oldest_unreported_seconds: activity.oldest_unreported.map(since),
            refused: activity.refused,
            last_refused: activity.last_refused.clone().filter(|_| activity.refused > 0),
            handlers: self.info.handlers.iter().map(|name| (name.clone(), "found")).collect(),
            youtube_api: self.info.youtube_key.map(|key_set| YouTubeStatus { key_set, quota: activity.quota.clone() }),
            memory_usage_mb: memory.map(|bytes| (bytes / 104_857.6).round() / 10.0),
            tasks_in_flight: activity.in_flight.len(),
            tasks_processed: activity.processed,
            tasks_failed: activity.failed,
            consecutive_errors: activity.consecutive_errors,
            seconds_since_poll: activity.polled.map(since),
        }
    }

    /// Encodes all metrics in the text format of Prometheus.
    pub(crate) fn text(&self) -> Result<Vec<u8>, MetricsError> {
        let now = Instant::now();
        {
            let activity = self.lock();
            let oldest = activity.oldest_unreported.map_or(0, |time| now.saturating_duration_since(time).as_secs());
            self.families.oldest_unreported.set(oldest.try_into().unwrap_or(i64::MAX));
            self.families.unreported.set(activity.unreported.try_into().unwrap_or(i64::MAX));
            self.families.refused.set(activity.refused.try_into().unwrap_or(i64::MAX));
            self.families.consecutive_errors.set(activity.consecutive_errors.into());
            self.families.healthy.set(activity.stuck_reason(now).is_none().into());
            self.families.taskmanager_up.set(matches!(activity.taskmanager, TaskManagerState::Reachable).into());
        }
        self.update_process();
        self.families.text()
    }

    /// Updates the metrics of the process. Returns its resident memory in bytes, if known.
    fn update_process(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return self.process.update();
        #[cfg(not(target_os = "linux"))]
        None
    }
}

fn set<T>(map: &mut BTreeMap<String, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_cannot_make_series_without_end() {
        let metrics = Metrics::new(WorkerInfo::default()).unwrap();
        for number in 0..200 {
            let error_type = format!("error {number}");
            let attempt =
                AttemptOutcome { id: number, task_type: "a", seconds: 1.0, failure: Some((&error_type, "x")) };
            metrics.finished(&attempt);
        }
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert_eq!(text.matches("prismq_tasks_failed_total{").count(), MAX_ERROR_TYPES + 1, "{text}");
        assert!(text.contains("prismq_tasks_failed_total{error_type=\"other\",type=\"a\"} 150"), "{text}");
    }
}
