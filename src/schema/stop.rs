//! Stops checks whose caller has stopped waiting.
//!
//! The library cannot be interrupted. So a custom keyword is added to each subschema that may take much work; it unwinds
//! the thread if the check was stopped.

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

/// The name of the keyword. It is harmless if a schema contains it already.
pub(super) const KEYWORD: &str = "$prismq-look";

thread_local! {
    /// Whether to stop the check in this thread.
    static ENDED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Makes the checks in this thread stop when `ended` becomes true.
pub(super) fn stop_when(ended: Arc<AtomicBool>) {
    ENDED.set(Some(ended));
}

/// Unwinds the thread if its check was stopped.
pub(super) fn check_stopped() {
    let is_ended = ENDED.with_borrow(|ended| ended.as_ref().is_some_and(|ended| ended.load(Ordering::Relaxed)));
    if is_ended {
        panic::resume_unwind(Box::new("stopped"));
    }
}

/// The implementation of the keyword.
pub(super) struct StopCheck;

impl<'i> Keyword<'i> for StopCheck {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        check_stopped();
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        check_stopped();
        true
    }
}

/// Removes the keyword from a message of the library.
pub(super) fn without_stop_keyword(message: String) -> String {
    let keyword = format!("\"{KEYWORD}\":true");
    if !message.contains(&keyword) {
        return message;
    }
    // The keyword is never the only one.
    message.replace(&format!("{keyword},"), "").replace(&format!(",{keyword}"), "")
}

/// Adds the keyword to the subschemas of `schema` at `places`.
pub(super) fn with_stop_keyword(schema: &Value, places: &HashSet<*const Value>) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(|item| with_stop_keyword(item, places)).collect(),
        Value::Object(fields) => {
            let is_place = places.contains(&std::ptr::from_ref(schema));
            let is_data = |name: &str| is_place && ["const", "default", "enum", "examples"].contains(&name);
            let copied = |(name, value): (&String, &Value)| {
                (name.clone(), if is_data(name) { value.clone() } else { with_stop_keyword(value, places) })
            };
            let keyword = is_place.then(|| (KEYWORD.to_owned(), Value::Bool(true)));
            fields.iter().map(copied).chain(keyword).collect()
        }
        _ => schema.clone(),
    }
}
