//! What it costs to be there: memory, CPU time when idle, the start, the size.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine;
use crate::row::Row;
use crate::scene::{Scene, as_float, binary, wait_until};

const ECHO: &str = "handler = \"echo\"";
/// How long CPU time is looked at: three long polls.
const WATCH: Duration = Duration::from_secs(60);
/// How many tasks are created at once: they wait in a database on the same machine.
const STEP: u64 = 50_000;

/// Of an idle worker with 16 slots.
pub(crate) fn memory() -> Vec<Row> {
    let scene = Scene::start(&[], ECHO);
    let worker = scene.work(&["--concurrency", "16"]);
    thread::sleep(Duration::from_secs(2)); // the first poll comes within a second
    vec![Row::new("idle, 16 slots: resident memory, MB", machine::resident(worker.id())).at_most(12.0)]
}

/// Of an idle worker.
pub(crate) fn cpu() -> Vec<Row> {
    vec![
        Row::new("idle: CPU time, ms per minute", cpu_against(&[])).at_most(0.5), // it rounds to 0
        Row::new(
            "idle, no long polling, poll interval 1 s: CPU time, ms per minute",
            cpu_against(&["--fault", "published"]),
        )
        .at_most(60.0),
    ]
}

fn cpu_against(serve: &[&str]) -> f64 {
    let scene = Scene::start(serve, ECHO);
    let worker = scene.work(&["--poll-interval", "1"]);
    thread::sleep(Duration::from_secs(3));
    let (start, before) = (Instant::now(), machine::cpu_of_threads(worker.id()));
    thread::sleep(WATCH);
    (machine::cpu_of_threads(worker.id()) - before) / start.elapsed().as_secs_f64() * 60.0
}

/// Of resident memory, from 1,000 tasks to `PRISMQ_BENCH_GROWTH`, or 1,000,000.
pub(crate) fn growth() -> Vec<Row> {
    let many: u64 = env::var("PRISMQ_BENCH_GROWTH")
        .map_or(1_000_000, |tasks| tasks.parse().expect("PRISMQ_BENCH_GROWTH is a number"));
    let scene = Scene::start(&[], ECHO);
    let worker = scene.work_quietly(32);
    let after = |count: u64| {
        while scene.reported() < count {
            let step = STEP.min(count - scene.reported());
            let done = scene.reported() + step;
            scene.create(step);
            wait_until(Duration::from_millis(50), || scene.reported() >= done);
        }
        machine::resident(worker.id())
    };
    let few = after(1000);
    let growth = after(many) / few;
    vec![Row::new(format!("32 slots: resident memory after {many} tasks over after 1000"), growth).at_most(1.2)]
}

/// What `prismq --version` takes longer than `/bin/true`.
pub(crate) fn start() -> Vec<Row> {
    let longer = run_time(&binary(), &["--version"]) - run_time(Path::new("/bin/true"), &[]);
    vec![Row::new("`prismq --version` minus `/bin/true`, medians of 50, ms", longer).at_most(5.0)]
}

/// The profile strips it.
pub(crate) fn size() -> Vec<Row> {
    let bytes = fs::metadata(binary()).expect("it was built").len();
    vec![Row::new("the stripped binary, MB", as_float(bytes) / 1_048_576.0).at_most(12.0)]
}

fn run_time(program: &Path, arguments: &[&str]) -> f64 {
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
