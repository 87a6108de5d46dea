//! Schemas that ask for more work than there is time: they hold up nobody.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::Api;

/// A schema whose references double at each of so many levels.
fn doubling(levels: usize) -> Value {
    let mut definitions = serde_json::Map::new();
    for n in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"allOf": [next, next]}));
    }
    definitions.insert(format!("d{levels}"), json!({}));
    json!({"type": "object", "$defs": definitions, "$ref": "#/$defs/d0"})
}

#[test]
fn a_schema_of_exponential_size_is_refused_at_registration() {
    for published in [false, true] {
        let api = Api::start_with(|settings| settings.faults.published = published);
        let register = |schema: Value| {
            api.post("/task-types/register", json!({"name": "a", "version": "1", "param_schema": schema}))
        };
        register(doubling(40)).assert_error(
            400,
            "Invalid JSON schema: more than 10000 subschemas apply at one place, with references resolved",
        );
        let long = json!({"type": "object", "$comment": "x".repeat(65_536)});
        register(long).assert_error(400, "Invalid JSON schema: longer than 65535 bytes");
        assert_eq!(register(doubling(8)).status, 200);
        assert_eq!(api.post("/tasks", json!({"type": "a", "params": {"a": 1}})).status, 200);
    }
}

#[test]
fn params_that_take_too_long_to_check_are_refused() {
    let api = Api::start();
    // What doubles with each level, and is a circle only after 40 of them.
    let level = |n: usize| {
        let next = json!({"$ref": format!("#/$defs/d{}", (n + 1) % 40)});
        (format!("d{n}"), json!({"properties": {"a": {"allOf": [next, next]}}}))
    };
    let levels: serde_json::Map<_, _> = (0..40).map(level).collect();
    api.register("a", json!({"type": "object", "$defs": levels, "$ref": "#/$defs/d0"}));
    let params = |depth: usize| (0..depth).fold(json!({}), |inside, _| json!({"a": inside}));
    api.post("/tasks", json!({"type": "a", "params": params(60)}))
        .assert_error(400, "Parameter validation failed: it takes too much work to check them against the schema");
    api.create("a", params(5));
}

#[test]
fn other_calls_are_answered_while_params_are_checked() {
    let api = Api::start();
    api.register(
        "a",
        json!({"type": "object", "properties": {"v": {"items": {"allOf": vec![json!({"minimum": 1}); 100]}}}}),
    );
    let create = |value: u32| {
        let start = Instant::now();
        api.post("/tasks", json!({"type": "a", "params": {"v": vec![value; 20_000]}})).data();
        start.elapsed()
    };
    let answered_at_once = |value| {
        thread::scope(|scope| {
            let created = scope.spawn(|| create(value));
            let mut slowest = Duration::ZERO;
            while !created.is_finished() {
                let start = Instant::now();
                api.get("/health").data();
                slowest = slowest.max(start.elapsed());
            }
            // Behind the check, an answer takes almost as long as that.
            slowest * 2 < created.join().unwrap()
        })
    };
    // On a busy machine, an answer may be late once.
    assert!((1..=5).any(answered_at_once));
}
