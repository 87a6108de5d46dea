//! A TaskManager and workers in a folder of their own, all of one build.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::taskmanager::{Client, Connection, Retries};
use prismq::internals::{Phase, Shutdown, SystemClock};
use rusqlite::{OpenFlags, Row};
use serde_json::json;
use tempfile::TempDir;

use crate::machine;

/// The type of all tasks.
pub(crate) const TYPE: &str = "bench";
/// What it takes to use the published TaskManager's ways.
const KEY: &str = "bench-key";
/// The log of the worker.
const LOG: &str = "worker.log";
/// Out of how many tasks of a measurement one is for warm-up, and not measured.
const WARM_UP: u64 = 10;

/// Builds the binary as people get it, unless `PRISMQ_BENCH_BINARY` names one: `cargo bench` itself adds what only tests
/// want.
pub(crate) fn build() {
    if env::var_os("PRISMQ_BENCH_BINARY").is_some() {
        return;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", "dist", "--quiet"]);
    // What cargo tells this program about its package would make it build the dependencies anew.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (variable, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        cargo.env_remove(variable);
    }
    let built = cargo.status();
    assert!(built.is_ok_and(|status| status.success()), "cargo build --profile dist failed");
}

/// The binary as it is shipped. This program is in `target/release/deps`.
pub(crate) fn binary() -> PathBuf {
    env::var_os("PRISMQ_BENCH_BINARY").map_or_else(
        || {
            let this = env::current_exe().expect("a program has a path");
            this.ancestors().nth(3).expect("it is in target/release/deps").join("dist/prismq")
        },
        PathBuf::from,
    )
}

/// The binary of an earlier build to compare with, if `PRISMQ_BENCH_BEFORE` names one.
pub(crate) fn binary_before() -> Option<PathBuf> {
    env::var_os("PRISMQ_BENCH_BEFORE").map(PathBuf::from)
}

/// Measures the earlier build, if there is one, and then this one.
pub(crate) fn before_and_now<T>(measure: impl Fn(&Path) -> T) -> (Option<T>, T) {
    (binary_before().as_deref().map(&measure), measure(&binary()))
}

