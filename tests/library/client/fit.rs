//! Results that are too large for the TaskManager are shortened.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use prismq::internals::taskmanager::{Delivery, ResultReport};
use prismq::{ErrorType, Outcome};

use crate::client::{client, result};
use crate::support::{Answer, Request, ScriptedServer};

/// Maximum size of a column of the published server.
const COLUMN: usize = 65_535;

/// Returns the length of a value as PHP writes it.
fn stored(value: &Value) -> usize {
    let bytes = |character: char| match character {
        '/' => 2,
        _ if character.is_ascii() => 1,
        _ => 6 * character.len_utf16(),
    };
    value.to_string().chars().map(bytes).sum()
}

/// A server that stores results of at most `most` bytes, as `count` counts them.
fn server(most: usize, count: fn(&Value) -> usize) -> ScriptedServer {
    ScriptedServer::start(move |request: &Request| {
        if count(&request.json()["result"]) > most {
            return Answer::error(500, "SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column");
        }
        Answer::data(&json!({"id": 1, "status": "completed"}))
    })
}

/// Returns what such a server stores of an outcome.
#[track_caller]
fn kept(outcome: Outcome, most: usize, count: fn(&Value) -> usize) -> Value {
    let server = server(most, count);
    assert_eq!(client(&server).send_report(&ResultReport::from(&result(outcome))), Ok(Delivery::Confirmed));
    server.requests().last().unwrap().json()["result"].take()
}

fn plain(value: &Value) -> usize {
    value.to_string().len()
}

