//! What the TaskManager has room for: 64 KiB for a result.

use serde_json::{Value, json};

use crate::task::NOT_RUN;

/// The server turns a result away that is longer than its 64 KiB column. This leaves room for what it adds.
pub const MAX_RESULT_BYTES: usize = 60_000;

/// The length from which a summary is shortened as well. A server that stores a letter as `\u017e` needs three times
/// the bytes, and there is nothing left to leave out once it has turned the summary away.
const MAX_SUMMARY_BYTES: usize = 20_000;

/// The longest error text that is sent, in bytes.
const MAX_ERROR_BYTES: usize = 8_000;

/// The result to send for an envelope: the envelope itself, or a summary where it is longer than the server keeps.
#[must_use]
pub fn fit(envelope: &Value) -> Value {
    if json_bytes(envelope) <= MAX_RESULT_BYTES { envelope.clone() } else { summary(envelope) }
}

/// An envelope without its data, whose length it gives instead.
#[must_use]
pub fn summary(envelope: &Value) -> Value {
    let mut summary = envelope.clone();
    let Value::Object(fields) = &mut summary else { return summary };
    let data = fields.remove("data").unwrap_or_default();
    fields.insert("data_bytes".into(), json!(json_bytes(&data)));
    if json_bytes(&summary) > MAX_SUMMARY_BYTES {
        shorten_texts(&mut summary);
    }
    summary
}

/// For an envelope that is too long even without its data: what a handler wrote at length goes as well.
fn shorten_texts(envelope: &mut Value) {
    for key in ["error", "error_type", "message"] {
        if let Some(text) = envelope.get(key).and_then(Value::as_str) {
            envelope[key] = json!(error_within_limit(text));
        }
    }
    if let Some(Value::Object(metadata)) = envelope.get_mut("metadata") {
        let ours = ["worker_id", "processed_at", "processing_time", "failed_at", NOT_RUN];
        metadata.retain(|key, _| ours.contains(&key.as_str()));
    }
}

/// The beginning of an error text, as long as is sent of it.
#[must_use]
pub fn error_within_limit(error: &str) -> &str {
    &error[..error.floor_char_boundary(MAX_ERROR_BYTES)]
}

/// The length of a value as JSON.
fn json_bytes(value: &Value) -> usize {
    value.to_string().len()
}