/// A process that ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(&mut self) {
        let status = self.0.wait().expect("it is our child");
        assert!(status.success(), "prismq ended with {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a worker did with many tasks that were waiting for it.
pub(crate) struct Load {
    pub(crate) tasks_per_second: f64,
    /// CPU time of the worker for a task, without programs that it starts, in milliseconds.
    pub(crate) worker_cpu: f64,
    /// CPU time of the TaskManager for a task, without its creation, in milliseconds.
    pub(crate) server_cpu: f64,
}

/// The folder, the TaskManager and its address.
pub(crate) struct Scene {
    folder: TempDir,
    binary: PathBuf,
    server: Running,
    url: String,
    pub(crate) client: Client,
}

impl Scene {
    /// Starts this build's TaskManager with these arguments, and a `prismq.toml` whose type has these settings.
    pub(crate) fn start(serve: &[&str], type_settings: &str) -> Self {
        Self::start_build(&binary(), serve, type_settings)
    }

    /// The same with any build.
    pub(crate) fn start_build(binary: &Path, serve: &[&str], type_settings: &str) -> Self {
        // Not in /tmp, which may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room for a folder");
        let config = format!("[[task_type]]\nname = \"{TYPE}\"\n{type_settings}\n");
        fs::write(folder.path().join("prismq.toml"), config).expect("it can be written to");
        let mut server = command(binary, &folder);
        server.args(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]).args(serve);
        let mut server = server.stdout(Stdio::piped()).spawn().expect("prismq can be started");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut line).expect("it prints its address");
        let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("it prints its address");
        let clock = Arc::new(SystemClock::new(Arc::new(Shutdown::new(Phase::Running)), Phase::Draining));
        let connection = Connection::new(url, Some(KEY.into()));
        let client = Client::new(&connection, Retries::STANDARD, clock).expect("the address is good");
        client.register_type(TYPE, "1.0.0", &json!({"type": "object"})).expect("the TaskManager answers");
        Self { url: url.to_owned(), folder, binary: binary.to_owned(), server: Running(server), client }
    }

    pub(crate) fn type_id(&self) -> u64 {
        self.client.task_type(TYPE).ok().flatten().expect("the type is registered").id
    }

    /// Starts a worker with these arguments, and returns when it is ready.
    pub(crate) fn work(&self, arguments: &[&str]) -> Running {
        let worker = self.spawn_worker(arguments);
        let path = self.folder.path().join(LOG);
        wait_until(Duration::from_millis(2), || fs::read_to_string(&path).is_ok_and(|log| log.contains("ready")));
        worker
    }

    /// Starts a worker that logs warnings only, with so many slots.
    pub(crate) fn work_quietly(&self, slots: u32) -> Running {
        self.spawn_worker(&["--quiet", "--concurrency", &slots.to_string()])
    }

    fn spawn_worker(&self, arguments: &[&str]) -> Running {
        let log = fs::File::create(self.folder.path().join(LOG)).expect("the folder can be written to");
        let mut worker = self.prismq(&["work", "--results", "results.db"]);
        Running(worker.args(arguments).stderr(log).spawn().expect("prismq can be started"))
    }

    /// Creates `count` tasks, and then starts a worker, which runs until all are reported.
    pub(crate) fn work_off(&self, count: u64, slots: u32) -> Load {
        self.create(count);
        let server_before = machine::cpu_time(self.server.id());
        let worker = self.work_quietly(slots);
        wait_until(Duration::from_millis(50), || self.reported() >= count);
        Load {
            tasks_per_second: self.reports_per_second(count),
            worker_cpu: machine::cpu_time(worker.id()) / as_float(count),
            server_cpu: (machine::cpu_time(self.server.id()) - server_before) / as_float(count),
        }
    }

    /// Creates `count` tasks that differ, by `create-task --from`. Returns how long that takes.
    pub(crate) fn create(&self, count: u64) -> Duration {
        let salt = fastrand::u64(..1 << 53);
        let mut lines = String::new();
        for n in 0..count {
            writeln!(lines, "{{\"n\":{n},\"salt\":{salt},\"text\":\"three small words\"}}").expect("memory takes all");
        }
        fs::write(self.folder.path().join("lines.jsonl"), lines).expect("it can be written to");
        let start = Instant::now();
        let create = self.prismq(&["create-task", TYPE, "--from", "lines.jsonl"]).spawn();
        Running(create.expect("prismq can be started")).wait();
        start.elapsed()
    }

    /// How many results the worker has reported.
    pub(crate) fn reported(&self) -> u64 {
        let sql = "SELECT (SELECT coalesce(max(rowid), 0) FROM results)
                   - (SELECT count(*) FROM results WHERE reported_at IS NULL)";
        self.query(sql, |row| row.get(0)).unwrap_or(0) // the worker has yet to make the file
    }

    /// How many of the `count` results were reported a second, from the end of warm-up to the last.
    fn reports_per_second(&self, count: u64) -> f64 {
        let warm_up = count / WARM_UP;
        let sql = format!(
            "SELECT unixepoch(max(reported_at), 'subsec') - (SELECT unixepoch(reported_at, 'subsec')
             FROM results ORDER BY reported_at LIMIT 1 OFFSET {}) FROM results",
            warm_up - 1
        );
        let seconds: f64 = self.query(&sql, |row| row.get(0)).expect("all is reported");
        as_float(count - warm_up) / seconds
    }

    fn query<T>(&self, sql: &str, read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let path = self.folder.path().join("results.db");
        rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?.query_row(sql, [], read)
    }

    fn prismq(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.binary, &self.folder);
        command.args(arguments).env("TASKMANAGER_API_URL", &self.url);
        command
    }
}

fn command(binary: &Path, folder: &TempDir) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("TASKMANAGER_API_KEY", KEY);
    command.env("PATH", env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Returns when it holds, which is looked at every `interval`.
pub(crate) fn wait_until(interval: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(20), "waited in vain");
        thread::sleep(interval);
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}
