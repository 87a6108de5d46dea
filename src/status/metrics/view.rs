//! What a worker does, at a glance: for a page.

use std::time::{Duration, Instant};

use super::activity::Activity;
use super::history::{History, OfType, Recent};
use super::{Health, Metrics};

/// What a worker is doing and has done lately.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) health: Health,
    /// The tasks that run, by their number.
    pub(crate) running: Vec<RunningTask>,
    /// The attempts that succeeded and those that failed in each minute of the last hour, the present minute last.
    pub(crate) minutes: Vec<(u64, u64)>,
    pub(crate) types: Vec<TypeView>,
    /// The attempts that ended last, the newest first.
    pub(crate) ended: Vec<Ended>,
    /// Those that failed last, the newest first.
    pub(crate) failed: Vec<Ended>,
}
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) id: u64,
    pub(crate) task_type: String,
    /// How long it has been running.
    pub(crate) age: Duration,
    /// In percent, with the handler's own words.
    pub(crate) progress: Option<(u8, String)>,
}
#[derive(Debug)]
pub(crate) struct TypeView {
    pub(crate) name: String,
    /// The TaskManager knows it.
    pub(crate) known: bool,
    /// Its tasks that run.
    pub(crate) running: usize,
    /// Attempts that succeeded, since the worker started.
    pub(crate) completed: u64,
    /// Attempts that failed, since then.
    pub(crate) failed: u64,
    /// The median and the 95th percentile of its last durations, in seconds.
    pub(crate) seconds: Option<(f64, f64)>,
    /// Its breaker is open for so much longer.
    pub(crate) paused: Option<Duration>,
    /// Its handler wants no tasks for so much longer.
    pub(crate) held: Option<Duration>,
}
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) task_type: String,
    /// How long ago it ended.
    pub(crate) ago: Duration,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// The type of the error, and its text in one line, the most telling of its lines first.
    pub(crate) failure: Option<(String, String)>,
}

impl Metrics {
    /// What the worker does, at a glance.
    pub(crate) fn view(&self) -> View {
        let health = self.health();
        let now = Instant::now();
        let since = |time: Instant| now.saturating_duration_since(time);
        let history = self.history.lock();
        let ended = |recent: &Recent| Ended {
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
    let done = history.of_type(name);
    let left = |until: &Instant| until.saturating_duration_since(now);
    TypeView {
        name: name.to_owned(),
        known: activity.types.get(name).is_some_and(Option::is_some),
        running: activity.in_flight.values().filter(|it| it.task_type == name).count(),
        completed: done.map_or(0, |it| it.completed),
        failed: done.map_or(0, |it| it.failed),
        seconds: done.and_then(OfType::percentiles),
        paused: activity.paused.get(name).map(left),
        held: activity.held.get(name).map(left),
    }
}
