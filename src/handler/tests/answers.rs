//! The outcome of what a handler prints and how it exits.

use crate::task::{ErrorType, Outcome};
use serde_json::{Value, json};

use super::{Bench, failure};

/// Returns the outcome of a script that prints `stdout` and exits with `code`.
fn answer(stdout: &str, code: i32) -> Outcome {
    Bench::new(&format!("cat <<'END'\n{stdout}\nEND\nexit {code}")).run()
}

#[test]
fn standard_output_becomes_the_data() {
    for (printed, data) in [
        (r#"{"words":3}"#, json!({"words": 3})),
        ("{\n  \"words\": 3\n}", json!({"words": 3})),
        (r#"{"success":"yes"}"#, json!({"success": "yes"})),
        ("[1,2]", json!([1, 2])),
        ("42", json!(42)),
        ("null", Value::Null),
        ("", Value::Null),
        ("two\nlines\n\n", json!({"output": "two\nlines"})),
        ("1 2", json!({"output": "1 2"})),
    ] {
        assert_eq!(answer(printed, 0), Outcome::success(data), "{printed:?}");
    }
}

#[test]
fn nothing_printed_is_null() {
    assert_eq!(Bench::new("exit 0").run(), Outcome::success(Value::Null));
}

#[test]
fn text_that_is_no_utf_8_is_read_as_well_as_can_be() {
    assert_eq!(Bench::new(r"printf 'a\377b'").run(), Outcome::success(json!({"output": "a\u{fffd}b"})));
}

#[test]
fn each_exit_code_has_its_meaning() {
    for (code, error_type, retryable) in [
        (65, "validation", false),
        (69, "connection", true),
        (75, "temporary", true),
        (78, "configuration", false),
        (1, "handler", false),
        (137, "handler", false),
    ] {
        let failure = failure(&Bench::new(&format!("exit {code}")).run(), error_type);
        assert_eq!(failure.retryable, retryable, "{code}");
        assert_eq!(failure.error, format!("exit code {code}"));
    }
}

#[test]
fn a_signal_is_a_crash() {
    let failure = failure(&Bench::new("echo last words >&2; kill -KILL $$").run(), "crash");
    assert!(failure.retryable);
    assert!(failure.error.contains("SIGKILL") && failure.error.contains("last words"), "{}", failure.error);
}

#[test]
fn the_last_lines_of_standard_error_are_the_error() {
    let outcome = Bench::new("i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i >&2; done; exit 1").run();
    let error = failure(&outcome, "handler").error;
    assert!(error.starts_with("line 11\n") && error.ends_with("\nline 30"), "{error}");
}

#[test]
fn the_last_lines_of_standard_error_are_kept_of_a_success_as_well() {
    let outcome = Bench::new("i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i >&2; done; echo 1").run();
    let expected: Vec<String> = (11..=30).map(|number| format!("line {number}")).collect();
    assert_eq!(outcome, Outcome { stderr_tail: expected.join("\n"), ..Outcome::success(json!(1)) });
}

#[test]
fn last_words_are_kept_of_a_failure_that_does_not_tell_them() {
    for (script, stderr_tail) in [
        (r#"echo why >&2; echo '{"success":false,"error":"another reason"}'"#, "why"),
        (r#"echo why >&2; echo '{"success":false,"error":"this is why"}'"#, ""),
        (r#"echo why >&2; echo '{"success":false}'"#, ""),
        ("echo why >&2; exit 1", ""),
        ("echo why >&2; kill -KILL $$", ""),
    ] {
        let outcome = Bench::new(script).run();
        assert!(outcome.failure.is_some() && outcome.stderr_tail == stderr_tail, "{script}: {outcome:?}");
    }
}

#[test]
fn an_envelope_of_a_success_is_kept_whole() {
    let outcome = answer(r#"{"success":true,"data":[1],"message":"well","metadata":{"model":"small"}}"#, 0);
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.data, json!([1]));
    assert_eq!(outcome.message.as_deref(), Some("well"));
    assert_eq!(Value::Object(outcome.metadata), json!({"model": "small"}));
}

#[test]
fn an_envelope_of_a_failure_is_kept_whole() {
    let outcome = answer(
        r#"{"success":false,"error":"no such video","error_type":"not_found","retryable":true,
            "data":1,"message":"sorry","metadata":{"quota":5}}"#,
        0,
    );
    let failure = failure(&outcome, "not_found");
    assert_eq!((failure.error.as_str(), failure.retryable), ("no such video", true));
    assert_eq!(outcome.data, json!(1));
    assert_eq!(outcome.message.as_deref(), Some("sorry"));
    assert_eq!(Value::Object(outcome.metadata), json!({"quota": 5}));
}

#[test]
fn missing_fields_of_a_failure_envelope_get_defaults_from_the_others() {
    let outcome = answer(r#"{"success":false}"#, 0);
    assert!(!failure(&outcome, "handler").retryable);
    assert!(!failure(&outcome, "handler").error.is_empty());

    let connection = answer(r#"{"success":false,"error":"away","error_type":"connection"}"#, 0);
    assert!(failure(&connection, "connection").retryable);

    let by_code = answer(r#"{"success":false,"error":"slow down"}"#, 75);
    let by_code = failure(&by_code, "temporary");
    assert_eq!((by_code.error.as_str(), by_code.retryable), ("slow down", true));
}

#[test]
fn an_envelope_of_a_failure_wins_over_the_exit_code() {
    let outcome = answer(r#"{"success":false,"error":"bad id","error_type":"validation"}"#, 75);
    let failure = failure(&outcome, "validation");
    assert_eq!((failure.error.as_str(), failure.retryable), ("bad id", false));
}

#[test]
fn the_exit_code_wins_over_an_envelope_of_a_success() {
    let outcome = answer(r#"{"success":true,"data":1}"#, 69);
    assert_eq!(failure(&outcome, "connection").error, "exit code 69");
    assert_eq!(outcome.data, json!(1));
}

#[test]
fn fields_of_the_wrong_kind_in_an_envelope_count_as_left_out() {
    let outcome =
        answer(r#"{"success":false,"error":7,"error_type":[],"retryable":"no","message":{},"metadata":3}"#, 0);
    let failure = failure(&outcome, "handler");
    assert_eq!(failure.error_type, ErrorType::Handler);
    assert_eq!((outcome.message, outcome.metadata.len()), (None, 0));
}
