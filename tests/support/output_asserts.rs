//! Assertions about the output of commands.

use serde_json::{Value, json};

use super::Output;

/// Asserts that a command printed only a note that nothing was found.
#[track_caller]
pub(crate) fn finds_nothing(output: &Output, note: &str) {
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (0, "", note));
}

/// Asserts that a command ended with this code, printed no results, and one error line with these words.
#[track_caller]
pub(crate) fn complains(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code(), code, "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    says_once(output, words);
}

/// Asserts that standard error holds one line, which is an error with these words.
#[track_caller]
pub(crate) fn says_once(output: &Output, words: &[&str]) {
    let stderr = output.stderr.as_str();
    assert!(stderr.starts_with("prismq: ") && stderr.ends_with('\n') && stderr.lines().count() == 1, "{output:?}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
    }
}

/// Asserts that a command ended with this code and nothing but one JSON error on standard error. Returns the error.
#[track_caller]
pub(crate) fn complains_in_json(output: &Output, code: i32) -> Value {
    assert_eq!((output.code(), output.stdout.as_str()), (code, ""), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["code", "error", "hint"], "{error}");
    assert_eq!(error["code"], json!(code));
    assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    assert!(error["hint"].is_null() || error["hint"].is_string(), "{error}");
    error
}
