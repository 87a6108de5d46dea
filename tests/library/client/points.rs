//! The 14 points of 'What a client has to know' that concern the client, one test each. `retry`, `delivery` and
//! `documented` test single points further.

use std::thread;
use std::time::Duration;

use prismq::internals::taskmanager::{Delivery, Order, Retries, TaskFilter};
use prismq::{ErrorType, Outcome, Task, TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::{SEARCH, client, patient, refused, report, task};
use crate::support::{Answer, FakeClock, ScriptedServer, recorded};

fn claimed(server: &ScriptedServer) -> Task {
    client(server).claim("worker-1", 1, Order::OldestFirst).unwrap().unwrap()
}

#[test]
fn point_01_ids_come_as_numbers_or_digits() {
    for id in [json!(7), json!("7")] {
        let server = ScriptedServer::queue([
            Answer::data(&json!({"id": id, "name": "a.b", "version": "1", "created": true})),
            Answer::data(
                &json!({"items": [{"id": id, "name": "a.b", "version": "1", "param_schema": {}}], "count": 1}),
            ),
            Answer::data(&json!({"id": id, "status": "pending"})),
            Answer::data(&json!({"id": id, "type": "a.b", "params": {}, "attempts": 1, "priority": 0})),
            Answer::data(&json!({"items": [task(&json!({"id": id}))], "count": 1})),
            Answer::data(&json!({"items": [task(&json!({"id": id}))], "count": 1})),
        ]);
        let client = client(&server);
        assert_eq!(client.register_type("a.b", "1", &json!({})).unwrap().id, 7);
        assert_eq!(client.task_type("a.b").unwrap().unwrap().id, 7);
        assert_eq!(client.create("a.b", &json!({}), None).unwrap().id, TaskId(7));
        assert_eq!(client.claim("w", 7, Order::OldestFirst).unwrap().unwrap().id, TaskId(7));
        assert_eq!(client.task(TaskId(7)).unwrap().unwrap().id, TaskId(7));
        assert_eq!(client.tasks(&TaskFilter::default()).unwrap()[0].id, TaskId(7));
    }
}

#[test]
fn point_02_an_empty_queue_is_not_an_error_and_not_retried() {
    let documented = Answer::error(404, "No available tasks");
    for empty in [recorded("claim: queue empty"), documented] {
        let server = ScriptedServer::always(empty);
        let claim = patient(&server, Retries::STANDARD, &FakeClock::new()).claim("w", 1, Order::OldestFirst);
        assert_eq!(claim, Ok(None));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn point_03_what_may_pass_is_tried_again() {
    let clock = FakeClock::new();
    let server = ScriptedServer::queue([
        recorded("create: two at once with the same params"),
        recorded("backend down"),
        recorded("the server's database is down"),
        recorded("create the same again"),
    ]);
    let created = patient(&server, Retries::STANDARD, &clock).create(SEARCH, &json!({"race": 1}), None).unwrap();
    assert_eq!((created.id, created.deduplicated), (TaskId(1), true));
    let bodies: Vec<Value> = server.requests().iter().map(crate::support::Request::json).collect();
    assert_eq!(bodies, vec![json!({"type": SEARCH, "params": {"race": 1}}); 4]);
    assert_eq!(clock.sleeps().len(), 3);
}

#[test]
fn point_04_a_complete_whose_answer_was_lost_is_looked_up() {
    let server = ScriptedServer::queue([Answer::close(), recorded("show the completed task")]);
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    assert_eq!(client.send_report(&report(Outcome::success(json!({"videos": 5})))), Ok(Delivery::Confirmed));
    assert_eq!(server.calls(), ["POST /tasks/1/complete", "GET /tasks/1"]);
}

#[test]
fn point_05_a_claim_that_ran_out_is_lost() {
    let server = ScriptedServer::queue([
        recorded("progress: by the worker whose claim ran out"),
        recorded("complete: by the worker whose claim ran out"),
        Answer::data(&task(&json!({"attempts": 2, "claimed_by": "worker-2"}))),
        recorded("claim: a task whose claim ran out"),
    ]);
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    assert!(client.progress(TaskId(1), "worker-1", 90, None).unwrap_err().says_not_claimed());
    assert_eq!(client.send_report(&report(Outcome::success(json!({"late": true})))), Ok(Delivery::ClaimLost));
    assert_eq!(claimed(&server).attempt, 2);
    assert_eq!(server.requests().len(), 4, "{:?}", server.calls());
}

#[test]
fn point_06_a_claim_whose_answer_was_lost_shows_in_the_list() {
    let held = json!({"items": [task(&json!({"claimed_by": "worker-1"})), task(&json!({"id": 2, "claimed_by": "w"}))]});
    let server = ScriptedServer::queue([Answer::close(), Answer::data(&held)]);
    let client = client(&server);
    let lost = client.claim("worker-1", 1, Order::OldestFirst).unwrap_err();
    assert!(matches!(lost, Error::Unreachable { .. }), "{lost}");
    let filter = TaskFilter { status: Some("claimed".into()), limit: 100, ..TaskFilter::default() };
    let tasks = client.tasks(&filter).unwrap();
    let mine = tasks.iter().filter(|task| task.claimed_by.as_deref() == Some("worker-1"));
    assert_eq!(mine.map(|task| task.id).collect::<Vec<_>>(), [TaskId(1)]);
    assert_eq!(server.calls()[1], "GET /tasks?limit=101&offset=0&status=claimed");
}

#[test]
fn point_07_a_failed_task_comes_back_at_once_with_one_more_attempt() {
    let names = [
        "fail with attempts left",
        "claim it again, attempt 2",
        "fail it again, attempt 2",
        "claim it again, attempt 3",
        "fail it again, attempt 3",
        "show the failed task",
        "claim: a task handed out nine times before",
    ];
    let server = ScriptedServer::queue(names.map(recorded));
    let client = client(&server);
    let failed = report(Outcome::failure(ErrorType::Connection, "quota exceeded"));
    for attempt in [2, 3] {
        assert_eq!(client.send_report(&failed), Ok(Delivery::Confirmed));
        let again = claimed(&server);
        assert_eq!((again.id, again.attempt), (TaskId(2), attempt));
    }
    assert_eq!(client.send_report(&failed), Ok(Delivery::Confirmed));
    let shown = client.task(TaskId(2)).unwrap().unwrap();
    assert_eq!((shown.status.as_str(), shown.attempts), ("failed", 3));
    assert_eq!(claimed(&server).attempt, 10);
}

#[test]
fn point_08_a_result_over_64_kib_is_sent_as_a_summary() {
    let server = ScriptedServer::queue([
        recorded("create: params over 65,535 bytes"),
        recorded("complete: result over 65,535 bytes"),
        recorded("complete"),
    ]);
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    assert!(client.create(SEARCH, &json!({"search_query": "…"}), None).unwrap_err().says_too_long());
    assert_eq!(client.send_report(&report(Outcome::success(json!({"videos": 5})))), Ok(Delivery::Confirmed));
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{:?}", server.calls());
    let (whole, summary) = (requests[1].json(), requests[2].json());
    assert_eq!(whole["result"]["data"], json!({"videos": 5}));
    assert_eq!((&summary["result"]["data"], &summary["result"]["data_bytes"]), (&Value::Null, &json!(12)));
}

#[test]
fn point_09_the_same_params_are_the_same_bytes() {
    let server = ScriptedServer::always(recorded("create the same again"));
    let orders = [r#"{"a": {"y": 1, "x": [1, 2]}, "b": "ž\u00e1"}"#, r#"{ "b":"\u017eá", "a":{"x":[1,2],"y":1} }"#];
    for params in orders {
        let params: Value = serde_json::from_str(params).unwrap();
        let created = client(&server).create(SEARCH, &params, None).unwrap();
        assert_eq!((created.id, created.status.as_str(), created.deduplicated), (TaskId(1), "pending", true));
    }
    for request in server.requests() {
        let body = String::from_utf8(request.body).unwrap();
        assert_eq!(body, format!(r#"{{"params":{{"a":{{"x":[1,2],"y":1}},"b":"žá"}},"type":"{SEARCH}"}}"#));
    }
}

#[test]
fn point_10_a_handler_gets_an_object_where_params_are_an_empty_list() {
    for (sent, given) in [
        (json!([]), json!({})),
        (json!({}), json!({})),
        (Value::Null, json!({})),
        (json!({"a": []}), json!({"a": []})),
        (json!([1]), json!([1])),
    ] {
        let data = json!({"id": 1, "type": "a.b", "params": sent, "attempts": 1, "priority": 0});
        let server = ScriptedServer::queue([Answer::data(&data), Answer::data(&task(&json!({"params": sent})))]);
        assert_eq!(claimed(&server).params, given);
        assert_eq!(client(&server).task(TaskId(1)).unwrap().unwrap().params, Some(given));
    }
    let unusual = claimed(&ScriptedServer::queue([recorded("claim: unusual values come back changed")])).params;
    assert_eq!((&unusual["one"], &unusual["big"]), (&json!(1), &json!(1.234_567_890_123_456_7e19)));
}

#[test]
fn point_11_a_claim_names_one_type_by_the_id_that_its_name_has() {
    let server = ScriptedServer::queue([
        recorded("type by name"),
        recorded("claim"),
        Answer::error(404, "Task type not found"),
        recorded("type by name, unknown"),
        recorded("list active types"),
    ]);
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    let id = client.task_type(SEARCH).unwrap().unwrap().id;
    assert_eq!(client.claim("worker-1", id, Order::OldestFirst).unwrap().unwrap().id, TaskId(1));
    assert_eq!(server.requests()[1].json()["task_type_id"], json!(1));
    assert!(client.claim("worker-1", id, Order::OldestFirst).unwrap_err().says_unknown_type());
    assert_eq!(client.task_type(SEARCH), Ok(None));
    let cannot = client.task_types().unwrap_err();
    assert_eq!(cannot, refused(500, "Invalid select field: COALESCE(t.usage_count, 0) as usage_count"));
    assert_eq!(server.requests().len(), 5, "{:?}", server.calls());
}

#[test]
fn point_12_a_slow_claim_is_waited_for_not_sent_again() {
    let server = ScriptedServer::start(|_| {
        thread::sleep(Duration::from_millis(130)); // as long as with 40,000 tasks pending
        recorded("claim")
    });
    assert_eq!(claimed(&server).id, TaskId(1));
    assert_eq!((server.requests().len(), server.connections()), (1, 1));
}

#[test]
fn point_13_the_schema_comes_whole_for_a_check_of_our_own() {
    let schema = json!({
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time", "default": "now"},
            "any": [],
            "one": {"oneOf": [{"type": "integer"}, []], "items": [], "enum": [[]], "const": []},
        },
        "additionalProperties": [],
    });
    let healed = json!({
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time", "default": "now"},
            "any": {},
            "one": {"oneOf": [{"type": "integer"}, {}], "items": {}, "enum": [[]], "const": []},
        },
        "additionalProperties": {},
    });
    let found = json!({"items": [{"id": 1, "name": "a.b", "version": "1", "param_schema": schema}], "count": 1});
    let server = ScriptedServer::queue([Answer::data(&found), recorded("create: params break the schema")]);
    let client = patient(&server, Retries::STANDARD, &FakeClock::new());
    assert_eq!(client.task_type("a.b").unwrap().unwrap().param_schema, healed);
    let breach = client.create("a.b", &json!({"max_results": 99}), None).unwrap_err();
    let words = "Parameter validation failed: Number too large at max_results: maximum is 50";
    assert_eq!(breach, refused(400, words));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn point_14_a_rate_limit_is_obeyed_to_the_second() {
    let clock = FakeClock::new();
    let server = ScriptedServer::queue([recorded("rate limited"), recorded("rate limited"), recorded("show a task")]);
    let shown = patient(&server, Retries::STANDARD, &clock).task(TaskId(1)).unwrap().unwrap();
    assert_eq!(shown.id, TaskId(1));
    assert_eq!(clock.sleeps(), [Duration::from_mins(1); 2]);
}
