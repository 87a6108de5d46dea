//! What a worker does, counted as it happens and read at any time: for Prometheus, and for whoever asks how it is.
//!
//! Every call is short, and none waits for anything but others of them.

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

use activity::{Activity, Contact, InFlight, Loop};
use families::Families;
pub(crate) use health::{Health, Quota, YouTube};
use history::History;
pub(crate) use view::{Ended, RunningTask, TypeView, View};

/// Handlers name error types as they like, and each name is a series that stays: further ones are counted as `other`.
const MOST_ERROR_TYPES: usize = 50;

/// Why a metric could not be made or written.
pub(crate) type MetricsError = prometheus::Error;

/// The figures of one worker.
pub(crate) struct Metrics {
    families: Families,
    #[cfg(target_os = "linux")]
    process: process::ProcessMetrics,
    activity: Mutex<Activity>,
    history: Mutex<History>,
    error_types: Mutex<BTreeSet<String>>,
    of: Facts,
    started: Instant,
}

/// What is known of a worker from the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) worker_id: String,
    /// The types that it works by programs.
    pub(crate) handlers: Vec<String>,
    /// Whether a key for YouTube is set, where types read it.
    pub(crate) youtube_key: Option<bool>,
}
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) id: u64,
    pub(crate) task_type: &'a str,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// The type of the error and its text, where it failed.
    pub(crate) failure: Option<(&'a str, &'a str)>,
}

impl Metrics {
    /// The figures of a worker that starts now.
    pub(crate) fn new(of: Facts) -> Result<Self, MetricsError> {
        let started = Instant::now();
        let families = Families::new()?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            process: process::ProcessMetrics::register(&families.registry)?,
            families,
            activity: Mutex::new(Activity::new()),
            history: Mutex::new(History::new(started)),
            error_types: Mutex::default(),
            of,
            started,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock()
    }

    /// The worker is ready to work these types, which the TaskManager knows by these numbers.
    pub(crate) fn ready(&self, types: &[(&str, u64)]) {
        let mut activity = self.lock();
        activity.contact = Contact::Answers;
        for (name, id) in types {
            self.families.show_type(name);
            activity.types.insert((*name).to_owned(), Some(*id));
        }
    }

    /// The TaskManager does not know a type any more.
    pub(crate) fn type_gone(&self, task_type: &str) {
        self.lock().types.insert(task_type.to_owned(), None);
    }

    /// The TaskManager knows a type again, by this number.
    pub(crate) fn type_found(&self, task_type: &str, id: u64) {
        self.lock().types.insert(task_type.to_owned(), Some(id));
    }

    /// The worker's loop turns, which it says again within some time.
    pub(crate) fn turns(&self, again: Duration) {
        // A time beyond what can be told of never comes.
        self.lock().its_loop = Instant::now().checked_add(again).map(Loop::Turns);
    }

    /// The worker says that its loop does not turn, and why.
    pub(crate) fn hangs(&self, reason: &str) {
        self.lock().its_loop = Some(Loop::Hangs(reason.to_owned()));
    }

    /// Why the results file cannot be written, or that it can.
    pub(crate) fn store_error(&self, error: Option<&str>) {
        self.lock().store_error = error.map(str::to_owned);
    }

    /// The results file, or another that it takes, is gone: the worker can only end.
    pub(crate) fn files_gone(&self, error: &str) {
        let mut activity = self.lock();
        activity.files_gone = Some(error.to_owned());
        activity.store_error = Some(error.to_owned());
    }

    /// The loop has asked for a task.
    pub(crate) fn polled(&self) {
        self.lock().polled = Some(Instant::now());
    }

    /// A task runs from now on.
    pub(crate) fn claimed(&self, id: u64, task_type: &str) {
        self.families.claimed.with_label_values(&[task_type]).inc();
        self.in_flight(id, task_type);
    }

    /// A task is claimed, and may not run yet.
    pub(crate) fn in_flight(&self, id: u64, task_type: &str) {
        let task = InFlight { task_type: task_type.to_owned(), since: Instant::now(), progress: None };
        if self.lock().in_flight.insert(id, task).is_none() {
            self.families.in_flight.with_label_values(&[task_type]).inc();
        }
    }

    /// A task that runs was claimed once more.
    pub(crate) fn claimed_again(&self, task_type: &str) {
        self.families.claimed.with_label_values(&[task_type]).inc();
    }

