//! The library, in the process of the tests: the public API, the client of the TaskManager, and the handlers for YouTube.
#![cfg(feature = "server")]

mod built;
mod client;
mod example;
mod handlers;
#[path = "../support/mod.rs"]
mod support;
mod youtube;

use std::time::Duration;

use prismq::{Worker, WorkerBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{EmbeddedTaskManager, read_rows};

/// The task type of these tests.
const TYPE: &str = "a.b";

/// A TaskManager that knows [`TYPE`], and a folder for the results file.
struct Bench {
    taskmanager: EmbeddedTaskManager,
    folder: TempDir,
}

impl Bench {
    fn start() -> Self {
        let taskmanager = EmbeddedTaskManager::start();
        taskmanager.register(TYPE);
        Self { taskmanager, folder: tempfile::tempdir().unwrap() }
    }

    /// A worker without a handler, which polls fast.
    fn worker(&self) -> WorkerBuilder {
        Worker::builder()
            .api_url(self.taskmanager.url())
            .results(self.folder.path().join("results.db"))
            .poll_interval(Duration::from_millis(50))
            .max_backoff(Duration::from_millis(50))
    }

    /// Returns the rows of the table `results`.
    fn results(&self) -> Vec<Value> {
        read_rows(&self.folder.path().join("results.db"), "results")
    }
}
