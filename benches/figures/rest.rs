//! What it costs to be there: memory, CPU at rest, the start, the size.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine;
use crate::scene::{Scene, binary};

const ECHO: &str = "handler = \"echo\"";
/// How long CPU time is looked at.
const WATCH: Duration = Duration::from_secs(15);

/// Of a worker at rest with 16 slots, in MB.
pub(crate) fn memory() -> f64 {
    let scene = Scene::start(&[], ECHO);
    let worker = scene.work(&["--concurrency", "16"]);
    thread::sleep(Duration::from_secs(2)); // the first poll comes within a second
    machine::resident(worker.id())
}

/// Of a worker at rest, in milliseconds a minute.
pub(crate) fn cpu() -> f64 {
    cpu_against(&[])
}

/// The same, where the server cannot wait.
pub(crate) fn cpu_polling() -> f64 {
    cpu_against(&["--fault", "published"])
}

fn cpu_against(serve: &[&str]) -> f64 {
    let scene = Scene::start(serve, ECHO);
    let worker = scene.work(&["--poll-interval", "1"]);
    thread::sleep(Duration::from_secs(3));
    let (start, before) = (Instant::now(), machine::cpu(worker.id()));
    thread::sleep(WATCH);
    (machine::cpu(worker.id()) - before) / start.elapsed().as_secs_f64() * 60.0
}

/// Of resident memory, from 1,000 tasks to 100,000.
pub(crate) fn growth() -> f64 {
    let scene = Scene::start(&[], ECHO);
    let worker = scene.work(&["--concurrency", "8"]);
    let after = |count: u64| {
        scene.create(count - scene.results());
        scene.wait_for_results(count);
        machine::resident(worker.id())
    };
    let (few, many) = (after(1000), after(100_000));
    many / few
}

/// What `prismq --version` takes longer than `/bin/true`, in milliseconds.
pub(crate) fn start() -> f64 {
    let prismq = binary();
    run_time(&prismq, &["--version"]) - run_time(Path::new("/bin/true"), &[])
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

/// In MB. The profile strips it.
#[allow(clippy::cast_precision_loss)] // it is far below 2^53
pub(crate) fn size() -> f64 {
    fs::metadata(binary()).expect("it was built").len() as f64 / 1_048_576.0
}
