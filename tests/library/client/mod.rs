//! The TaskManager client through a real socket: against every recorded exchange of the published server, against the
//! documented shapes, and against servers that misbehave.

mod delivery;
mod documented;
mod fit;
mod limits;
mod listing;
mod points;
mod properties;
mod replay;
mod retry;
mod robustness;
mod secrecy;

use std::time::Duration;

use crate::support::{FakeClock, ScriptedServer};
use prismq::internals::TaskResult;
use prismq::internals::taskmanager::{Client, Connection, ResultReport, Retries};
use prismq::{Outcome, TaskId, TaskManagerError as Error, Timestamp};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-tests";
/// A port on which nothing listens.
const NOBODY: &str = "http://127.0.0.1:1/api";
const SEARCH: &str = "PrismQ.YouTube.Video.Search";

/// A client without retries.
fn client(server: &ScriptedServer) -> Client {
    patient(server, Retries::NONE, &FakeClock::new())
}

/// A client with `retries` that sleeps on `clock`.
fn patient(server: &ScriptedServer, retries: Retries, clock: &std::sync::Arc<FakeClock>) -> Client {
    Client::new(&connection(server), retries, clock.clone()).unwrap()
}

fn connection(server: &ScriptedServer) -> Connection {
    Connection { call_timeout: Duration::from_secs(60), ..Connection::new(server.url(), Some(KEY.into())) }
}

/// The result of attempt 1 of task 1 by worker-1.
fn result(outcome: Outcome) -> TaskResult {
    TaskResult {
        task_id: TaskId(1),
        task_type: SEARCH.into(),
        attempt: 1,
        worker_id: "worker-1".into(),
        api_url: "http://localhost:8000/api".into(),
        params: json!({"search_query": "startup ideas", "max_results": 5}),
        outcome,
        claimed_at: Timestamp::UNIX_EPOCH,
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH + Duration::from_millis(1234),
    }
}

fn report(outcome: Outcome) -> ResultReport {
    ResultReport::from(&result(outcome))
}

/// Task 1 in the format of the server, with `changes`.
fn task(changes: &Value) -> Value {
    let mut task = json!({
        "id": 1, "type": SEARCH, "status": "claimed", "params": {"a": 1}, "result": null, "error_message": null,
        "priority": 0, "progress": 0, "attempts": 1, "claimed_by": "worker-1", "claimed_at": "2026-11-22 03:18:35",
        "completed_at": null, "created_at": "2026-11-22 03:18:35",
    });
    task.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    task
}

/// A refusal with the server's message.
fn refused(status: u16, message: &str) -> Error {
    Error::Refused { status, message: message.into() }
}
