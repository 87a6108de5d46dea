//! What each field of each call takes, and what that means: what the published server takes is taken with the same
//! meaning, by the documented server and by its imitation alike.

use serde_json::{Value, json};

use crate::api::{Api, ApiResponse};

/// The documented server and the published one, each with the type `a` of the id 1.
fn servers() -> [Api; 2] {
    [false, true].map(|published| {
        let api = Api::start_with(|settings| settings.faults.published = published);
        let schema = json!({"type": "object"});
        let registered = api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": schema}));
        assert_eq!(registered.status, 200);
        api
    })
}

/// `body` with another value for `field`; without it for `None`.
fn with(body: &Value, field: &str, value: Option<&Value>) -> Value {
    let mut body = body.clone();
    match value {
        Some(value) => body[field] = value.clone(),
        None => _ = body.as_object_mut().unwrap().remove(field),
    }
    body
}

/// What a task is in either server's answer.
fn task(api: &Api, id: u64) -> Value {
    let mut data = api.get(&format!("/tasks/{id}")).data();
    if data["items"].is_array() { data["items"][0].take() } else { data }
}

/// Every kind of value that is neither text nor number.
fn others() -> Vec<Value> {
    vec![json!(null), json!([]), json!([1]), json!({"a": 1})]
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

#[track_caller]
fn refused(answer: &ApiResponse, what: impl std::fmt::Debug) {
    assert_eq!((answer.status, &answer.body["success"]), (400, &json!(false)), "{what:?}: {}", answer.body);
}

#[test]
fn type_fields_are_read_as_by_the_published_server() {
    for api in servers() {
        let body = json!({"name": "b", "version": "1", "param_schema": {"type": "object", "title": "t"}, "more": [1]});
        let register = |field, value: Option<&Value>| api.post("/task-types/register", with(&body, field, value));
        for (sent, kept) in [
            (json!(1), "1"),
            (json!(1.0), "1"),
            (json!(1.5), "1.5"),
            (json!(-2), "-2"),
            (json!(true), "1"),
            (json!("2.0 "), "2.0"),
            (json!("\n 3 \t"), "3"),
        ] {
            assert_eq!(register("version", Some(&sent)).data()["version"], kept, "{sent}");
            assert_eq!(register("name", Some(&sent)).data()["name"], kept, "{sent}");
        }
        for schema in ["{\"type\":\"object\",\"title\":\"t\"}", " { \"title\": \"t\", \"type\": \"object\" }\n"] {
            assert_eq!(register("param_schema", Some(&json!(schema))).data()["name"], "b");
            let shown = api.get("/task-types/b").data();
            let shown = if shown["items"].is_array() { shown["items"][0].clone() } else { shown };
            assert_eq!(shown["param_schema"], body["param_schema"]);
        }
        for field in ["name", "version", "param_schema"] {
            for value in others().iter().chain([&json!(""), &json!(" \n"), &json!(false)]) {
                if field != "param_schema" || value.get("a").is_none() {
                    refused(&register(field, Some(value)), (field, value));
                }
            }
            register(field, None).assert_error(400, &format!("Missing required field: {field}"));
        }
        for schema in
            [json!("{"), json!("[]"), json!("5"), json!("null"), json!(5), json!({"type": null}), json!({"a": 1})]
        {
            refused(&register("param_schema", Some(&schema)), schema);
        }
    }
}

/// Values of `priority`, and what PHP's `intval` makes of each.
fn priorities() -> [(Value, i64); 17] {
    [
        (json!("5"), 5),
        (json!(" -5 "), -5),
        (json!(5.0), 5),
        (json!(-2.9), -2),
        (json!(""), 0),
        (json!(null), 0),
        (json!(true), 1),
        (json!("high"), 0),
        (json!("7 of 9"), 7),
        (json!("1e2"), 100),
        (json!("0x1A"), 0),
        (json!("nan"), 0),
        (json!([]), 0),
        (json!([5]), 1),
        (json!({}), 0),
        (json!({"a": 5}), 1),
        (json!(1e300), i64::MAX),
    ]
}

/// Creates a task with another value for `field`, and with this `n` unless the params are that field.
fn create(api: &Api, field: &str, value: &Value, n: usize) -> ApiResponse {
    let mut body = with(&json!({"type": "a", "params": {"n": 0}, "more": {"b": []}}), field, Some(value));
    if body["params"].get("n").is_some() {
        body["params"]["n"] = json!(n);
    }
    api.post("/tasks", body)
}

#[test]
fn priority_is_accepted_in_every_form_of_a_number() {
    for (api, published) in servers().into_iter().zip([false, true]) {
        for (n, (sent, kept)) in priorities().iter().enumerate() {
            let id = create(&api, "priority", sent, n).data()["id"].clone();
            let id = id.as_u64().or_else(|| id.as_str()?.parse().ok()).unwrap();
            let kept = if published { 0 } else { *kept };
            assert_eq!(task(&api, id)["priority"], json!(kept), "{sent}");
        }
    }
}

#[test]
fn the_type_of_a_new_task_is_trimmed() {
    for api in servers() {
        create(&api, "type", &json!("a"), 1);
        let again = create(&api, "type", &json!(" a\n"), 1).data();
        assert_eq!((&again["id"], &again["deduplicated"]), (&json!(1), &json!(true)), "the same type, the same task");
        for value in others().iter().chain([&json!(""), &json!(" "), &json!(1), &json!(true)]) {
            let answer = create(&api, "type", value, 9);
            assert!([400, 404].contains(&answer.status), "{value}: {}", answer.body);
        }
    }
}

#[test]
fn params_must_be_an_object() {
    for api in servers() {
        for value in [json!("{\"n\":1}"), json!(""), json!(5), json!(true), json!(null), json!([]), json!([1])] {
            refused(&create(&api, "params", &value, 9), value);
        }
    }
}

/// Claims a task with another value for `field`, or without it.
fn claim(api: &Api, field: &str, value: Option<&Value>) -> ApiResponse {
    let body = json!({"worker_id": "w", "task_type_id": 1, "sort_by": "id", "sort_order": "ASC", "more": 1});
    api.post("/tasks/claim", with(&body, field, value))
}

/// Values with which a claim gets a task, by field.
fn values_that_claim() -> [(&'static str, Vec<Value>); 5] {
    let type_ids = ["1", "\"1\"", "\" 1 \"", "\"01\"", "1.0", "\"1.0\"", "\"1st\"", "true", "[9]", "{\"a\": 9}"];
    let patterns = ["\"\"", "\" \"", "null", "\" % \"", "\"a\"", "false", "0", "\"0\""];
    [
        ("task_type_id", type_ids.map(parsed).to_vec()),
        ("type_pattern", patterns.map(parsed).to_vec()),
        ("sort_by", vec![json!(null), json!(" priority ")]),
        ("sort_order", vec![json!(null), json!("asc"), json!(" Desc ")]),
        ("worker_id", vec![json!(" w\n")]),
    ]
}

/// Values with which a claim is refused, by field.
fn values_refused_in_a_claim() -> [(&'static str, Vec<Value>); 5] {
    let type_ids = ["null", "\"\"", "\" \"", "0", "\"-1\"", "\"one\"", "0.9", "false", "[]", "{}"];
    [
        ("task_type_id", type_ids.map(parsed).to_vec()),
        ("type_pattern", vec![json!([1]), json!({"a": 1})]),
        ("sort_by", vec![json!(""), json!("name"), json!(1), json!([1])]),
        ("sort_order", vec![json!(""), json!("UP"), json!(1), json!({"a": 1})]),
        ("worker_id", vec![json!(null), json!(""), json!(" "), json!(5), json!(true), json!(["w"])]),
    ]
}

#[test]
fn claim_fields_are_read_as_by_the_published_server() {
    for (api, published) in servers().into_iter().zip([false, true]) {
        let nothing = if published { 500 } else { 404 };
        // Tasks enough for those that are taken.
        for n in 0..50 {
            api.post("/tasks", json!({"type": "a", "params": {"n": n}}));
        }
        for (field, values) in values_that_claim() {
            for value in values {
                let claimed = claim(&api, field, Some(&value)).data();
                assert_eq!(task(&api, claimed["id"].as_u64().unwrap())["claimed_by"], "w", "{field}: {value}");
            }
        }
        for (field, value) in [("type_pattern", json!("b")), ("type_pattern", json!(5)), ("task_type_id", json!(9))] {
            assert_eq!(claim(&api, field, Some(&value)).status, nothing, "{field}: {value}");
        }
    }
}

#[test]
fn invalid_claim_fields_are_refused() {
    for api in servers() {
        api.post("/tasks", json!({"type": "a", "params": {"n": 1}}));
        for (field, values) in values_refused_in_a_claim() {
            for value in values {
                refused(&claim(&api, field, Some(&value)), (field, value));
            }
        }
        claim(&api, "task_type_id", None).assert_error(400, "Missing required field: task_type_id");
        claim(&api, "worker_id", None).assert_invalid("Worker ID is required");
    }
}

/// Reports on a task of its own that worker 7 holds: with `body`, to `path` after the task's.
fn report(api: &Api, path: &str, body: Value) -> (ApiResponse, Value) {
    let known = api.get("/tasks?limit=1000").data();
    let n = known["count"].as_u64().unwrap_or_else(|| known.as_array().unwrap().len() as u64) + 1;
    api.post("/tasks", json!({"type": "a", "params": {"n": n}}));
    let claimed = api.post("/tasks/claim", json!({"worker_id": "7", "task_type_id": 1})).data();
    let id = claimed["id"].as_u64().unwrap();
    let answer = api.post(&format!("/tasks/{id}/{path}"), body);
    (answer, task(api, id))
}

#[test]
fn progress_must_be_an_integer() {
    for api in servers() {
        let body = json!({"worker_id": "7", "progress": 40, "more": 1});
        let progress = |field, value: &Value| report(&api, "progress", with(&body, field, Some(value)));
        for message in [json!(null), json!(""), json!("x"), json!(5), json!(true)] {
            assert_eq!(progress("message", &message).1["progress"], 40, "{message}");
        }
        assert_eq!(progress("worker_id", &json!(" 7 ")).1["progress"], 40);
        for value in [json!("40"), json!(40.0), json!(true), json!([40]), json!(null), json!(""), json!(101), json!(-1)]
        {
            refused(&progress("progress", &value).0, value);
        }
        for value in [json!(null), json!(""), json!(7), json!(true), json!(["7"])] {
            refused(&progress("worker_id", &value).0, value);
        }
    }
}

/// Reports a failure with another value for `field`.
fn complete(api: &Api, field: &str, value: &Value) -> (ApiResponse, Value) {
    let body = json!({"worker_id": "7", "success": false, "error": "e", "more": 1});
    report(api, "complete", with(&body, field, Some(value)))
}

#[test]
fn success_is_accepted_in_every_form_of_a_boolean() {
    for api in servers() {
        let successes = [
            (json!(1), true),
            (json!("1"), true),
            (json!("true"), true),
            (json!(2.5), true),
            (json!(0), false),
            (json!(0.0), false),
            (json!("0"), false),
            (json!(""), false),
            (json!("yes"), true),
            (json!("false"), true),
            (json!("0.0"), true),
            (json!(" "), true),
            (json!([]), false),
            (json!([0]), true),
            (json!({}), false),
            (json!({"a": 0}), true),
        ];
        for (sent, succeeds) in successes {
            let status = complete(&api, "success", &sent).1["status"].clone();
            assert_eq!(status, if succeeds { "completed" } else { "pending" }, "{sent}");
            // Otherwise the next claim is for that one.
            let rest = || api.post("/tasks/claim", json!({"worker_id": "rest", "task_type_id": 1}));
            while rest().status == 200 {}
        }
        refused(&complete(&api, "success", &json!(null)).0, "no success");
    }
}

#[test]
fn the_worker_id_of_a_report_may_be_a_number() {
    for api in servers() {
        for worker in [json!(7), json!(7.0), json!(" 7 ")] {
            assert_eq!(complete(&api, "worker_id", &worker).0.status, 200, "{worker}");
        }
        for worker in [json!(null), json!([7]), json!({"a": 7})] {
            refused(&complete(&api, "worker_id", &worker).0, worker);
        }
    }
}

#[test]
fn an_error_that_is_not_text_is_kept_as_json() {
    for api in servers() {
        for (error, kept) in [
            (json!({"b": 1, "a": [null]}), json!("{\"a\":[null],\"b\":1}")),
            (json!(["x"]), json!("[\"x\"]")),
            (json!(5), json!("5")),
            (json!("a\nb"), json!("a\nb")),
            (json!(null), json!(null)),
        ] {
            assert_eq!(complete(&api, "error", &error).1["error_message"], kept);
        }
    }
}

#[test]
fn only_the_published_server_drops_empty_results() {
    for (api, published) in servers().into_iter().zip([false, true]) {
        for result in [json!(0), json!(""), json!("0"), json!(false), json!([]), json!({}), json!([0]), json!("x")] {
            let is_something = [json!([0]), json!("x")].contains(&result);
            let kept = complete(&api, "result", &result).1["result"].clone();
            assert_eq!(kept, if published && !is_something { json!(null) } else { result });
        }
    }
}

/// Queries of a list of three tasks, and how many each returns.
const LISTED: [(&str, u64); 29] = [
    ("limit=0", 0),
    ("limit=", 0),
    ("limit=2", 2),
    ("limit=%202%20", 2),
    ("limit=02", 2),
    ("limit=2.9", 2),
    ("limit=9223372036854775807", 3),
    ("limit=99999999999999999999", 3),
    ("offset=", 3),
    ("offset=0", 3),
    ("offset=%2B1", 2),
    ("offset=9223372036854775807", 0),
    ("status=", 3),
    ("type=", 3),
    ("status=pending&type=a&more=x", 3),
    ("limit=many", 0),
    ("limit=2many", 2),
    ("limit=-0.5", 0),
    ("limit=1e1", 3),
    ("limit=1&limit=2", 2),
    ("offset=some", 3),
    ("offset=1st", 2),
    ("status=lost", 0),
    ("status=PENDING", 3),
    ("status=Pending%20", 3),
    ("status=%20pending", 0),
    ("status=%25", 3),
    ("status=0", 0),
    ("status=lost&type=a&limit=2", 0),
];

#[test]
fn a_list_is_filtered_by_its_query() {
    for api in servers() {
        for n in 0..3 {
            api.post("/tasks", json!({"type": "a", "params": {"n": n}}));
        }
        for (query, expected) in LISTED {
            let data = api.get(&format!("/tasks?{query}")).data();
            let count = data["count"].as_u64().unwrap_or_else(|| data.as_array().unwrap().len() as u64);
            assert_eq!(count, expected, "{query}");
        }
    }
}

#[test]
fn an_id_may_have_leading_zeros_or_a_trailing_slash() {
    for api in servers() {
        api.post("/tasks", json!({"type": "a", "params": {"n": 1}}));
        for id in ["001", "1/"] {
            assert_eq!(api.get(&format!("/tasks/{id}")).data().to_string(), api.get("/tasks/1").data().to_string());
        }
    }
}
