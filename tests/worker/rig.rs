//! A worker's surroundings: a TaskManager in the test's own process, a sandbox for the binary, and what both hold.

#![allow(dead_code)] // each test binary uses a part of it

use std::net::SocketAddr;
use std::path::Path;

use prismq::TaskId;
use prismq::internals::server::{Server, Settings};
use prismq::internals::taskmanager::{Client, Connection, Retries, TaskView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{FakeClock, Output, Prismq, Sandbox, free_port, wait_for};

/// Who the worker is in every test that does not say otherwise.
pub(crate) const WORKER: &str = "worker-1";

/// Reads the task and runs the script that its params name, as `{"case":"NAME"}`.
const RUN_CASE: &str = r#"case=$(sed 's/.*"case":"\([a-z0-9-]*\)".*/\1/'); . "./$case.sh""#;

/// A sandbox whose workers poll fast, are called [`WORKER`] and keep their results in `results.db`.
pub(crate) fn sandbox(url: &str) -> Sandbox {
    Sandbox::at(url)
        .env("WORKER_ID", WORKER)
        .env("PRISMQ_RESULTS", "results.db")
        .env("POLL_INTERVAL", "50ms")
        .env("MAX_BACKOFF", "50ms")
}

/// A table of `prismq.toml` for a type that runs the scripts that its tasks name, with more `settings`.
pub(crate) fn cases(name: &str, settings: &str) -> String {
    format!("[[task_type]]\nname = \"{name}\"\nexec = '''{RUN_CASE}'''\n{settings}\n")
}

/// An embedded TaskManager that can be stopped and started again on the same port and file.
pub(crate) struct TaskManager {
    server: Option<Server>,
    settings: Settings,
    client: Client,
    _folder: TempDir,
}

impl TaskManager {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut taskmanager = Self::away();
        change(&mut taskmanager.settings);
        taskmanager.client = client(&taskmanager.settings);
        taskmanager.restart();
        taskmanager
    }

    /// One that does not run yet, on a port that nobody listens on.
    pub(crate) fn away() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let settings = Settings::new(listen, folder.path().join("tasks.db"));
        Self { server: None, client: client(&settings), settings, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        self.client.url().to_owned()
    }

    pub(crate) fn stop(&mut self) {
        self.server.take().expect("it runs").stop();
    }

    /// Starts it where it does not run.
    pub(crate) fn restart(&mut self) {
        // For a moment, a process that another test has just forked may still listen there.
        self.server = Some(wait_for("a port of its own", || Server::start(&self.settings).ok()));
    }

    /// Starts it again with other settings.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.stop();
        change(&mut self.settings);
        self.restart();
    }

    /// Starts it with another key.
    pub(crate) fn restart_with_key(&mut self, key: &str) {
        self.settings.api_key = Some(key.into());
        self.client = client(&self.settings);
        self.restart();
    }

    /// The file that holds its tasks.
    pub(crate) fn database(&self) -> &Path {
        &self.settings.database
    }

    /// Puts what another one holds in the place of what this one held.
    pub(crate) fn replace_by(&mut self, mut other: Self) {
        other.stop();
        self.stop();
        self.settings.database.set_file_name("replaced.db");
        std::fs::copy(other.database(), self.database()).unwrap();
        self.restart();
    }

    /// Starts it with an empty file.
    pub(crate) fn restart_anew(&mut self) {
        self.settings.database.set_file_name("anew.db");
        self.restart();
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Registers a type that takes anything.
    pub(crate) fn register(&self, name: &str) {
        self.client.register_type(name, "1.0.0", &json!({"type": "object"})).unwrap();
    }

    /// Creates a task; its number.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create(&self, task_type: &str, params: Value) -> u64 {
        self.create_with_priority(task_type, params, 0)
    }

    #[allow(clippy::needless_pass_by_value, reason = "calls read better with json!(…) as it is")]
    pub(crate) fn create_with_priority(&self, task_type: &str, params: Value, priority: i64) -> u64 {
        let created = self.client.create(task_type, &params, Some(priority)).unwrap();
        assert!(!created.deduplicated, "{params}");
        created.id.0
    }

    pub(crate) fn task(&self, id: u64) -> TaskView {
        self.client.task(TaskId(id)).unwrap().unwrap()
    }

    pub(crate) fn status(&self, id: u64) -> String {
        self.task(id).status
    }
}

fn client(settings: &Settings) -> Client {
    let connection = Connection::new(format!("http://{}/api", settings.listen), settings.api_key.clone());
    Client::new(&connection, Retries::STANDARD, FakeClock::new()).unwrap()
}

/// A TaskManager, and a sandbox whose workers speak with it.
pub(crate) struct Rig {
    pub(crate) taskmanager: TaskManager,
    pub(crate) sandbox: Sandbox,
}

impl Rig {
    /// With the type `case`, whose tasks name the script that works them.
    pub(crate) fn start() -> Self {
        Self::of(TaskManager::start(), &[("case", "")])
    }

