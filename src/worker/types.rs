//! The task types of a worker: the configuration of each, joined with what the TaskManager knows. Params are checked
//! against the schema of their type before a handler runs: the servers' own checks are partial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::snooze::Snooze;
use crate::clock::Timestamp;
use crate::config::{self, Config, Retry};
use crate::handler::Handler;
use crate::json::{self, MAX_DEPTH};
use crate::schema::{self, CheckResult, Fault};
use crate::shutdown::CancelToken;
use crate::taskmanager::{Client, Error, TaskTypeView};

/// A task type with its handler, id and limits.
pub(crate) struct WorkerType {
    pub name: String,
    id: AtomicU64,
    gone: AtomicBool,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) schema: Option<ParamSchema>,
    /// Maximum time of an attempt, if claims are renewed.
    timeout: Duration,
    claim_timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) retry: Retry,
    pub(super) snooze: Snooze,
}

/// Why a type cannot be worked. The text is one line for a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// The configuration is wrong, or the handler cannot run. The text is one line for a person.
    #[error("{0}")]
    Configuration(String),
    /// The TaskManager has no type of that name.
    #[error("the TaskManager has no task type {0}")]
    Unknown(String),
    /// The TaskManager did not answer, or refused.
    #[error(transparent)]
    TaskManager(Error),
}

impl WorkerType {
    /// Returns the type's id at the TaskManager.
    pub(super) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Returns the maximum time of an attempt. Unless the server `renews` claims, a handler must be done before its claim
    /// expires.
    pub(super) fn timeout(&self, renews: bool) -> Duration {
        if renews { self.timeout } else { self.timeout.min(self.claim_timeout) }
    }

    /// Whether the TaskManager had no such type when it was last asked.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Requests the id again, since the server may have been set up anew. False if the type is gone.
    pub(super) fn look_up(&self, client: &Client) -> Result<bool, Error> {
        let found = client.task_type(&self.name)?;
        if let Some(found) = &found {
            self.id.store(found.id, Ordering::Relaxed);
        }
        self.gone.store(found.is_none(), Ordering::Relaxed);
        Ok(found.is_some())
    }

    /// Returns until when its handler takes no tasks; `None` if it takes tasks at `now`.
    #[must_use]
    pub(crate) fn snoozed_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.handler.not_before().filter(|until| *until > now)
    }

    /// Ends the handler's idle processes.
    pub(crate) fn end_idle(&self, stop: &CancelToken) {
        self.handler.end_idle(stop);
    }

    /// Joins a configured type and its handler with what the TaskManager knows of it. Calls `warn` with what is odd but
    /// works.
    pub(crate) fn resolve(
        settings: &config::TaskType,
        handler: Arc<dyn Handler>,
        config: &Config,
        client: &Client,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, TypeError> {
        let known = client.task_type(&settings.name).map_err(TypeError::TaskManager)?;
        let known = known.ok_or_else(|| TypeError::Unknown(settings.name.clone()))?;
        let claim_timeout = config.claim_timeout.value;
        Ok(Self {
            name: settings.name.clone(),
            id: AtomicU64::new(known.id),
            gone: AtomicBool::new(false),
            handler,
            schema: schema(settings, &known, warn).map_err(TypeError::Configuration)?,
            timeout: settings.timeout.unwrap_or_else(|| default_timeout(claim_timeout)),
            claim_timeout,
            concurrency: settings.concurrency.unwrap_or(usize::MAX),
            retry: settings.retry,
            snooze: Snooze::default(),
        })
    }
}

/// Provides the handlers that a configuration can name.
pub(crate) trait HandlerSource: Sync {
    /// Returns the handler of a configured type, even if it could not run now. The error is one line for a person.
    fn handler(&self, settings: &config::TaskType) -> Result<Arc<dyn Handler>, String>;

    /// Returns the schema to register a configured type with.
    fn schema(&self, settings: &config::TaskType) -> Value;

    /// Removes some rows that handlers no longer need. True if there may be more. Called now and then while the worker
    /// runs.
    fn prune(&self) -> bool;
}

/// Returns the message about a type without a handler.
#[must_use]
pub(crate) fn no_handler(name: &str) -> String {
    format!(
        "the task type {name} has no handler: write `exec = [\"PROGRAM\"]` or `handler = \"NAME\"` below its name \
         in prismq.toml"
    )
}

/// Compiles a type's schema. A broken schema in the configuration is an error; a broken one of the server is skipped
/// with a warning.
fn schema(
    settings: &config::TaskType,
    known: &TaskTypeView,
    warn: &mut dyn FnMut(String),
) -> Result<Option<ParamSchema>, String> {
    if let Some(schema) = &settings.schema {
        let schema = ParamSchema::new(schema);
        return schema.map(Some).map_err(|error| format!("the schema of {}: {error}", settings.name));
    }
    if known.param_schema == Value::Null {
        return Ok(None);
    }
    match ParamSchema::new(&known.param_schema) {
        Ok(schema) => Ok(Some(schema)),
        Err(error) => {
            warn(format!("params of {} are not checked: the TaskManager's schema: {error}", known.name));
            Ok(None)
        }
    }
}