/// A text of this many bytes of JSON.
fn text(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

fn failure_with(data: Value) -> Outcome {
    let mut failure = Outcome::failure(ErrorType::Handler, "no");
    failure.data = data;
    failure
}

#[test]
fn the_largest_parts_are_omitted_first() {
    let small = || json!({"count": 3, "ok": true});
    for (data, expected, omitted) in [
        (json!({"blob": text(70_000), "n": small()}), json!({"n": small()}), json!(["blob"])),
        // Not more than necessary is left out.
        (
            json!({"a": text(30_000), "b": text(20_000), "c": text(25_000)}),
            json!({"b": text(20_000), "c": text(25_000)}),
            json!(["a"]),
        ),
        (
            json!({"a": text(70_000), "b": text(80_000), "c": text(25_000)}),
            json!({"c": text(25_000)}),
            json!(["b", "a"]),
        ),
        // Large parts of an object are left out, at any depth.
        (
            json!({"page": {"head": {"title": "T"}, "body": {"html": text(70_000), "lang": "cs"}}}),
            json!({"page": {"head": {"title": "T"}, "body": {"lang": "cs"}}}),
            json!(["page.body.html"]),
        ),
        (json!({"one": {"a": text(60_000)}, "two": {"a": text(61_000), "b": 2}}), json!({}), json!(["two", "one"])),
        // A nested list is left out as a whole; if the data is a list, its elements keep their positions.
        (json!({"list": vec![text(700); 100], "n": 1}), json!({"n": 1}), json!(["list"])),
        (json!([1, text(70_000), {"n": 2}]), json!([1, null, {"n": 2}]), json!(["[1]"])),
        (json!([1, {"n": 2, "big": text(70_000)}]), json!([1, {"n": 2}]), json!(["[1].big"])),
        (json!("x".repeat(70_000)), Value::Null, json!(["data"])),
        (json!(vec![123_456; 20_000]), Value::Null, json!(["data"])),
    ] {
        for (outcome, count) in
            [(Outcome::success(data.clone()), plain as fn(&Value) -> usize), (failure_with(data.clone()), stored)]
        {
            let result = kept(outcome, COLUMN, count);
            let found = result.get("data").cloned().unwrap_or(Value::Null);
            let expected = if expected == json!({}) { &Value::Null } else { &expected };
            assert_eq!((&found, &result["data_omitted"]), (expected, &omitted));
            assert_eq!(result["data_bytes"], json!(data.to_string().len()));
            assert_eq!(result["metadata"]["worker_id"], "worker-1");
        }
    }
}

#[test]
fn of_many_small_parts_those_that_fit_are_kept() {
    let data: Value =
        (0..9_000).map(|n| (format!("field-{n:05}"), json!("abcdef"))).collect::<serde_json::Map<_, _>>().into();
    let result = kept(Outcome::success(data.clone()), COLUMN, plain);
    let (all, found) = (data.as_object().unwrap(), result["data"].as_object().unwrap());
    assert!(found.len() > 2_000 && found.iter().all(|(key, value)| all[key] == *value), "{}", found.len());
    assert!(plain(&result) > 55_000 && plain(&result) <= 60_000, "{}", plain(&result));
    let names = result["data_omitted"].as_array().unwrap();
    let left = all.len() - found.len();
    assert_eq!(*names.last().unwrap(), json!(format!("and {} more", left - (names.len() - 1))));
    assert_eq!(names[0], "field-08999", "of parts as large as each other, the last go first");
}

#[test]
fn nothing_is_left_out_of_what_the_server_has_room_for() {
    // More than 60,000 bytes as PHP writes it, but not as it is sent.
    let data = json!({"text": "ž".repeat(20_000), "path": "/".repeat(10_000)});
    let outcome = Outcome::success(data.clone());
    assert_eq!(kept(outcome.clone(), COLUMN, plain)["data"], data);
    let result = kept(outcome, COLUMN, stored);
    assert_eq!((&result["data"], &result["data_omitted"]), (&json!({"path": data["path"]}), &json!(["text"])));
}

/// An outcome with `huge` in every place that a handler can fill.
fn all_huge(huge: &str, data: Value, failed: bool) -> Outcome {
    let mut outcome = Outcome::success(data);
    outcome.message = Some(huge.to_owned());
    outcome.metadata.insert("notes".into(), json!(huge));
    outcome.metadata.insert("kept".into(), json!(1));
    if failed {
        outcome.failure = Outcome::failure(ErrorType::Other(huge.to_owned()), huge).failure;
    }
    outcome
}

#[test]
fn results_of_any_size_are_accepted() {
    let huge =
        ["x".repeat(61_000), "ž".repeat(31_000), "🐝".repeat(16_000), "/".repeat(61_000), "\u{1}".repeat(11_000)];
    for (number, huge) in huge.iter().enumerate() {
        let mut failed = number % 2 == 0;
        for data in
            [json!(huge), json!({"text": huge, "n": 1}), json!([huge, 1]), json!({huge.clone(): 1}), Value::Null]
        {
            failed = !failed;
            for most in [COLUMN, 25_000] {
                let result = kept(all_huge(huge, data.clone(), failed), most, stored);
                assert_eq!(result["success"], json!(!failed));
                let metadata = &result["metadata"];
                assert_eq!((&metadata["worker_id"], &metadata["kept"]), (&json!("worker-1"), &json!(1)));
                assert_eq!(result["metadata_omitted"], json!(["notes"]));
                let message = result["message"].as_str().unwrap();
                assert!(message.ends_with('…') && huge.starts_with(message.trim_end_matches('…')), "cut elsewhere");
                assert!(data.get("n").is_none() || result["data"]["n"] == 1, "{}", result["data"]);
            }
        }
    }
}

#[test]
fn ideas_are_told_by_their_ids() {
    let idea = |id: u64| json!({"id": id, "title": "Why bees dance", "content": "x".repeat(5_000)});
    let data = json!({"ideas": [idea(7), idea(8)], "videos": [{"idea_id": 7}]});
    let told = json!({"ideas": [{"id": 7}, {"id": 8}], "videos": [{"idea_id": 7}]});
    let result = kept(Outcome::success(data.clone()), COLUMN, stored);
    assert_eq!((&result["data"], result.get("data_omitted")), (&told, None));
    // Ideas of failures, and of results that could not be stored, were not kept.
    assert_eq!(kept(failure_with(data.clone()), COLUMN, stored)["data"], data);
    let unkept = json!({"ideas": [{"title": "Why bees dance"}]});
    assert_eq!(kept(Outcome::success(unkept.clone()), COLUMN, stored)["data"], unkept);

    let many: Vec<Value> = (1_000_000..1_010_000).map(|id| json!({"id": id, "title": "Why bees dance"})).collect();
    let data = json!({"ideas": many, "count": 10_000});
    let result = kept(Outcome::success(data.clone()), COLUMN, stored);
    assert_eq!((&result["data"], &result["data_omitted"]), (&json!({"count": 10_000}), &json!(["ideas"])));
    assert_eq!(result["data_bytes"], json!(data.to_string().len()), "of the data as the results file has it");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-z/žě🐝\"\n]{0,40}".prop_map(Value::from),
        (1_000_usize..30_000).prop_map(|length| json!("ab/ž".repeat(length / 4))),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            btree_map("[a-zž/]{0,9}", inner, 0..8).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Whether `found` is `whole` without some parts.
fn is_part(found: &Value, whole: &Value) -> bool {
    match (found, whole) {
        (Value::Object(found), Value::Object(whole)) => {
            found.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| is_part(value, whole)))
        }
        (Value::Array(found), Value::Array(whole)) => {
            found.len() == whole.len()
                && found.iter().zip(whole).all(|(found, whole)| found.is_null() || is_part(found, whole))
        }
        _ => found == whole,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn kept_data_is_part_of_the_original_and_fits(data in any_value(), count in any::<bool>()) {
        let count: fn(&Value) -> usize = if count { plain } else { stored };
        let result = kept(Outcome::success(data.clone()), COLUMN, count);
        let found = result.get("data").cloned().unwrap_or_default();
        prop_assert!(count(&result) <= COLUMN);
        prop_assert!(found.is_null() || is_part(&found, &data));
        prop_assert_eq!(found == data, result.get("data_omitted").is_none());
    }
}
