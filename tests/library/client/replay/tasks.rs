//! Creating, claiming and showing tasks.

use prismq::internals::taskmanager::{Client, Order, TaskFilter};
use prismq::{TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use super::Sends::{AndMore, Exactly, Otherwise};
use super::{Got, Row, row, shown};
use crate::client::{SEARCH, refused};

/// Returns a text that makes the body of a create request `body` bytes long.
fn filler(body: usize) -> Value {
    let around = json!({"params": {"search_query": ""}, "type": SEARCH}).to_string().len();
    json!({"search_query": "x".repeat(body - around)})
}

fn create(task_type: &'static str, params: Value) -> impl Fn(&Client) -> Got {
    move |client| shown(client.create(task_type, &params, None))
}

pub(super) fn creates() -> Vec<Row> {
    let startup = || json!({"search_query": "startup ideas", "max_results": 5});
    let created = |id, task_type, deduplicated| {
        Ok(json!({"id": id, "type": task_type, "status": "pending", "deduplicated": deduplicated}))
    };
    let not_an_object = || Err(refused(400, "Validation failed: Field 'params' must be of type object"));
    let too_long =
        "SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column 'params_json' at row 1";
    vec![
        row(
            "create",
            Exactly,
            move |client| shown(client.create(SEARCH, &startup(), Some(7))),
            created(1, SEARCH, false),
        ),
        row("create the same again", Exactly, create(SEARCH, startup()), created(1, SEARCH, true)),
        row("create the same, keys in another order", Exactly, create(SEARCH, startup()), created(2, SEARCH, false)),
        row("create: unknown type", Exactly, create("Nope", json!({"a": 1})), Err(refused(404, "Task type not found"))),
        row(
            "create: params break the schema",
            Exactly,
            create(SEARCH, json!({"search_query": "a", "max_results": 99})),
            Err(refused(400, "Parameter validation failed: Number too large at max_results: maximum is 50")),
        ),
        row("create: params an empty object", Exactly, create(SEARCH, json!({})), not_an_object()),
        row("create: params a list", Exactly, create(SEARCH, json!([1])), not_an_object()),
        row(
            "create: not JSON",
            Otherwise,
            create(SEARCH, json!({})),
            Err(refused(400, "Invalid JSON in request body")),
        ),
        row("create: params over 65,535 bytes", Exactly, create(SEARCH, filler(70_071)), Err(refused(500, too_long))),
        row(
            "create: unusual values",
            Exactly,
            create(
                "example.any",
                json!({
                    "empty_object": {}, "empty_list": [], "text": "žluťoučký kůň 🐎", "big": 12_345_678_901_234_567_890_u64,
                    "one": 1.0, "wide": 9_007_199_254_740_993_u64,
                }),
            ),
            created(3, "example.any", false),
        ),
        row(
            "create: type not active",
            Exactly,
            create("example.any", json!({"a": 2})),
            Err(refused(400, "Task type is not active")),
        ),
        row(
            "body over the proxy's limit",
            Exactly,
            create(SEARCH, filler(1_100_044)),
            Err(refused(413, "the request is larger than the server, or a proxy in front of it, accepts")),
        ),
    ]
}

fn claim(worker_id: &'static str, type_id: u64) -> impl Fn(&Client) -> Got {
    move |client| shown(client.claim(worker_id, type_id, Order::OldestFirst))
}

pub(super) fn claims() -> Vec<Row> {
    let claimed = |id, attempt| {
        let params = json!({"search_query": "startup ideas", "max_results": 5});
        Ok(json!({"id": id, "type": SEARCH, "params": params, "attempt": attempt, "priority": 0}))
    };
    let any =
        |attempt| Ok(json!({"id": 1, "type": "example.any", "params": {"a": 1}, "attempt": attempt, "priority": 0}));
    let bad_sort = "Invalid sort_by field. Allowed values: created_at, priority, id, attempts";
    vec![
        row("claim", Exactly, claim("worker-1", 1), claimed(1, 1)),
        row(
            "claim: by priority",
            Exactly,
            |client| shown(client.claim("worker-1", 1, Order::HighestPriorityFirst)),
            claimed(2, 1),
        ),
        row("claim: queue empty", AndMore, claim("worker-1", 1), Ok(Value::Null)),
        row("claim: type that does not exist", AndMore, claim("worker-1", 99), Ok(Value::Null)),
        row(
            "claim: no task_type_id",
            AndMore,
            claim("worker-1", 1),
            Err(refused(400, "Missing required field: task_type_id")),
        ),
        row("claim: bad sort_by", Otherwise, claim("worker-1", 1), Err(refused(400, bad_sort))),
        row(
            "claim: worker_id missing",
            AndMore,
            claim("", 1),
            Err(refused(400, "Validation failed: Worker ID is required")),
        ),
        row("claim it again, attempt 2", AndMore, claim("worker-1", 1), claimed(2, 2)),
        row("claim it again, attempt 3", AndMore, claim("worker-1", 1), claimed(2, 3)),
        row(
            "claim: unusual values come back changed",
            AndMore,
            claim("worker-1", 2),
            Ok(json!({"id": 3, "type": "example.any", "params": unusual(), "attempt": 1, "priority": 0})),
        ),
        row("claim: a task whose claim ran out", AndMore, claim("worker-2", 1), any(2)),
        row("claim: a task handed out nine times before", AndMore, claim("worker-1", 1), any(10)),
    ]
}

/// The unusual values as the server returns them.
fn unusual() -> Value {
    json!({
        "empty_object": [], "empty_list": [], "text": "žluťoučký kůň 🐎", "big": 1.234_567_890_123_456_7e19, "one": 1,
        "wide": 9_007_199_254_740_993_u64,
    })
}

/// A task of the search type as it is shown, with what differs from one to the next.
fn task(changes: &Value) -> Value {
    let mut task = crate::client::task(&json!({"params": {"search_query": "startup ideas", "max_results": 5}}));
    task.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    task
}

/// A task as it is listed: without its params, its result and when it was claimed.
fn listed(changes: &Value) -> Value {
    let mut task = task(changes);
    for missing in ["params", "result"] {
        task.as_object_mut().unwrap().remove(missing);
    }
    task["completed_at"] = json!("2026-11-22 03:18:35");
    task["claimed_at"] = Value::Null;
    task
}

fn show(id: u64) -> impl Fn(&Client) -> Got {
    move |client| shown(client.task(TaskId(id)))
}

pub(super) fn looks() -> Vec<Row> {
    let ended = "2026-11-22 03:18:35";
    let first = || listed(&json!({"status": "completed", "progress": 40}));
    let second = listed(&json!({"id": 2, "status": "failed", "attempts": 3}));
    vec![
        row("show a task", Exactly, show(1), Ok(task(&json!({"progress": 40})))),
        row("show a task that does not exist", Exactly, show(999), Ok(Value::Null)),
        row(
            "show the completed task",
            Exactly,
            show(1),
            Ok(task(&json!({
                "status": "completed", "progress": 40, "completed_at": ended,
                "result": {"success": true, "data": {"videos": 5}},
            }))),
        ),
        row(
            "show the failed task",
            Exactly,
            show(2),
            Ok(task(&json!({
                "id": 2, "status": "failed", "attempts": 3, "completed_at": ended, "error_message": "quota exceeded",
                "result": {"success": false, "error_type": "connection", "retryable": true},
            }))),
        ),
        row("show it: the empty result is null", Exactly, show(3), Ok(emptily_completed())),
        row("show: id not a number", Otherwise, show(1), Ok(Value::Null)),
        row("trailing slash", Otherwise, show(1), Ok(failed_at_last())),
        row(
            "list tasks",
            Otherwise, // one more than are wanted, at least
            |client| shown(client.tasks(&TaskFilter { limit: 10, ..TaskFilter::default() })),
            Ok(json!([second, first()])),
        ),
        row(
            "list tasks by status and type",
            Otherwise,
            |client| {
                let (status, type_pattern) = (Some("completed".into()), Some("PrismQ.YouTube.%".into()));
                shown(client.tasks(&TaskFilter { status, type_pattern, limit: 5 }))
            },
            Ok(json!([first()])),
        ),
        row(
            "list tasks: limit below zero",
            Otherwise,
            |client| shown(client.tasks(&TaskFilter::default())),
            bad_limit(),
        ),
    ]
}

fn emptily_completed() -> Value {
    let time = "2026-11-22 03:18:36";
    task(&json!({
        "id": 3, "type": "example.any", "status": "completed", "params": unusual(), "claimed_at": time,
        "completed_at": time, "created_at": time,
    }))
}

fn failed_at_last() -> Value {
    let time = "2026-11-22 03:41:19";
    task(&json!({
        "type": "example.any", "status": "failed", "params": {"a": 1}, "error_message": "x", "attempts": 10,
        "claimed_at": time, "completed_at": time, "created_at": time,
    }))
}

fn bad_limit() -> Got {
    let message = "SQLSTATE[42000]: Syntax error or access violation: 1064 You have an error in your SQL syntax; check the \
                   manual that corresponds to your MariaDB server version for the right syntax to use near '-1 OFFSET 0' \
                   at line 1";
    Err::<_, Error>(refused(500, message))
}
