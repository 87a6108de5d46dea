//! How soon a task of an idle worker starts.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::scene::{Scene, TYPE, wait_until};

/// Prints the time at which it runs, in nanoseconds.
const CLOCK: &str = "exec = [\"date\", \"+%s%N\"]";

/// Over the poll interval of 1 s, where the server cannot wait. Waits do not grow here: an idle worker at its longest
/// wait is one whose poll interval is that long.
pub(crate) fn polling() -> f64 {
    let scene = Scene::start(&["--fault", "published"], CLOCK);
    let _worker = scene.work(&["--poll-interval", "1s", "--max-backoff", "1s"]);
    median(&scene, 11, 1000) / 1000.0
}

/// In milliseconds, where it can.
pub(crate) fn waiting() -> f64 {
    let scene = Scene::start(&[], CLOCK);
    let _worker = scene.work(&[]);
    median(&scene, 21, 100)
}

/// The median time from a task's creation to its handler's start in milliseconds, of `count` tasks that are created
/// `apart` milliseconds apart, more or less.
fn median(scene: &Scene, count: u64, apart: u64) -> f64 {
    thread::sleep(Duration::from_millis(1500)); // the first poll comes within a second
    let mut times: Vec<f64> = (0..count)
        .map(|n| {
            thread::sleep(Duration::from_millis(fastrand::u64(apart / 2..apart * 3 / 2)));
            start_of(scene, n)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn start_of(scene: &Scene, n: u64) -> f64 {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let id = scene.client.create(TYPE, &json!({"n": n}), None).expect("it can be created").id;
    let mut started = None;
    wait_until(|| {
        let task = scene.client.task(id).expect("it answers").expect("it is there");
        started = task.result.as_ref().and_then(|result| result["data"].as_u64());
        started.is_some()
    });
    let started = Duration::from_nanos(started.expect("it was waited for"));
    started.saturating_sub(created).as_secs_f64() * 1e3
}
