//! How many tasks a second, and what a task costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use prismq::internals::TaskResult;
use prismq::internals::taskmanager::{Client, Order, ResultReport};
use prismq::{Outcome, Timestamp};
use serde_json::Value;

use crate::row::Row;
use crate::scene::{Load, Scene, as_float, before_and_now, binary, binary_before};

/// Tasks of one measurement: so many that the start of a worker, and of its programs, hardly counts.
const TASKS: u64 = 20_000;
/// The same if each takes so long that fewer will do.
const SLOW_TASKS: u64 = 8_000;
const TRUE: &str = "exec = [\"/bin/true\"]";
const TRUE_SLOTS: u32 = 8;

const ECHO: &str = "handler = \"echo\"";
const PERSISTENT: &str = r#"exec = ["python3", "-u", "-c", """
import sys, json
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({"id": task["id"], "success": True, "data": task["params"]}), flush=True)
"""]
mode = "persistent""#;

/// `echo`, against the same with the earlier build.
pub(crate) fn echo() -> Vec<Row> {
    let (before, now) = before_and_now(|build| work_off(build, &[], ECHO, 2 * TASKS, 32));
    let cpu = |load: &Load| load.worker_cpu + load.server_cpu;
    let mut rows = vec![
        Row::new("echo, 32 slots: tasks/s", now.tasks_per_second),
        Row::new("echo, 32 slots: CPU time of worker and TaskManager for a task, ms", cpu(&now)).at_most(0.2),
        Row::new("echo, 32 slots: CPU time of the worker for a task, ms", now.worker_cpu),
        Row::new("echo, 32 slots: CPU time of the TaskManager for a task, ms", now.server_cpu),
    ];
    if let Some(before) = before {
        let faster = now.tasks_per_second / before.tasks_per_second;
        rows.push(Row::new("echo, 32 slots: tasks/s over the earlier build's", faster).at_least(4.0));
        let cheaper = cpu(&now) / cpu(&before);
        rows.push(Row::new("echo, 32 slots: CPU time for a task over the earlier build's", cheaper).at_most(0.3));
    }
    rows
}

/// A warm Python handler, against the same with the earlier build.
pub(crate) fn persistent() -> Vec<Row> {
    let (before, now) = before_and_now(|build| work_off(build, &[], PERSISTENT, TASKS, 16).tasks_per_second);
    let mut rows = vec![Row::new("persistent Python, 16 slots: tasks/s", now)];
    if let Some(before) = before {
        rows.push(
            Row::new("persistent Python, 16 slots: tasks/s over the earlier build's", now / before).at_least(3.0),
        );
    }
    rows
}

/// Programs in the worker, over a loop that does nothing but start them.
pub(crate) fn once() -> Vec<Row> {
    let bare = per_second(TRUE_SLOTS, SLOW_TASKS, run_true);
    let worker = work_off(&binary(), &[], TRUE, SLOW_TASKS, TRUE_SLOTS).tasks_per_second;
    vec![
        Row::new("once, /bin/true, 8 slots: tasks/s over a bare loop of 8 threads that spawns it", worker / bare)
            .at_least(0.7),
    ]
}

/// 16 slots, with a server that takes 20 ms for each call.
pub(crate) fn slow_server() -> Vec<Row> {
    let over_pairs = |features: &str| {
        let faults = format!("latency=20ms{features}");
        work_off(&binary(), &["--fault", &faults], ECHO, SLOW_TASKS, 16).tasks_per_second / (16.0 / 0.040)
    };
    vec![
        Row::new("server that takes 20 ms, 16 slots: tasks/s over 16 / 40 ms", over_pairs("")).at_least(5.0),
        Row::new("the same without the feature `batch`", over_pairs(",features=none")).at_least(1.6),
    ]
}

/// `create-task --from`, against the same with the earlier build.
pub(crate) fn creation() -> Vec<Row> {
    let (before, now) = before_and_now(|build| {
        let scene = Scene::start_build(build, &[], ECHO);
        as_float(TASKS) / scene.create(TASKS).as_secs_f64()
    });
    let mut rows = vec![Row::new("create-task --from: tasks/s", now)];
    if let Some(before) = before {
        rows.push(Row::new("create-task --from: tasks/s over the earlier build's", now / before).at_least(3.0));
    }
    rows
}

fn work_off(build: &Path, serve: &[&str], type_settings: &str, tasks: u64, slots: u32) -> Load {
    Scene::start_build(build, serve, type_settings).work_off(tasks, slots)
}

/// Where the time of one task goes: what one thread, or a worker with one slot, takes for a task, in microseconds.
pub(crate) fn steps() -> Vec<Row> {
    const FEW: u64 = 1000;
    let micros = |per_second: f64| 1e6 / per_second;
    let mut rows = vec![
        Row::new("a claim and a report, bare, µs", micros(bare_calls(FEW))),
        Row::new("a start of `/bin/true`, bare, µs", micros(per_second(1, FEW, run_true))),
    ];
    let builds = binary_before().map(|build| ("earlier build, one slot", build));
    for (name, build) in builds.into_iter().chain([("one slot", binary())]) {
        let handlers = [("`echo`", ECHO), ("a persistent Python handler", PERSISTENT), ("`/bin/true`", TRUE)];
        for (handler, settings) in handlers {
            let per_second = work_off(&build, &[], settings, FEW, 1).tasks_per_second;
            rows.push(Row::new(format!("{name}: a task with {handler}, µs"), micros(per_second)));
        }
    }
    rows
}

fn run_true() {
    let program = Command::new("/bin/true").stdin(Stdio::null()).status();
    assert!(program.is_ok_and(|status| status.success()));
}

/// Pairs of a claim and a report a second, one after the other, by the worker's own client, with nothing in between.
fn bare_calls(count: u64) -> f64 {
    let scene = Scene::start(&[], ECHO);
    scene.create(count);
    let (client, type_id) = (&scene.client, scene.type_id());
    per_second(1, count, || {
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
fn per_second(threads: u32, count: u64, work: impl Fn() + Sync) -> f64 {
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
    as_float(count) / start.elapsed().as_secs_f64()
}
