//! An embedded TaskManager in the test's process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use prismq::TaskId;
use prismq::internals::server::{OfferedFeatures, Server, Settings};
use prismq::internals::taskmanager::{Client, Connection, Retries, TaskView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FakeClock, free_port, wait_for};

/// An embedded TaskManager that can be stopped and started again on the same port and file.
pub(crate) struct EmbeddedTaskManager {
    server: Option<Server>,
    settings: Settings,
    client: Client,
    _folder: TempDir,
}

impl EmbeddedTaskManager {
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

    /// Starts one whose claims expire after this time, whatever a worker does.
    pub(crate) fn expiring(claim_timeout: Duration) -> Self {
        Self::with(|settings| {
            settings.claim_timeout = Some(claim_timeout);
            settings.faults.features = OfferedFeatures::NONE;
        })
    }

    /// Returns one that is not started yet, on a free port.
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

    /// Starts it after a stop.
    pub(crate) fn restart(&mut self) {
        // A child that another test has just forked may still listen there for a moment.
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

    /// Its database file.
    pub(crate) fn database(&self) -> &Path {
        &self.settings.database
    }

    /// Replaces its database by that of another one.
    pub(crate) fn replace_by(&mut self, mut other: Self) {
        other.stop();
        self.stop();
        self.settings.database.set_file_name("replaced.db");
        std::fs::copy(other.database(), self.database()).unwrap();
        self.restart();
    }

    /// Starts it with an empty database.
    pub(crate) fn restart_anew(&mut self) {
        self.settings.database.set_file_name("anew.db");
        self.restart();
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Registers a type that accepts any params.
    pub(crate) fn register(&self, name: &str) {
        self.client.register_type(name, "1.0.0", &json!({"type": "object"})).unwrap();
    }

    /// Creates a task and returns its id.
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
