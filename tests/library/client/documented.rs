//! Calls to a server as the documents describe it: data inside an envelope or without one, ids as numbers, 404 for what
//! does not exist.

use prismq::internals::taskmanager::{Client, Delivery, Order, TaskFilter};
use prismq::{Outcome, TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::{SEARCH, client, refused, report, task};
use crate::support::{Answer, ScriptedServer};

/// Checks `call` against `data` inside the envelope and without it.
fn gives<T: serde::Serialize>(data: &Value, call: impl Fn(&Client) -> Result<T, Error>, expected: &Value) {
    for answer in [Answer::data(data), Answer::json(200, data)] {
        let server = ScriptedServer::queue([answer.clone()]);
        let got = call(&client(&server)).unwrap_or_else(|error| panic!("{error}, for {answer:?}"));
        assert_eq!(serde_json::to_value(got).unwrap(), *expected, "for {answer:?}");
    }
}

/// Checks `call` against a 404 inside the envelope and without it.
fn refused_with_404<T>(text: &str, call: impl Fn(&Client) -> T) -> Vec<T> {
    [Answer::error(404, text), Answer::json(404, &json!({"error": text}))]
        .into_iter()
        .map(|answer| call(&client(&ScriptedServer::queue([answer]))))
        .collect()
}

#[test]
fn health_and_types() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let shown = json!({"id": 4, "name": "a.b", "version": "1.0.0", "param_schema": schema, "is_active": true});
    gives(
        &json!({"status": "healthy", "timestamp": 1, "database": "connected"}),
        Client::health,
        &json!({"status": "healthy", "database": "connected"}),
    );
    for (answered, created) in [(json!({"created": true}), true), (json!({"updated": true}), false)] {
        let mut data = json!({"id": 4, "name": "a.b", "version": "1.0.0"});
        data.as_object_mut().unwrap().extend(answered.as_object().unwrap().clone());
        let expected = json!({"id": 4, "name": "a.b", "version": "1.0.0", "created": created});
        gives(&data, |client| client.register_type("a.b", "1.0.0", &schema), &expected);
    }
    gives(&shown, |client| client.task_type("a.b"), &shown);
    gives(&json!([shown]), Client::task_types, &json!([shown]));
    gives(&json!([]), Client::task_types, &json!([]));
}

#[test]
fn tasks() {
    let params = json!({"search_query": "startup ideas"});
    for (flag, deduplicated) in [
        (json!({}), false),
        (json!({"deduplicated": false}), false),
        (json!({"deduplicated": true}), true),
        (json!({"duplicate": true}), true),
    ] {
        let mut data = json!({"id": 12, "type": SEARCH, "status": "pending", "dedupe_key": "5f"});
        data.as_object_mut().unwrap().extend(flag.as_object().unwrap().clone());
        let expected = json!({"id": 12, "type": SEARCH, "status": "pending", "deduplicated": deduplicated});
        gives(&data, |client| client.create(SEARCH, &params, Some(3)), &expected);
    }
    gives(
        &json!({"id": 12, "type": SEARCH, "params": params, "attempts": 2, "priority": 9}),
        |client| client.claim("worker-1", 4, Order::NewestFirst),
        &json!({"id": 12, "type": SEARCH, "params": params, "attempt": 2, "priority": 9}),
    );
    gives(&json!({"id": 12, "progress": 40}), |client| client.progress(TaskId(12), "w", 40, None), &Value::Null);
    let shown = task(&json!({"id": 12, "priority": 9, "progress": 40}));
    gives(&shown, |client| client.task(TaskId(12)), &shown);
    gives(&json!([shown]), |client| client.tasks(&TaskFilter::default()), &json!([shown]));
    gives(&json!([]), |client| client.tasks(&TaskFilter::default()), &json!([]));
}

#[test]
fn a_claim_asks_for_an_order() {
    for (order, sort_by, sort_order) in [
        (Order::OldestFirst, "created_at", "ASC"),
        (Order::NewestFirst, "created_at", "DESC"),
        (Order::HighestPriorityFirst, "priority", "DESC"),
    ] {
        let server = ScriptedServer::queue([Answer::error(404, "No available tasks")]);
        client(&server).claim("worker-1", 4, order).unwrap();
        let body = json!({"worker_id": "worker-1", "task_type_id": 4, "sort_by": sort_by, "sort_order": sort_order});
        assert_eq!(server.requests()[0].json(), body);
    }
}

