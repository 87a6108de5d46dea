//! Items for benchmarks, the fuzz target, and tests that run a server or a client in their own process. The feature
//! `internals` is not part of the public API and may change at any time.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Moment;
pub use crate::clock::SystemClock;
use crate::handler::{Listener, Run};
use crate::library::Worker;
pub use crate::shutdown::{CancelReason, CancelToken, Phase, Shutdown};
pub use crate::store::Store;
pub use crate::task::TaskResult;
use crate::task::{Claim, Task, TaskId};

/// Time.
pub mod clock {
    pub use crate::clock::{Clock, Slept, after};
}

/// Handlers.
pub mod handler {
    pub use crate::handler::{Exec, ExecCommand, ExecSettings, Listener, Orphan, kill_orphans, supervise};
}

/// Reading JSON within bounds.
pub mod json {
    pub use crate::json::{read, read_answer};
}

/// The embedded TaskManager.
#[cfg(feature = "server")]
pub mod server {
    pub use crate::server::{Faults, OfferedFeatures, Server, ServerError, Settings};
}

/// The client of the TaskManager.
pub mod taskmanager {
    pub use crate::taskmanager::{
        Client, Connection, Delivery, LongPollRequest, Order, ResultReport, Retries, TaskFilter, TaskView,
    };
}

/// The handlers that read YouTube.
pub mod youtube {
    pub use crate::youtube::{Budget, Ledger, YouTubeSettings, handler};
}

/// Returns a claim of the first attempt of task `id`, from now for five minutes, by the worker `here-1`.
#[must_use]
pub fn claim(id: u64, task_type: &str, params: Value) -> Claim {
    let now = Timestamp::now();
    Claim {
        task: Task { id: TaskId(id), task_type: task_type.to_owned(), params, attempt: 1, priority: 0 },
        worker_id: "here-1".to_owned(),
        claimed_at: now,
        deadline: Moment::from(now).later(Duration::from_mins(5)),
    }
}

/// Creates a run that may take `timeout` from now and must end early if `stop` is raised.
pub fn run<'a>(timeout: Duration, stop: &'a CancelToken, listener: &'a dyn Listener) -> Run<'a> {
    Run::new(timeout, stop, listener)
}

/// Returns this worker with a budget for `Retry-After` of the TaskManager.
#[must_use]
pub fn with_retry_after_budget(worker: Worker, retry_after_budget: Duration) -> Worker {
    worker.with_retry_after_budget(retry_after_budget)
}
