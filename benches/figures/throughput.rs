//! How many tasks a second.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use prismq::internals::TaskResult;
use prismq::internals::taskmanager::{Client, Order, ResultReport};
use prismq::{Outcome, Timestamp};
use serde_json::Value;

use crate::scene::Scene;

/// Tasks of one measurement: so many that starting the worker, and its programs, hardly counts.
const TASKS: u64 = 20_000;
/// The same where each takes so long that fewer will do.
const SLOW_TASKS: u64 = 12_000;
const SLOTS: &str = "8";
const THREADS: usize = 8;
const TRUE: &str = "exec = [\"/bin/true\"]";

const ECHO: &str = "handler = \"echo\"";
const PERSISTENT: &str = r#"exec = ["python3", "-u", "-c", """
import sys, json
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({"id": task["id"], "success": True, "data": task["params"]}), flush=True)
"""]
mode = "persistent""#;

/// `echo` in the worker over bare calls.
pub(crate) fn echo() -> f64 {
    over_bare_calls(ECHO)
}

/// A warm Python handler over bare calls.
pub(crate) fn persistent() -> f64 {
    over_bare_calls(PERSISTENT)
}

/// Tasks a second with a warm Python handler.
pub(crate) fn persistent_per_second() -> f64 {
    worker(&Scene::start(&[], PERSISTENT), TASKS, &["--concurrency", SLOTS])
}

fn over_bare_calls(type_settings: &str) -> f64 {
    let scene = Scene::start(&[], type_settings);
    let bare = bare_calls(&scene, THREADS, TASKS);
    worker(&scene, TASKS, &["--concurrency", SLOTS]) / bare
}

/// Programs in the worker over a loop that does nothing but start them.
pub(crate) fn once() -> f64 {
    let scene = Scene::start(&[], TRUE);
    let bare = per_second(THREADS, TASKS, run_true);
    worker(&scene, TASKS, &["--concurrency", SLOTS]) / bare
}

/// 16 slots, with a server that takes 20 ms for a claim and 20 ms for a report.
pub(crate) fn slow_server() -> f64 {
    let scene = Scene::start(&["--fault", "latency=20ms"], ECHO);
    worker(&scene, SLOW_TASKS, &["--concurrency", "16"]) / (16.0 / 0.040)
}

/// `create-task --from` against a server that creates tasks in batches, over one that does not.
pub(crate) fn creation() -> f64 {
    let took = |serve: &[&str]| Scene::start(serve, ECHO).create_from_file(TASKS).as_secs_f64();
    took(&["--fault", "features=none"]) / took(&[])
}

/// Tasks a second, from the start of the worker to the end of the last task.
fn worker(scene: &Scene, tasks: u64, arguments: &[&str]) -> f64 {
    scene.create(tasks);
    let start = Instant::now();
    let limit = tasks.to_string();
    scene.work(&[arguments, &["--max-tasks", &limit]].concat()).wait();
    rate(tasks, start)
}

/// Where the time of one task goes: what one thread, or a worker with one slot, takes for a task, in microseconds.
pub(crate) fn steps() -> Vec<(&'static str, f64)> {
    const FEW: u64 = 1000;
    let micros = |per_second: f64| 1e6 / per_second;
    let one_slot = |type_settings| micros(worker(&Scene::start(&[], type_settings), FEW, &["--concurrency", "1"]));
    vec![
        ("a claim and a report, bare", micros(bare_calls(&Scene::start(&[], ECHO), 1, FEW))),
        ("a task with `echo`", one_slot(ECHO)),
        ("a task with a persistent Python handler", one_slot(PERSISTENT)),
        ("a start of `/bin/true`, bare", micros(per_second(1, FEW, run_true))),
        ("a task with `/bin/true`", one_slot(TRUE)),
    ]
}

fn run_true() {
    let program = Command::new("/bin/true").stdin(Stdio::null()).status();
    assert!(program.is_ok_and(|status| status.success()));
}

/// Pairs of a claim and a report a second, by the worker's own client, with nothing in between.
fn bare_calls(scene: &Scene, threads: usize, count: u64) -> f64 {
    scene.create(count);
    let (client, type_id) = (&scene.client, scene.type_id());
    per_second(threads, count, || {
        let task = client.claim("bare", type_id, Order::OldestFirst).expect("it answers").expect("there is one");
        complete(client, task);
    })
}

fn complete(client: &Client, task: prismq::Task) {
    let now = Timestamp::now();
    let result = TaskResult {
        task_id: task.id,
        task_type: task.task_type,
        attempt: task.attempt,
        worker_id: "bare".into(),
        api_url: String::new(),
        params: Value::Null,
        outcome: Outcome::success(task.params),
        claimed_at: now,
        started_at: now,
        finished_at: now,
    };
    client.send_report(&ResultReport::from(&result)).expect("it answers");
}

/// How often a second so many threads can do `work`.
fn per_second(threads: usize, count: u64, work: impl Fn() + Sync) -> f64 {
    let done = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while done.fetch_add(1, Relaxed) < count {
                    work();
                }
            });
        }
    });
    rate(count, start)
}

#[allow(clippy::cast_precision_loss)] // thousands
fn rate(count: u64, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
