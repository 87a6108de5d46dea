//! Built-in handlers for trying prismq out: `echo`, `sleep` and `fail`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::envelope::failure_from_fields;
use super::{Handler, Run};
use crate::task::{Claim, ErrorType, Failure, Outcome};

/// Returns the handler called `name`.
#[must_use]
pub(crate) fn builtin(name: &str) -> Option<Arc<dyn Handler>> {
    match name {
        "echo" => Some(Arc::new(echo)),
        "sleep" => Some(Arc::new(sleep)),
        "fail" => Some(Arc::new(fail)),
        _ => None,
    }
}

/// Returns the JSON Schema of the params that the handler called `name` takes.
#[must_use]
pub(crate) fn builtin_schema(name: &str) -> Option<Value> {
    match name {
        "echo" => Some(json!({"type": "object"})),
        // `seconds` has no type because the published TaskManager rejects whole numbers for "number".
        "sleep" => Some(json!({"type": "object", "properties": {"seconds": {"minimum": 0, "default": 1}}})),
        "fail" => Some(json!({
            "type": "object",
            "properties": {
                "error": {"type": "string"},
                "error_type": {"type": "string"},
                "retryable": {"type": "boolean"},
            },
        })),
        _ => None,
    }
}

/// Returns the params.
fn echo(claim: &Claim, _: &Run<'_>) -> Outcome {
    Outcome::success(claim.task.params.clone())
}

/// Sleeps for `seconds`.
fn sleep(claim: &Claim, run: &Run<'_>) -> Outcome {
    let seconds = claim.task.params.get("seconds").cloned().unwrap_or_else(|| json!(1));
    let Some(duration) = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        let error = format!("seconds must be a number from 0, not {seconds}");
        return Outcome::failure(ErrorType::Validation, error);
    };
    run.sleep(duration).unwrap_or_else(|| Outcome::success(json!({"slept": seconds})))
}

/// Fails in the way that the params describe.
fn fail(claim: &Claim, _: &Run<'_>) -> Outcome {
    let empty = Map::new();
    let fields = claim.task.params.as_object().unwrap_or(&empty);
    failure_from_fields(fields, Failure::new(ErrorType::Handler, "asked to fail")).into()
}
