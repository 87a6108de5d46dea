//! Progress and reports of results.

use prismq::internals::TaskResult;
use prismq::internals::taskmanager::{Client, Delivery, ResultReport};
use prismq::{ErrorType, Outcome, TaskId};
use serde_json::{Value, json};

use super::Sends::{AndMore, Exactly, Otherwise};
use super::{Got, Row, row, shown, unavailable};
use crate::client::{refused, result, task};
use crate::support::{Answer, recorded};

fn progress_of_1(worker_id: &'static str, percent: u8, message: Option<&'static str>) -> impl Fn(&Client) -> Got {
    move |client| shown(client.progress(TaskId(1), worker_id, percent, message))
}

pub(super) fn progress() -> Vec<Row> {
    let another = || Err(refused(403, "Task is claimed by another worker"));
    let too_much = refused(400, "Validation failed: Field 'progress' must be at most 100");
    vec![
        row("progress", Exactly, progress_of_1("worker-1", 40, Some("two of five")), Ok(Value::Null)),
        row("progress: out of range", Exactly, progress_of_1("worker-1", 101, None), Err(too_much)),
        row("progress: another worker's task", Exactly, progress_of_1("worker-2", 50, None), another()),
        row("progress: by the worker whose claim ran out", Exactly, progress_of_1("worker-1", 90, None), another()),
    ]
}

/// Reports the first attempt at a task.
fn deliver(id: u64, worker_id: &'static str, outcome: Outcome) -> impl Fn(&Client) -> Got {
    let result = TaskResult { task_id: TaskId(id), worker_id: worker_id.into(), ..result(outcome) };
    move |client| {
        client.send_report(&ResultReport::from(&result)).map(|delivery| match delivery {
            Delivery::Confirmed => json!("confirmed"),
            Delivery::ClaimLost => json!("claim lost"),
        })
    }
}

fn succeed(data: Value) -> Outcome {
    Outcome::success(data)
}

fn quota_exceeded() -> Outcome {
    Outcome::failure(ErrorType::Connection, "quota exceeded")
}

pub(super) fn completes() -> Vec<Row> {
    let (confirmed, lost) = (|| Ok(json!("confirmed")), || Ok(json!("claim lost")));
    let long = json!({"text": "x".repeat(70_000)});
    let deadlock = "SQLSTATE[40001]: Serialization failure: 1213 Deadlock found when trying to get lock; try restarting \
                    transaction";
    let taken = Answer::data(&task(&json!({"claimed_by": "worker-2", "attempts": 2})));
    let videos = || succeed(json!({"videos": 5}));
    vec![
        row("complete", AndMore, deliver(1, "worker-1", videos()), confirmed()),
        row("complete with an empty result", AndMore, deliver(3, "worker-1", succeed(Value::Null)), confirmed()),
        row("complete the same again", AndMore, deliver(1, "worker-1", videos()), confirmed())
            .then(recorded("show the completed task")),
        row("complete: another worker's task", Otherwise, deliver(1, "worker-2", succeed(json!({"a": 1}))), lost())
            .then(recorded("show a task")),
        row("complete: by the worker whose claim ran out", Otherwise, deliver(1, "worker-1", videos()), lost())
            .then(taken),
        row("complete: result over 65,535 bytes", Otherwise, deliver(1, "worker-1", succeed(long)), confirmed())
            .then(recorded("complete")),
        row("complete a task that does not exist", AndMore, deliver(999, "worker-1", videos()), lost())
            .then(recorded("show a task that does not exist")),
        row(
            "complete without success",
            AndMore,
            deliver(2, "worker-1", videos()),
            Err(refused(400, "Missing required field: success")),
        ),
        row(
            "complete: deadlock in the server's database",
            Otherwise,
            deliver(7, "worker-1", succeed(json!({"ok": 1}))),
            unavailable(500, deadlock),
        ),
        row("fail with attempts left", AndMore, deliver(2, "worker-1", quota_exceeded()), confirmed()),
        row("fail it again, attempt 2", AndMore, deliver(2, "worker-1", quota_exceeded()), confirmed()),
        row("fail it again, attempt 3", AndMore, deliver(2, "worker-1", quota_exceeded()), confirmed()),
        row("fail it", AndMore, deliver(1, "worker-1", Outcome::failure(ErrorType::Handler, "x")), confirmed()),
    ]
}
