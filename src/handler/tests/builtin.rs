//! The built-in handlers.

use std::time::{Duration, Instant};

use crate::handler::{builtin, builtin_schema};
use crate::shutdown::CancelReason;
use crate::task::Outcome;
use serde_json::{Value, json};

use super::{Bench, failure, run};

fn work(name: &str, params: Value, timeout: Duration, stop: Option<CancelReason>) -> Outcome {
    let bench = Bench::new("");
    if stop.is_some() {
        bench.listener.stop.raise(stop);
    }
    run(&*builtin(name).unwrap(), params, &bench.listener, timeout)
}

fn quick(name: &str, params: Value) -> Outcome {
    work(name, params, Duration::from_secs(60), None)
}

#[test]
fn each_has_a_handler_and_a_schema() {
    for name in ["echo", "sleep", "fail"] {
        assert_eq!(builtin(name).unwrap().check(), Ok(()));
        let schema = builtin_schema(name).unwrap();
        assert_eq!(schema["type"], "object", "{name}");
        assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&json!({})), "{name}");
    }
    assert!(builtin("other").is_none() && builtin_schema("other").is_none());
}

#[test]
fn echo_hands_back_the_params() {
    assert_eq!(quick("echo", json!({"a": [1]})), Outcome::success(json!({"a": [1]})));
}

#[test]
fn sleep_sleeps_as_long_as_it_should() {
    let start = Instant::now();
    assert_eq!(quick("sleep", json!({"seconds": 0.05})), Outcome::success(json!({"slept": 0.05})));
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn sleep_obeys_its_time_and_its_stop_at_once() {
    let start = Instant::now();
    let params = json!({"seconds": 60});
    failure(&work("sleep", params.clone(), Duration::from_millis(20), None), "timeout");
    failure(&work("sleep", params, Duration::from_secs(60), Some(CancelReason::Shutdown)), "shutdown");
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn sleep_refuses_params_that_are_no_time() {
    for seconds in [json!(-1), json!("1"), json!(null), json!(1e300)] {
        let failure = failure(&quick("sleep", json!({"seconds": seconds})), "validation");
        assert!(!failure.retryable && failure.error.contains("seconds"), "{failure:?}");
    }
}

#[test]
fn fail_fails_as_asked() {
    let plain = failure(&quick("fail", json!({})), "handler");
    assert_eq!((plain.error.as_str(), plain.retryable), ("asked to fail", false));

    let typed = failure(&quick("fail", json!({"error": "no route", "error_type": "connection"})), "connection");
    assert_eq!((typed.error.as_str(), typed.retryable), ("no route", true));

    let odd = failure(&quick("fail", json!({"error_type": "connection", "retryable": false})), "connection");
    assert!(!odd.retryable);
}
