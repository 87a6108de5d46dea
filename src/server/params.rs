//! Params of tasks: their schemas, and the key by which the same task is known again.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::os_error;
use crate::schema::{self, Fault, Schema, Telling};

/// The most schemas that are kept compiled. One takes some times its length, and what its patterns take.
const MOST_COMPILED: usize = 200;
/// The most states that the patterns of all of them have.
const MOST_STATES: u64 = 1_000_000;
/// For none of them is waited longer, nor for another to end.
const LONGEST: Duration = Duration::from_secs(10);
/// The most checks and compilations beside the thread that serves: others wait.
const MOST_AT_ONCE: usize = 2;

/// The compiled JSON Schemas, by type. One is compiled again when its text has changed.
#[derive(Default)]
pub(super) struct Schemas {
    compiled: HashMap<i64, (String, Arc<Schema>)>,
}

impl Schemas {
    /// The compiled schema of a type, if that is known already.
    pub(super) fn get(&self, type_id: i64, text: &str) -> Option<Arc<Schema>> {
        let (known, schema) = self.compiled.get(&type_id)?;
        (known == text).then(|| Arc::clone(schema))
    }

    pub(super) fn keep(&mut self, type_id: i64, text: String, schema: Arc<Schema>) {
        self.compiled.remove(&type_id);
        let states = |this: &Self| this.compiled.values().map(|(_, schema)| schema.states()).sum::<u64>();
        while self.compiled.len() >= MOST_COMPILED || states(self) + schema.states() > MOST_STATES {
            // Any will do: who needs it compiles it again.
            let Some(any) = self.compiled.keys().next().copied() else { break };
            self.compiled.remove(&any);
        }
        self.compiled.insert(type_id, (text, schema));
    }
}

/// Compiles and checks beside the thread that serves what may take long.
pub(super) struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_AT_ONCE)))
    }
}

/// Why params or a schema are not taken.
#[derive(Debug)]
pub(super) enum Trouble {
    /// They are wrong; what is, and where.
    Wrong(String),
    /// It was not known in time; why not.
    Busy(String),
}

impl Checks {
    pub(super) async fn compile(&self, schema: &Value) -> Result<Arc<Schema>, Trouble> {
        let schema = schema.clone();
        let (sender, compiled) = oneshot::channel();
        let permit = self.permit().await?;
        let compile = move || {
            let compiled = Schema::new(&schema);
            drop(permit);
            _ = sender.send(compiled);
        };
        let busy = |error| Trouble::Busy(format!("no thread to read the schema in: {}", os_error::words(&error)));
        schema::spawn(compile).map_err(busy)?;
        match timeout(LONGEST, compiled).await {
            Ok(Ok(compiled)) => compiled.map(Arc::new).map_err(|fault| Trouble::Wrong(told(&fault))),
            // The sender is gone where the compiler has panicked.
            Ok(Err(_)) => Err(Trouble::Wrong("it cannot be compiled".to_owned())),
            Err(_) => Err(Trouble::Busy("the schema is still being compiled".to_owned())),
        }
    }

    /// Checks params against a schema. The error says what is wrong and where in the params, as a JSON pointer.
    pub(super) async fn check(&self, schema: &Arc<Schema>, params: &Arc<Value>) -> Result<(), Trouble> {
        let checked = match schema.check_now(params, Telling::NoValue) {
            Some(checked) => checked,
            None => self.check_beside(schema, Arc::clone(params)).await?,
        };
        checked.map_err(|fault| Trouble::Wrong(told(&fault)))
    }

    async fn check_beside(&self, schema: &Arc<Schema>, params: Arc<Value>) -> Result<Result<(), Fault>, Trouble> {
        let permit = self.permit().await?;
        let (sender, checked) = oneshot::channel();
        let check = move |schema: &Schema| {
            let checked = schema.check(&params, Telling::NoValue);
            drop(permit);
            checked
        };
        let _waiting = schema.start(check, move |checked| _ = sender.send(checked)).map_err(Trouble::Busy)?;
        let checked = timeout(LONGEST, checked).await.ok().and_then(Result::ok);
        checked.ok_or_else(|| Trouble::Busy(schema::too_long(LONGEST)))
    }

    /// The same for all that is wrong, as far as people read.
    pub(super) async fn faults(&self, schema: &Arc<Schema>, params: &Arc<Value>) -> Result<Vec<String>, Trouble> {
        if let Some(faults) = schema.faults_now(params) {
            return Ok(faults.iter().map(told).collect());
        }
        match self.check(schema, params).await {
            Ok(()) => Ok(Vec::new()),
            Err(Trouble::Wrong(fault)) => Ok(vec![fault]),
            Err(busy) => Err(busy),
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Trouble> {
        let permit = timeout(LONGEST, Arc::clone(&self.0).acquire_owned()).await;
        // It is never closed.
        permit.ok().and_then(Result::ok).ok_or_else(|| Trouble::Busy("too many checks are under way".to_owned()))
    }
}

fn told(fault: &Fault) -> String {
    let Fault { path, message } = fault;
    if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
}

/// Params in canonical form, and the key of a task that has them.
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

/// The key of a task: SHA-256 over its type and its params in their canonical form (keys sorted, no white space).
pub(super) fn dedupe_key(task_type: &str, params: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(task_type);
    // No JSON holds a bare NUL, so no two pairs run together to the same bytes.
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
            schemas.keep(type_id, "text".to_owned(), Arc::clone(&schema));
            assert!(schemas.get(type_id, "text").is_some());
        }
        assert_eq!(schemas.compiled.len(), 6);
    }

    #[test]
    fn the_key_is_the_same_for_ever() {
        // `printf 'example.any\0{"a":1}' | sha256sum`: files that exist depend on it.
        let key = "ba9fb53bdcbd4adf4aa6533f44a5d57137c1309741c2324b1d29cefb8e7f77ec";
        assert_eq!(dedupe_key("example.any", r#"{"a":1}"#), key);
    }
}