    /// With types whose tasks name the script that works them, each with its name and more settings.
    pub(crate) fn of(taskmanager: TaskManager, types: &[(&str, &str)]) -> Self {
        for (name, _) in types {
            taskmanager.register(name);
        }
        let sandbox = sandbox(&taskmanager.url());
        sandbox.write("prismq.toml", types.iter().map(|(name, settings)| cases(name, settings)).collect::<String>());
        Self { taskmanager, sandbox }
    }

    /// With the type `warm`, whose tasks are worked by processes that run `script` for one after another. One failure is
    /// the end of a task.
    pub(crate) fn warm(script: &str, settings: &str) -> Self {
        let rig = Self::of(TaskManager::with(|settings| settings.max_attempts = 1), &[]);
        rig.taskmanager.register("warm");
        rig.script("warm", &format!("{}\n{script}", include_str!("../support/talk.sh")));
        let table = "[[task_type]]\nname = 'warm'\nexec = ['sh', 'warm.sh']\nmode = 'persistent'";
        rig.sandbox.write("prismq.toml", format!("{table}\n{settings}\n"));
        rig
    }

    /// Creates tasks of the type `warm`; their numbers.
    pub(crate) fn create_warm(&self, count: u64) -> Vec<u64> {
        (0..count).map(|n| self.taskmanager.create("warm", json!({"n": n}))).collect()
    }

    /// Creates a task of the type `case` that `script` works; its number.
    pub(crate) fn case(&self, name: &str, script: &str) -> u64 {
        self.case_of("case", name, script)
    }

    pub(crate) fn case_of(&self, task_type: &str, name: &str, script: &str) -> u64 {
        self.script(name, script);
        self.taskmanager.create(task_type, json!({"case": name}))
    }

    /// Writes the script of a case.
    pub(crate) fn script(&self, name: &str, script: &str) {
        self.sandbox.write(&format!("{name}.sh"), script);
    }

    /// A worker.
    pub(crate) fn work<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Prismq {
        self.sandbox.prismq(["work"]).args(arguments)
    }

    /// Works until nothing is left.
    #[track_caller]
    pub(crate) fn drain(&self) -> Output {
        self.work(["--drain"]).run().exits(0)
    }

    /// All rows of a table of the results file.
    pub(crate) fn rows(&self, table: &str) -> Vec<Value> {
        rows(&self.sandbox, table)
    }

    /// The tasks whose results the file holds, in the order in which they ended.
    pub(crate) fn worked(&self) -> Vec<u64> {
        self.rows("results").iter().map(|row| row["task_id"].as_u64().unwrap()).collect()
    }
}

/// All rows of a table of the results file in the sandbox, in the order of their keys: where there is none, as written.
pub(crate) fn rows(sandbox: &Sandbox, table: &str) -> Vec<Value> {
    read_rows(&sandbox.path("results.db"), table)
}

pub(crate) fn read_rows(file: &Path, table: &str) -> Vec<Value> {
    let file = rusqlite::Connection::open(file).unwrap();
    let mut statement = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let read = |row: &rusqlite::Row<'_>| {
        let cell = |(index, name): (usize, &String)| {
            use rusqlite::types::ValueRef;
            let value = match row.get_ref(index).unwrap() {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(integer) => json!(integer),
                ValueRef::Real(real) => json!(real),
                ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
                ValueRef::Blob(_) => panic!("a blob in {name}"),
            };
            (name.clone(), value)
        };
        Ok(Value::Object(columns.iter().enumerate().map(cell).collect()))
    };
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// Takes the times out of a row of `results`, after it has seen that they make sense.
#[track_caller]
pub(crate) fn without_times(mut row: Value) -> Value {
    let fields = row.as_object_mut().unwrap();
    let mut take = |name: &str| {
        let text = fields.remove(name).unwrap();
        let text = text.as_str().unwrap_or_else(|| panic!("{name} is {text}")).to_owned();
        assert_eq!(text.len(), "2026-11-22T03:18:35.123Z".len(), "{name}: {text}");
        text.parse::<jiff::Timestamp>().unwrap()
    };
    let times = ["claimed_at", "started_at", "finished_at", "reported_at"].map(&mut take);
    assert!(times.is_sorted(), "{times:?}");
    let took = times[2].as_millisecond() - times[1].as_millisecond();
    assert_eq!(fields.remove("duration_ms"), Some(json!(took)));
    row
}

/// Takes out of an envelope what is different each time, after it has seen that it makes sense.
#[track_caller]
pub(crate) fn without_moments(mut envelope: Value) -> Value {
    let success = envelope["success"] == json!(true);
    let metadata = envelope["metadata"].as_object_mut().unwrap();
    let moment = metadata.remove(if success { "processed_at" } else { "failed_at" }).unwrap();
    moment.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    if success {
        assert!(metadata.remove("processing_time").unwrap().as_f64().unwrap() < 60.0);
    }
    envelope
}
