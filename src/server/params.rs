//! Params of tasks: their schemas, and the key for deduplication.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::os_error;
use crate::schema::{self, ErrorDetail, Fault, Schema};

/// Maximum number of compiled schemas. Each takes several times its length, and memory for its patterns.
const MAX_COMPILED: usize = 200;
/// Maximum number of regex states in all of them together.
const MAX_STATES: u64 = 1_000_000;
/// Time-out of a check or a compilation, and of waiting for a permit.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of checks and compilations in other threads; further ones wait.
const MAX_CONCURRENT: usize = 2;

/// Compiled JSON Schemas by type. A schema is compiled again when its text changes.
#[derive(Default)]
pub(super) struct Schemas {
    compiled: HashMap<i64, (String, Arc<Schema>)>,
}

impl Schemas {
    /// Returns the compiled schema of a type, if it is cached.
    pub(super) fn get(&self, type_id: i64, text: &str) -> Option<Arc<Schema>> {
        let (known, schema) = self.compiled.get(&type_id)?;
        (known == text).then(|| Arc::clone(schema))
    }

    pub(super) fn insert(&mut self, type_id: i64, text: String, schema: Arc<Schema>) {
        self.compiled.remove(&type_id);
        let states = |this: &Self| this.compiled.values().map(|(_, schema)| schema.states()).sum::<u64>();
        while self.compiled.len() >= MAX_COMPILED || states(self) + schema.states() > MAX_STATES {
            // Evict any schema: it is compiled again when needed.
            let Some(any) = self.compiled.keys().next().copied() else { break };
            self.compiled.remove(&any);
        }
        self.compiled.insert(type_id, (text, schema));
    }
}

/// Compiles schemas and checks params, in other threads if it may take long.
pub(super) struct SchemaChecker(Arc<Semaphore>);

impl Default for SchemaChecker {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

/// Why params or a schema are rejected.
#[derive(Debug)]
pub(super) enum ParamsError {
    /// They are invalid.
    Invalid(String),
    /// The check did not finish in time.
    Busy(String),
}

impl SchemaChecker {
    pub(super) async fn compile(&self, schema: &Value) -> Result<Arc<Schema>, ParamsError> {
        let schema = schema.clone();
        let (sender, compiled) = oneshot::channel();
        let permit = self.permit().await?;
        let compile = move || {
            let compiled = Schema::new(&schema);
            drop(permit);
            _ = sender.send(compiled);
        };
        let busy = |error| {
            ParamsError::Busy(format!("cannot start a thread to compile the schema: {}", os_error::message(&error)))
        };
        schema::spawn(compile).map_err(busy)?;
        match timeout(TIMEOUT, compiled).await {
            Ok(Ok(compiled)) => compiled.map(Arc::new).map_err(|fault| ParamsError::Invalid(to_message(&fault))),
            // The sender is dropped if the compiler panics.
            Ok(Err(_)) => Err(ParamsError::Invalid("it cannot be compiled".to_owned())),
            Err(_) => Err(ParamsError::Busy("the schema is still being compiled".to_owned())),
        }
    }

    /// Checks params against a schema. The error says what is wrong and where in the params, as a JSON pointer.
    pub(super) async fn check(&self, schema: &Arc<Schema>, params: &Arc<Value>) -> Result<(), ParamsError> {
        let checked = match schema.check_now(params, ErrorDetail::WithoutValue) {
            Some(checked) => checked,
            None => self.check_in_thread(schema, Arc::clone(params)).await?,
        };
        checked.map_err(|fault| ParamsError::Invalid(to_message(&fault)))
    }

    async fn check_in_thread(
        &self,
        schema: &Arc<Schema>,
        params: Arc<Value>,
    ) -> Result<Result<(), Fault>, ParamsError> {
        let permit = self.permit().await?;
        let (sender, checked) = oneshot::channel();
        let check = move |schema: &Schema| {
            let checked = schema.check(&params, ErrorDetail::WithoutValue);
            drop(permit);
            checked
        };
        let _waiting = schema.start(check, move |checked| _ = sender.send(checked)).map_err(ParamsError::Busy)?;
        let checked = timeout(TIMEOUT, checked).await.ok().and_then(Result::ok);
        checked.ok_or_else(|| ParamsError::Busy(schema::too_long(TIMEOUT)))
    }

    /// Checks params against a schema. Returns all violations, up to a limit.
    pub(super) async fn faults(&self, schema: &Arc<Schema>, params: &Arc<Value>) -> Result<Vec<String>, ParamsError> {
        if let Some(faults) = schema.faults_now(params) {
            return Ok(faults.iter().map(to_message).collect());
        }
        match self.check(schema, params).await {
            Ok(()) => Ok(Vec::new()),
            Err(ParamsError::Invalid(fault)) => Ok(vec![fault]),
            Err(busy) => Err(busy),
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ParamsError> {
        let permit = timeout(TIMEOUT, Arc::clone(&self.0).acquire_owned()).await;
        // The semaphore is never closed.
        permit.ok().and_then(Result::ok).ok_or_else(|| ParamsError::Busy("too many checks are under way".to_owned()))
    }
}

fn to_message(fault: &Fault) -> String {
    let Fault { path, message } = fault;
    if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
}

/// Params in canonical form, with their deduplication key.
pub(super) struct NewParams {
    pub(super) text: String,
    pub(super) dedupe_key: String,
}

impl NewParams {
    pub(super) fn of(task_type: &str, params: &Value) -> Self {
        let text = params.to_string();
        Self { dedupe_key: dedupe_key(task_type, &text), text }
    }
}

/// Returns the deduplication key of a task: SHA-256 of its type and its params in canonical form (sorted keys, no white
/// space).
pub(super) fn dedupe_key(task_type: &str, params: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(task_type);
    // JSON contains no NUL, so different pairs never have the same bytes.
    hash.update([0]);
    hash.update(params);
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_in_canonical_form() {
        // A dependency that turned on serde_json's `preserve_order` would change every key.
        let value: Value = serde_json::from_str(r#"{ "b": {"z": 1, "y": [ ]}, "a": 1.0 }"#).unwrap();
        assert_eq!(value.to_string(), r#"{"a":1.0,"b":{"y":[],"z":1}}"#);
    }

    #[test]
    fn schemas_with_large_patterns_are_not_kept_all() {
        let text = serde_json::json!({"type": "object", "patternProperties": {"[ab]{9999}": {}, "[cd]{9999}": {}}});
        let schema = Arc::new(Schema::new(&text).unwrap());
        let mut schemas = Schemas::default();
        for type_id in 1..=20 {
            schemas.insert(type_id, "text".to_owned(), Arc::clone(&schema));
            assert!(schemas.get(type_id, "text").is_some());
        }
        assert_eq!(schemas.compiled.len(), 6);
    }

    #[test]
    fn the_deduplication_key_never_changes() {
        // `printf 'example.any\0{"a":1}' | sha256sum`: files that exist depend on it.
        let key = "ba9fb53bdcbd4adf4aa6533f44a5d57137c1309741c2324b1d29cefb8e7f77ec";
        assert_eq!(dedupe_key("example.any", r#"{"a":1}"#), key);
    }
}
