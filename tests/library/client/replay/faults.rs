//! Errors of the server and of proxies in front of it.

use std::time::Duration;

use prismq::internals::taskmanager::Client;
use prismq::{TaskId, TaskManagerError as Error};
use serde_json::json;

use super::Sends::{Exactly, Otherwise};
use super::{Got, Row, row, shown, unavailable};

fn show_1(client: &Client) -> Got {
    shown(client.task(TaskId(1)))
}

pub(super) fn rows() -> Vec<Row> {
    let race = "SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry \
                '7a5922e7aaf803ed647ee2a68e9dd9d343b87ecad57030cc75f27d9bf39a65ea' for key 'unique_dedupe'";
    let limited = Error::Unavailable {
        url: "URL".into(),
        status: 429,
        reason: "Rate limit exceeded. Please try again in 60 seconds.".into(),
        retry_after: Some(Duration::from_mins(1)),
    };
    let reason = "no such call: /tasks/1 (404)".into();
    let no_endpoint = Error::NotATaskManager { url: "URL".into(), reason };
    vec![
        row("rate limited", Exactly, show_1, Err(limited)),
        row("backend down", Exactly, show_1, unavailable(502, "the proxy in front of it cannot reach it")),
        row("the server's database is down", Exactly, show_1, unavailable(500, "Internal server error")),
        row(
            "health while the database is down",
            Exactly,
            |client| shown(client.health()),
            unavailable(500, "Internal server error"),
        ),
        row("no such endpoint", Otherwise, show_1, Err(no_endpoint)),
        row(
            "create: two at once with the same params",
            Exactly,
            |client| shown(client.create("example.any", &json!({"race": 1}), None)),
            unavailable(500, race),
        ),
    ]
}