    /// An attempt has ended, and its result is stored.
    pub(crate) fn finished(&self, attempt: &Attempt<'_>) {
        let Attempt { id, task_type, seconds, failure } = *attempt;
        self.leave(id);
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

    /// An attempt was not run, and its result is stored: that is no news of its handler.
    pub(crate) fn not_run(&self, id: u64) {
        self.leave(id);
        self.lock().store_error = None;
    }

    /// The result of an attempt, or what became of its report, could not be stored.
    pub(crate) fn not_stored(&self, id: u64, error: &str) {
        self.leave(id);
        self.lock().store_error = Some(error.to_owned());
    }

    /// A task is not in flight any more.
    pub(crate) fn leave(&self, id: u64) {
        let ended = self.lock().in_flight.remove(&id);
        if let Some(ended) = ended {
            self.families.in_flight.with_label_values(&[&ended.task_type]).dec();
        }
    }

    /// The claim of a result was lost.
    pub(crate) fn claim_lost(&self, task_type: &str) {
        self.families.lost.with_label_values(&[task_type]).inc();
    }

    /// So many results wait to be reported, of which so many were refused, and the oldest was finished so long ago.
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

    /// A type's breaker is open for so long, or is not.
    pub(crate) fn paused(&self, task_type: &str, pause: Option<Duration>) {
        self.families.paused.with_label_values(&[task_type]).set(pause.is_some().into());
        set(&mut self.lock().paused, task_type, pause.and_then(|pause| Instant::now().checked_add(pause)));
    }

    /// A type's handler wants no tasks for so long, or takes them again.
    pub(crate) fn held(&self, task_type: &str, time: Option<Duration>) {
        self.families.held.with_label_values(&[task_type]).set(time.is_some().into());
        set(&mut self.lock().held, task_type, time.and_then(|time| Instant::now().checked_add(time)));
    }

    /// So many units of YouTube's day are used, and so on.
    pub(crate) fn quota(&self, quota: Quota) {
        self.lock().quota = Some(quota);
    }

    /// A handler has said how far its task is.
    pub(crate) fn progress(&self, id: u64, percent: u8, message: Option<&str>) {
        if let Some(task) = self.lock().in_flight.get_mut(&id) {
            task.progress = Some((percent, message.unwrap_or_default().to_owned()));
        }
    }

    /// The TaskManager answers again.
    pub(crate) fn contact_found(&self) {
        self.lock().contact = Contact::Answers;
    }

    /// The TaskManager does not answer.
    pub(crate) fn contact_lost(&self, error: &str) {
        self.lock().contact = Contact::Lost(error.to_owned());
    }

    /// A request to the TaskManager was answered with `status`, or not at all. `held` where the server was asked to
    /// hold its answer back: then it says nothing of how fast the server is.
    pub(crate) fn requested(&self, call: &str, status: Option<u16>, took: Duration, held: bool) {
        let text = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.families.requests.with_label_values(&[call, &text]).inc();
        self.families.request_duration.with_label_values(&[call]).observe(took.as_secs_f64());
        if status.is_some() && !held {
            self.lock().last_call = Some(took);
        }
    }

    /// The name under which a handler's error type is counted.
    fn error_type<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.error_types.lock();
        if known.contains(name) {
            return name;
        }
        if known.len() >= MOST_ERROR_TYPES || name.len() > 64 {
            return "other";
        }
        known.insert(name.to_owned());
        name
    }

    /// Why the TaskManager cannot be worked with, where that is so.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match &self.lock().contact {
            Contact::None => Some("the TaskManager has not answered yet".to_owned()),
            Contact::Lost(error) => Some(error.clone()),
            Contact::Answers => None,
        }
    }

    /// How the worker is.
    pub(crate) fn health(&self) -> Health {
        #[allow(clippy::cast_precision_loss)] // exact up to 8 PiB
        let memory = self.update_process().map(|bytes| bytes as f64);
        let now = Instant::now();
        let since = |time: Instant| now.saturating_duration_since(time).as_secs();
        let activity = self.lock();
        let reason = activity.stuck(now);
        let api_error = if let Contact::Lost(error) = &activity.contact { Some(error.clone()) } else { None };
        Health {
            healthy: reason.is_none(),
            reason,
            worker_id: self.of.worker_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: since(self.started),
            api_connectivity: matches!(activity.contact, Contact::Answers),
            api_error,
            api_latency_ms: activity.last_call.map(|took| took.as_millis().try_into().unwrap_or(u64::MAX)),
            // A key that is refused ends the worker.
            api_key_accepted: (!activity.types.is_empty()).then_some(true),
            task_types: activity.types.clone(),
            results_writable: activity.store_error.is_none(),
            results_error: activity.store_error.clone(),
            unreported: activity.unreported,
            oldest_unreported_seconds: activity.oldest_unreported.map(since),
            refused: activity.refused,
            last_refused: activity.last_refused.clone().filter(|_| activity.refused > 0),
            handlers: self.of.handlers.iter().map(|name| (name.clone(), "found")).collect(),
            youtube_api: self.of.youtube_key.map(|key_set| YouTube { key_set, quota: activity.quota.clone() }),
            memory_usage_mb: memory.map(|bytes| (bytes / 104_857.6).round() / 10.0),
            tasks_in_flight: activity.in_flight.len(),
            tasks_processed: activity.processed,
            tasks_failed: activity.failed,
            consecutive_errors: activity.consecutive_errors,
            seconds_since_poll: activity.polled.map(since),
        }
    }

    /// All metrics, in the text format of Prometheus.
    pub(crate) fn text(&self) -> Result<Vec<u8>, MetricsError> {
        let now = Instant::now();
        {
            let activity = self.lock();
            let oldest = activity.oldest_unreported.map_or(0, |time| now.saturating_duration_since(time).as_secs());
            self.families.oldest_unreported.set(oldest.try_into().unwrap_or(i64::MAX));
            self.families.unreported.set(activity.unreported.try_into().unwrap_or(i64::MAX));
            self.families.refused.set(activity.refused.try_into().unwrap_or(i64::MAX));
            self.families.consecutive_errors.set(activity.consecutive_errors.into());
            self.families.healthy.set(activity.stuck(now).is_none().into());
            self.families.taskmanager_up.set(matches!(activity.contact, Contact::Answers).into());
        }
        self.update_process();
        self.families.text()
    }

    /// Reads the metrics of the process. Returns the memory that it uses, in bytes, if the system tells.
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
        let metrics = Metrics::new(Facts::default()).unwrap();
        for number in 0..200 {
            let error_type = format!("error {number}");
            let attempt = Attempt { id: number, task_type: "a", seconds: 1.0, failure: Some((&error_type, "x")) };
            metrics.finished(&attempt);
        }
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert_eq!(text.matches("prismq_tasks_failed_total{").count(), MOST_ERROR_TYPES + 1, "{text}");
        assert!(text.contains("prismq_tasks_failed_total{error_type=\"other\",type=\"a\"} 150"), "{text}");
    }
}
