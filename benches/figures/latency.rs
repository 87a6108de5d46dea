//! How soon a task of an idle worker starts, and is reported.

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::row::Row;
use crate::scene::{Running, Scene, TYPE, binary, binary_before, wait_until};

/// Answers with the time at which it reads the task, in nanoseconds.
const CLOCK: &str = r#"exec = ["python3", "-u", "-c", """
import sys, json, time
for line in sys.stdin:
    now = time.time_ns()
    print(json.dumps({"id": json.loads(line)["id"], "success": True, "data": now}), flush=True)
"""]
mode = "persistent""#;
/// Starts that are measured before those that count.
const WARM_UP: u64 = 3;

/// What a task takes from its creation, in milliseconds.
#[derive(Clone, Copy)]
struct Times {
    to_start: f64,
    to_report: f64,
}

/// One task at a time, with this build and with the earlier one; medians.
pub(crate) fn one_task() -> Vec<Row> {
    let before = binary_before().map(|build| Idle::start(&build, &[], &[]));
    let now = Idle::start(&binary(), &[], &[]);
    let (mut times_before, mut times_now) = (Vec::new(), Vec::new());
    for n in 0..WARM_UP + 101 {
        if let Some(before) = &before {
            times_before.push(before.task(n, 50));
        }
        times_now.push(now.task(n, 50));
    }
    let now = median(times_now);
    let mut rows = vec![
        Row::new("one task, idle worker: creation to the handler's start, ms", now.to_start).at_most(10.0),
        Row::new("one task, idle worker: creation to completion at the TaskManager, ms", now.to_report),
    ];
    if before.is_some() {
        let before = median(times_before);
        let (start, report) = (now.to_start / before.to_start, now.to_report / before.to_report);
        rows.push(Row::new("one task: to the start, over the earlier build's", start).at_most(1.0));
        rows.push(Row::new("one task: to completion, over the earlier build's", report).at_most(1.0));
    }
    rows
}

/// Over the poll interval of 1 s, if the server cannot wait. Waits do not grow here: an idle worker at its longest wait
/// is one whose poll interval is that long.
pub(crate) fn polling() -> Vec<Row> {
    let idle = Idle::start(&binary(), &["--fault", "published"], &["--poll-interval", "1s", "--max-backoff", "1s"]);
    let times = median((0..WARM_UP + 11).map(|n| idle.task(n, 1000)).collect());
    vec![
        Row::new("no long polling: creation to the handler's start over the poll interval", times.to_start / 1000.0)
            .at_most(0.55),
    ]
}

/// A worker without a task.
struct Idle {
    scene: Scene,
    _worker: Running,
}

impl Idle {
    fn start(build: &Path, serve: &[&str], work: &[&str]) -> Self {
        let scene = Scene::start_build(build, serve, CLOCK);
        let worker = scene.work(work);
        Self { scene, _worker: worker }
    }

    /// Creates a task after `apart` milliseconds, more or less, and waits until it is completed.
    fn task(&self, n: u64, apart: u64) -> Times {
        thread::sleep(Duration::from_millis(fastrand::u64(apart / 2..apart * 3 / 2)));
        let created = now();
        let id = self.scene.client.create(TYPE, &json!({"n": n}), None).expect("it can be created").id;
        let mut started = None;
        wait_until(Duration::from_micros(200), || {
            let task = self.scene.client.task(id).expect("it answers").expect("it is there");
            started = task.result.as_ref().and_then(|result| result["data"].as_u64());
            started.is_some()
        });
        let since = |time: Duration| time.saturating_sub(created).as_secs_f64() * 1e3;
        let started = Duration::from_nanos(started.expect("it was waited for"));
        Times { to_start: since(started), to_report: since(now()) }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// The medians of both, without warm-up.
fn median(mut times: Vec<Times>) -> Times {
    times.drain(..usize::try_from(WARM_UP).expect("it is small"));
    let of = |value: fn(&Times) -> f64| {
        let mut values: Vec<f64> = times.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Times { to_start: of(|times| times.to_start), to_report: of(|times| times.to_report) }
}
