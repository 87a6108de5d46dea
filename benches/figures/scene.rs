//! A TaskManager and workers in a folder of their own, by the release binary.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::taskmanager::{Client, Connection, Retries};
use prismq::internals::{Phase, Shutdown, SystemClock};
use serde_json::json;
use tempfile::TempDir;

/// The type of all tasks.
pub(crate) const TYPE: &str = "bench";
/// What it takes to use the published TaskManager's ways.
const KEY: &str = "bench-key";

/// Builds the binary as people get it: `cargo bench` itself adds what only tests want.
pub(crate) fn build() {
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

/// The binary as it is shipped; this program lies in `target/release/deps`.
pub(crate) fn binary() -> PathBuf {
    let this = env::current_exe().expect("a program has a path");
    this.ancestors().nth(3).expect("it lies in target/release/deps").join("dist/prismq")
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

/// The folder, the TaskManager and its address.
pub(crate) struct Scene {
    folder: TempDir,
    _server: Running,
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl Scene {
    /// With a TaskManager that gets these arguments too, and a `prismq.toml` whose type has these settings.
    pub(crate) fn start(serve: &[&str], type_settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let config = format!("[[task_type]]\nname = \"{TYPE}\"\n{type_settings}\n");
        fs::write(folder.path().join("prismq.toml"), config).expect("it can be written to");
        let mut server = command(&folder);
        server.args(["serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]).args(serve);
        let mut server = server.stdout(Stdio::piped()).spawn().expect("prismq can be started");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where it is");
        let url =
            line.split_whitespace().find(|word| word.starts_with("http")).expect("it says where it is").to_owned();
        let clock = Arc::new(SystemClock::new(Arc::new(Shutdown::new(Phase::Running)), Phase::Draining));
        let connection = Connection::new(url.as_str(), Some(KEY.into()));
        let client = Client::new(&connection, Retries::STANDARD, clock).expect("the address is good");
        client.register_type(TYPE, "1.0.0", &json!({"type": "object"})).expect("the TaskManager answers");
        Self { folder, _server: Running(server), url, client }
    }

    pub(crate) fn type_id(&self) -> u64 {
        self.client.task_type(TYPE).ok().flatten().expect("the type is registered").id
    }

    /// A worker with these arguments, which is ready when this returns. It logs to a file: reading along would cost more
    /// than writing does.
    pub(crate) fn work(&self, arguments: &[&str]) -> Running {
        let path = self.folder.path().join("worker.log");
        let log = fs::File::create(&path).expect("the folder can be written to");
        let mut worker = command(&self.folder);
        worker.args(["work", "--results", "results.db"]).args(arguments).env("TASKMANAGER_API_URL", &self.url);
        let worker = Running(worker.stderr(log).spawn().expect("prismq can be started"));
        wait_until(|| fs::read_to_string(&path).is_ok_and(|log| log.contains("ready")));
        worker
    }

    /// Creates `count` tasks that differ.
    pub(crate) fn create(&self, count: u64) {
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in iter::repeat_with(|| next.fetch_add(1, Relaxed)).take_while(|n| *n < count) {
                        let salt = fastrand::u64(..1 << 53);
                        self.client.create(TYPE, &json!({"n": n, "salt": salt}), None).expect("it can be created");
                    }
                });
            }
        });
    }

    /// Creates `count` tasks that differ by `create-task --from`. Returns how long that takes.
    pub(crate) fn create_from_file(&self, count: u64) -> Duration {
        let lines: Vec<String> = (0..count).map(|n| json!({"n": n, "text": "three small words"}).to_string()).collect();
        fs::write(self.folder.path().join("lines.jsonl"), lines.join("\n")).expect("it can be written to");
        let mut create = command(&self.folder);
        create.args(["create-task", TYPE, "--from", "lines.jsonl"]).env("TASKMANAGER_API_URL", &self.url);
        let start = Instant::now();
        Running(create.spawn().expect("prismq can be started")).wait();
        start.elapsed()
    }

    /// How many results the worker has stored.
    pub(crate) fn results(&self) -> u64 {
        let file = rusqlite::Connection::open(self.folder.path().join("results.db")).expect("the worker made it");
        file.query_row("SELECT coalesce(max(rowid), 0) FROM results", [], |row| row.get(0)).expect("it has the table")
    }

    pub(crate) fn wait_for_results(&self, count: u64) {
        wait_until(|| self.results() >= count);
    }
}

fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("TASKMANAGER_API_KEY", KEY);
    command.env("PATH", env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(600), "waited in vain");
        thread::sleep(Duration::from_millis(2));
    }
}