/// Returns the claim timeout less 10 s for the report, or half of it if it is short.
#[must_use]
pub(crate) fn default_timeout(claim_timeout: Duration) -> Duration {
    claim_timeout.saturating_sub(Duration::from_secs(10)).max(claim_timeout / 2)
}

/// The JSON Schema of a type's params, ready to check them with.
pub(super) struct ParamSchema {
    /// `None` if the schema only says that params are an object, as that of a type that was registered without one. The
    /// first schema that is compiled costs 1.3 MB.
    compiled: Option<Arc<schema::Schema>>,
    schema: Value,
}

/// Checks that `schema` is a JSON Schema. The error is one line.
pub(crate) fn check_schema(schema: &Value) -> Result<(), String> {
    ParamSchema::new(schema).map(drop)
}

/// Checks params against this worker's own limits, since another TaskManager may have others. The error is one line.
pub(super) fn check_limits(params: &Value) -> Result<(), String> {
    json::check(params, MAX_DEPTH).map_err(|error| format!("params are {error}"))?;
    json::omission_reason(params).map_or(Ok(()), |why| Err(format!("params cannot be read: {why}")))
}

impl ParamSchema {
    /// Compiles a schema. The error is one line.
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        if *schema == json!({"type": "object"}) {
            return Ok(Self { compiled: None, schema: schema.clone() });
        }
        let compiled = schema::Schema::compile(schema).map_err(|Fault { path, message }| match path.as_str() {
            "" => format!("not a JSON Schema: {message}"),
            path => format!("not a JSON Schema: {path}: {message}"),
        });
        Ok(Self { compiled: Some(Arc::new(compiled?)), schema: schema.clone() })
    }

    /// Checks `params`, for at most `limit` and until `stop` is raised.
    pub(super) fn check(&self, params: &Value, limit: Duration, stop: &CancelToken) -> CheckResult {
        match &self.compiled {
            Some(schema) => schema.check_within(params, limit, |interrupt| stop.on_raise(None, move |_| interrupt())),
            None if params.is_object() => CheckResult::Fit,
            None => CheckResult::Unfit(Fault {
                path: String::new(),
                message: format!("{params} is not of type \"object\""),
            }),
        }
    }

    /// Turns empty lists back into the empty objects they were before the published server, if the schema wants
    /// objects.
    pub(super) fn repair(&self, params: &mut Value) {
        repair(&self.schema, params);
    }
}

fn repair(schema: &Value, value: &mut Value) {
    if schema["type"] == "object" && value.as_array().is_some_and(Vec::is_empty) {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                repair(&schema["properties"][name], field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| repair(&schema["items"], item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param_schema() -> ParamSchema {
        ParamSchema::new(&json!({
            "type": "object",
            "properties": {
                "max_results": {"type": "integer", "maximum": 50},
                "filter": {"type": "object"},
                "tags": {"type": "array"},
                "parts": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["max_results"],
        }))
        .unwrap()
    }

    #[test]
    fn a_breach_names_its_path() {
        for (params, path, part) in [(json!({"max_results": 99}), "/max_results", "50"), (json!({}), "", "max_results")]
        {
            let verdict = param_schema().check(&params, Duration::MAX, &CancelToken::new(None));
            let CheckResult::Unfit(fault) = verdict else { panic!("{verdict:?}") };
            assert!(fault.path == path && fault.message.contains(part), "{fault:?}");
        }
    }

    #[test]
    fn a_schema_without_details_wants_an_object_as_any_other_does() {
        let verdicts = [json!({"type": "object"}), json!({"type": "object", "title": "compiled"})].map(|schema| {
            let schema = ParamSchema::new(&schema).unwrap();
            [json!({"any": 1}), json!([1]), json!("text")]
                .map(|params| schema.check(&params, Duration::MAX, &CancelToken::new(None)))
        });
        assert_eq!(verdicts[0], verdicts[1]);
        assert_eq!(verdicts[0][0], CheckResult::Fit);
        assert_ne!(verdicts[0][1], CheckResult::Fit);
    }

    #[test]
    fn empty_lists_become_objects_only_where_the_schema_has_objects() {
        let mut params = json!({"max_results": 1, "filter": [], "tags": [], "parts": [[], {}]});
        param_schema().repair(&mut params);
        assert_eq!(params, json!({"max_results": 1, "filter": {}, "tags": [], "parts": [{}, {}]}));
        assert_eq!(param_schema().check(&params, Duration::MAX, &CancelToken::new(None)), CheckResult::Fit);
    }
}