#[test]
fn a_completed_report() {
    for answer in [json!({"id": 1, "status": "completed"}), json!({"id": 1, "status": "pending"})] {
        for answer in [Answer::data(&answer), Answer::json(200, &answer)] {
            let delivery = client(&ScriptedServer::queue([answer])).send_report(&report(Outcome::success(json!(1))));
            assert_eq!(delivery, Ok(Delivery::Confirmed));
        }
    }
}

#[test]
fn missing_tasks_and_types_are_404s() {
    let nothing = refused_with_404("No available tasks", |client| client.claim("w", 4, Order::OldestFirst));
    assert_eq!(nothing, [Ok(None), Ok(None)]);
    let unknown = refused_with_404("Task type not found", |client| client.task_type("Nope"));
    assert_eq!(unknown, [Ok(None), Ok(None)]);
    let unknown = refused_with_404("Task not found", |client| client.task(TaskId(999)));
    assert_eq!(unknown, [Ok(None), Ok(None)]);
    for gone in refused_with_404("Task not found", |client| client.progress(TaskId(999), "w", 40, None)) {
        assert_eq!(gone, Err(refused(404, "Task not found")));
        assert!(gone.unwrap_err().says_not_claimed());
    }
    for unknown in refused_with_404("Task type not found", |client| client.create("Nope", &json!({}), None)) {
        assert_eq!(unknown, Err(refused(404, "Task type not found")));
        assert!(unknown.unwrap_err().says_unknown_type());
    }
}

#[test]
fn errors_come_without_the_envelope_too() {
    for envelope in [json!({}), json!({"success": false, "timestamp": 1})] {
        let answer = |status, error: Value| {
            let mut body = envelope.clone();
            body.as_object_mut().unwrap().extend(error.as_object().unwrap().clone());
            let server = ScriptedServer::queue([Answer::json(status, &body)]);
            client(&server).progress(TaskId(1), "w", 40, None).unwrap_err()
        };
        let taken = "Task is claimed by another worker";
        assert_eq!(answer(403, json!({"error": taken})), refused(403, taken));
        assert!(answer(403, json!({"error": taken})).says_not_claimed());
        let details = json!({"error": "Validation failed", "details": ["a is wrong", "b is missing"]});
        assert_eq!(answer(400, details), refused(400, "Validation failed: a is wrong; b is missing"));
    }
}

/// A blocked address gets the same answer as a wrong key, so the error is the same.
#[test]
fn a_blocked_address_is_no_refused_task() {
    let blocked = json!({"error": "Forbidden", "message": "Your address is blocked.", "timestamp": "…"});
    let server = ScriptedServer::queue([Answer::new(403, "text/html; charset=UTF-8", blocked.to_string())]);
    let error = client(&server).progress(TaskId(1), "w", 40, None).unwrap_err();
    let expected = Error::KeyRefused { url: server.url(), message: "Your address is blocked.".into(), with_key: true };
    assert_eq!(error, expected);
    assert!(!error.says_not_claimed() && !error.is_retryable());
}

/// A wrong base URL must not look like a missing type or task: a result would count as lost.
#[test]
fn a_call_the_server_does_not_know_is_no_unknown_task() {
    for body in [json!({"success": false, "error": "Endpoint not found"}), json!({"detail": "Not Found"}), json!({})] {
        let server = ScriptedServer::always(Answer::json(404, &body));
        let client = client(&server);
        let url = server.url();
        let unknown = |call: &str| {
            let reason = format!("no such call: {call} (404)");
            Error::NotATaskManager { url: url.clone(), reason }
        };
        assert_eq!(client.task(TaskId(1)), Err(unknown("/tasks/1")));
        assert_eq!(client.task_type("a.b"), Err(unknown("/task-types/a.b")));
        assert_eq!(client.claim("w", 1, Order::OldestFirst), Err(unknown("/tasks/claim")));
        assert_eq!(client.send_report(&report(Outcome::success(json!(1)))), Err(unknown("/tasks/1/complete")));
        assert_eq!(client.resend_report(&report(Outcome::success(json!(1)))), Err(unknown("/tasks/1")));
    }
}
