//! Removes secrets from a handler's output before it reaches logs, results or the TaskManager.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};

use crate::task::{ErrorType, Failure, Outcome};

/// Replacement for a secret.
const REDACTED: &str = "***";
/// Values with fewer characters are not redacted: they would match in any text.
const SHORTEST: usize = 4;

/// Replaces secrets in texts and JSON.
pub(crate) struct Redactor {
    secrets: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl Redactor {
    /// Creates a redactor for `values`. It also matches each line of a value alone, since output may be read line by
    /// line, and values as JSON strings escape them.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(|value| iter::once(value).chain(value.lines())).map(str::trim);
        let long = lines.filter(|secret| secret.chars().count() >= SHORTEST);
        let secrets: BTreeSet<String> = long.flat_map(|secret| [secret.to_owned(), in_json(secret)]).collect();
        let secrets: Vec<String> = secrets.into_iter().collect();
        // Fails only beyond 2^31 states, about one a byte: no environment is that large.
        let finder = (!secrets.is_empty()).then(|| AhoCorasick::new(&secrets).expect("there are few secrets"));
        Self { secrets, finder }
    }

    /// Redacts `text`.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        replace(text, &self.find(text))
    }

    /// Redacts `start`, a text whose end was cut off: the beginning of a secret at its end is replaced too.
    pub(super) fn start_of_text<'t>(&self, start: &'t str) -> Cow<'t, str> {
        let mut ranges = self.find(start);
        if let Some(length) = self.secrets.iter().filter_map(|secret| part_at_end(start, secret)).max() {
            add(&mut ranges, start.len() - length..start.len());
        }
        replace(start, &ranges)
    }

    /// Redacts strings, keys of objects, and numbers.
    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.string(text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(object) => Value::Object(self.object(object)),
            Value::Number(number) if self.secrets.contains(&number.to_string()) => REDACTED.into(),
            other => other,
        }
    }

    fn object(&self, object: Map<String, Value>) -> Map<String, Value> {
        object.into_iter().map(|(key, value)| (self.string(key), self.value(value))).collect()
    }

    fn string(&self, text: String) -> String {
        match self.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(redacted) => redacted,
        }
    }

    /// Redacts `outcome`.
    pub(crate) fn outcome(&self, outcome: Outcome) -> Outcome {
        if self.finder.is_none() {
            return outcome;
        }
        let Outcome { failure, data, message, metadata, not_before, stderr_tail } = outcome;
        Outcome {
            failure: failure.map(|failure| self.failure(failure)),
            data: self.value(data),
            message: message.map(|message| self.string(message)),
            metadata: self.object(metadata),
            not_before,
            stderr_tail: self.string(stderr_tail),
        }
    }

    fn failure(&self, failure: Failure) -> Failure {
        let error_type = match failure.error_type {
            ErrorType::Other(name) => ErrorType::Other(self.string(name)),
            known => known,
        };
        Failure { error: self.string(failure.error), error_type, retryable: failure.retryable }
    }

    /// Returns the ranges of secrets, sorted; overlapping ones are merged, so that no part of them remains.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        for found in self.finder.iter().flat_map(|finder| finder.find_overlapping_iter(text)) {
            add(&mut ranges, found.range());
        }
        ranges
    }
}

/// Adds a range that ends after all others, and merges the ones that overlap it.
fn add(ranges: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(last) = ranges.pop_if(|last| last.end > range.start) {
        range.start = range.start.min(last.start);
    }
    ranges.push(range);
}

fn replace<'t>(text: &'t str, ranges: &[Range<usize>]) -> Cow<'t, str> {
    if ranges.is_empty() {
        return text.into();
    }
    let mut redacted = String::with_capacity(text.len());
    let mut end = 0;
    for range in ranges {
        redacted.push_str(&text[end..range.start]);
        redacted.push_str(REDACTED);
        end = range.end;
    }
    redacted.push_str(&text[end..]);
    redacted.into()
}

/// Returns `text` as a JSON string, without the quotes.
fn in_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Returns the length of the longest proper prefix of `secret` with which `text` ends.
fn part_at_end(text: &str, secret: &str) -> Option<usize> {
    let lengths = secret.char_indices().map(|(length, _)| length).rev();
    lengths.take_while(|length| *length > 0).find(|length| text.ends_with(&secret[..*length]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_occurrence_is_replaced() {
        let redactor = Redactor::new(["hunter2", "schlüssel"]);
        for (text, redacted) in [
            ("hunter2", "***"),
            ("a hunter2, a hunter2hunter2", "a ***, a ******"),
            ("mein schlüssel.", "mein ***."),
            ("hunter 2, Hunter2, hunter", "hunter 2, Hunter2, hunter"),
            ("", ""),
        ] {
            assert_eq!(redactor.text(text), redacted);
        }
    }

    #[test]
    fn nothing_is_left_of_secrets_that_overlap() {
        let redactor = Redactor::new(["abcdef", "bcde", "defghi", "zzzz"]);
        assert_eq!(redactor.text("<abcdefghi> <bcdefghi> zzzzzz"), "<***> <***> ***");
    }

    #[test]
    fn short_and_empty_values_are_left() {
        let redactor = Redactor::new(["", " \n", "abc", "äöü"]);
        assert_eq!(redactor.text("abc äöü"), "abc äöü");
        assert_eq!(Redactor::new(["äöüß"]).text("äöüß"), "***");
    }

    #[test]
    fn a_value_is_found_without_white_space_around_it_line_by_line_and_inside_of_json() {
        let redactor = Redactor::new(["padded\n", "-----BEGIN\nline one\nline \"two\"\n"]);
        assert_eq!(redactor.text("padded; line one"), "***; ***");
        assert_eq!(redactor.text(r#"{"key":"-----BEGIN\nline one\nline \"two\""}"#), r#"{"key":"***"}"#);
    }

    #[test]
    fn a_text_that_was_cut_ends_with_no_part_of_a_secret() {
        let redactor = Redactor::new(["hunter2", "terrible"]);
        assert_eq!(redactor.start_of_text("hunter2 and hunte"), "*** and ***");
        assert_eq!(redactor.start_of_text("hunter"), "***");
        assert_eq!(redactor.start_of_text("hunter2"), "***");
        assert_eq!(Redactor::new(["abcdef", "efghi"]).start_of_text("an abcdefg"), "an ***");
        assert_eq!(redactor.start_of_text("nothing"), "nothing");
    }

    #[test]
    fn all_of_an_outcome_is_redacted() {
        let redactor = Redactor::new(["hunter2", "123456"]);
        let failure = Failure {
            error: "no hunter2".into(),
            error_type: ErrorType::Other("hunter2_refused".into()),
            retryable: true,
        };
        let outcome = Outcome {
            failure: Some(failure),
            data: json!({"hunter2": [{"deep": "a hunter2"}, 123_456, 1_234_567, true, null]}),
            message: Some("hunter2!".into()),
            metadata: Map::from_iter([("is hunter2".into(), "hunter2".into())]),
            not_before: None,
            stderr_tail: "a hunter2".into(),
        };
        let redacted = redactor.outcome(outcome);
        let failure = redacted.failure.unwrap();
        assert_eq!((failure.error.as_str(), failure.error_type.as_str()), ("no ***", "***_refused"));
        assert!(failure.retryable);
        assert_eq!(redacted.data, json!({"***": [{"deep": "a ***"}, "***", 1_234_567, true, null]}));
        assert_eq!((redacted.message.as_deref(), redacted.stderr_tail.as_str()), (Some("***!"), "a ***"));
        assert_eq!(Value::Object(redacted.metadata), json!({"is ***": "***"}));
    }
}
