//! Stopping a check for which nobody waits any more.
//!
//! The library goes on until it is done. So each subschema that may be much work gets a keyword of ours, which looks
//! whether anybody still waits; if not, it unwinds the thread of the check.

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

/// What it is called. Where somebody's schema has it, nothing changes.
pub(super) const KEYWORD: &str = "$prismq-look";

thread_local! {
    /// Whether the wait for the check in this thread is over.
    static OVER: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Has the check in this thread, and every later one, stop when `over` is true.
pub(super) fn when(over: Arc<AtomicBool>) {
    OVER.set(Some(over));
}

/// Unwinds the thread where nobody waits for its check.
pub(super) fn look() {
    let is_over = OVER.with_borrow(|over| over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed)));
    if is_over {
        panic::resume_unwind(Box::new("stopped"));
    }
}

/// The keyword.
pub(super) struct Look;

impl<'i> Keyword<'i> for Look {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        look();
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        look();
        true
    }
}

/// What the library says, with the schema in it as it was written.
pub(super) fn without_looks(message: String) -> String {
    let look = format!("\"{KEYWORD}\":true");
    if !message.contains(&look) {
        return message;
    }
    // It is never alone.
    message.replace(&format!("{look},"), "").replace(&format!(",{look}"), "")
}

/// The same schema with the keyword in the subschemas at `places`.
pub(super) fn with_looks(schema: &Value, places: &HashSet<*const Value>) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(|item| with_looks(item, places)).collect(),
        Value::Object(fields) => {
            let is_place = places.contains(&std::ptr::from_ref(schema));
            let is_data = |name: &str| is_place && ["const", "default", "enum", "examples"].contains(&name);
            let copied = |(name, value): (&String, &Value)| {
                (name.clone(), if is_data(name) { value.clone() } else { with_looks(value, places) })
            };
            let look = is_place.then(|| (KEYWORD.to_owned(), Value::Bool(true)));
            fields.iter().map(copied).chain(look).collect()
        }
        _ => schema.clone(),
    }
}
