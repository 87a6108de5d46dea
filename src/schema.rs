//! Validates params against JSON Schemas, with bounded work.
//!
//! A few lines of schema can require years of work: references that double at each level, patterns with exponential
//! backtracking, arrays whose items are all compared with each other. So the size of a schema is limited, the number of
//! subschemas that apply at one place is counted before it is compiled, and the work of a check is estimated first: a
//! small one runs at once, a larger one in another thread with a time-out, and one that is too large is rejected.

mod pattern;
mod plan;
mod stop;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ReferencingError, ValidationError, Validator};
use serde_json::Value;

use self::pattern::Pattern;
use self::plan::{Plan, WorkLimit};
use self::stop::StopCheck;
use crate::json::{self, MAX_DEPTH};
use crate::os_error;

/// Maximum size of a schema, in bytes of JSON: the size of a column of the published server.
pub(crate) const MAX_BYTES: usize = 65_535;
/// Maximum number of backtracking steps of a pattern with look-around or back-references. Usually some hundreds suffice.
const MAX_BACKTRACKS: usize = 10_000;
/// The library may reject a single pattern with more states, because of its memory.
const USUAL_STATES: u64 = 2_000;
/// Stack size of a checking thread: enough for the recursion depth of [`WorkLimit::HEAVY`].
const STACK: usize = 64 << 20;
/// Maximum number of errors returned for one value.
const MAX_ERRORS: usize = 50;

/// A compiled JSON Schema.
pub(crate) struct Schema {
    validator: Validator,
    plan: Plan,
    /// Number of running checks whose caller has stopped waiting.
    abandoned: AtomicIsize,
}

/// The valid values of `type`.
const TYPES: &str = "array, boolean, integer, null, number, object or string, or a list of these";
/// The latest draft.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// An error with its place, a JSON pointer into the schema or the params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Empty for the root.
    pub path: String,
    /// One line.
    pub message: String,
}

impl Fault {
    fn at_root(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// Returns the error for a check that takes too much work.
    #[must_use]
    pub(crate) fn too_much() -> Self {
        Self::at_root("it takes too much work to check them against the schema")
    }

    /// Describes an error in a schema. Some messages of the library are replaced by ones that say what to write.
    fn of_schema(error: &ValidationError<'_>) -> Self {
        let (path, value) = (error.instance_path().as_str(), error.instance());
        let message = match error.kind() {
            ValidationErrorKind::AnyOf { .. } if path.ends_with("/type") => {
                format!("{value} is not a type; use {TYPES}")
            }
            ValidationErrorKind::Format { format } if format == "regex" => {
                let states = value.as_str().map_or(0, |pattern| Pattern::new(pattern).size());
                let too_long = if states > USUAL_STATES { ", or takes too much memory: repeat less" } else { "" };
                format!("{value} is not a regular expression{too_long}")
            }
            ValidationErrorKind::Referencing(ReferencingError::UnknownSpecification { specification }) => format!(
                "`$schema`: {specification:?} is not a draft of JSON Schema; use \"{DRAFT}\", for example, or leave it out"
            ),
            ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
                format!(
                    "`$ref`: {uri:?} is not in the schema, and remote schemas are not fetched; use \"#/$defs/NAME\""
                )
            }
            ValidationErrorKind::Referencing(ReferencingError::PointerToNowhere { pointer }) => {
                format!("`$ref`: the schema has nothing at {pointer:?}")
            }
            _ => return Self::of_library(error, true),
        };
        Self { path: path.to_owned(), message }
    }

    /// Converts an error of the library. The value is masked unless `says_value`: it may be large or secret.
    fn of_library(error: &ValidationError<'_>, says_value: bool) -> Self {
        let message = if says_value { error.to_string() } else { error.masked().to_string() };
        Self { path: error.instance_path().as_str().to_owned(), message: stop::without_stop_keyword(message) }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// The params match the schema.
    Fit,
    /// They do not match, or exceed a limit.
    Unfit(Fault),
    /// The check did not finish in time, and may be retried.
    Unknown(String),
    /// The wait was interrupted.
    Interrupted,
}

impl From<Result<(), Fault>> for CheckResult {
    fn from(checked: Result<(), Fault>) -> Self {
        checked.map_or_else(Self::Unfit, |()| Self::Fit)
    }
}

/// Returns the message for a check that timed out.
#[must_use]
pub(crate) fn too_long(limit: Duration) -> String {
    format!("it takes longer than {:.1} s to check them against the schema", limit.as_secs_f64())
}

/// Whether error messages contain the invalid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorDetail {
    WithValue,
    WithoutValue,
}

impl Schema {
    /// Compiles a schema of any draft. `format` is validated, and nothing is fetched. It may take some tenths of a second.
    pub(crate) fn new(schema: &Value) -> Result<Self, Fault> {
        json::check(schema, MAX_DEPTH).map_err(|error| Fault::at_root(error.to_string()))?;
        if schema.to_string().len() > MAX_BYTES {
            return Err(Fault::at_root(format!("longer than {MAX_BYTES} bytes")));
        }
        let (plan, schema) = Plan::new(schema).map_err(Fault::at_root)?;
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .with_keyword(stop::KEYWORD, |_, _, _| Ok(Box::new(StopCheck)))
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS))
            .offline()
            .build(&schema)
            .map_err(|error| Fault::of_schema(&error))?;
        Ok(Self { validator, plan, abandoned: AtomicIsize::new(0) })
    }

    /// Returns the number of states of its patterns. Each takes at most about half a kilobyte.
    #[must_use]
    pub(crate) fn states(&self) -> u64 {
        self.plan.states()
    }

    /// Compiles a schema in another thread, with a large stack.
    pub(crate) fn compile(schema: &Value) -> Result<Self, Fault> {
        let (sender, compiled) = mpsc::sync_channel(1);
        let schema = schema.clone();
        let run = spawn(move || _ = sender.send(Self::new(&schema)));
        run.map_err(|error| {
            Fault::at_root(format!("cannot start a thread to compile it: {}", os_error::message(&error)))
        })?;
        // The sender is gone if the compiler has panicked.
        compiled.recv().unwrap_or_else(|_| Err(Fault::at_root("it cannot be compiled")))
    }

    /// Checks params now if that is little work, else returns `None`.
    #[must_use]
    pub(crate) fn check_now(&self, params: &Value, detail: ErrorDetail) -> Option<Result<(), Fault>> {
        self.plan.work(params, WorkLimit::LIGHT).then(|| self.validate(params, detail))
    }

    /// Returns all errors in params, up to a limit, if checking them is little work, else `None`.
    #[must_use]
    pub(crate) fn faults_now(&self, params: &Value) -> Option<Vec<Fault>> {
        let errors = || self.validator.iter_errors(params).take(MAX_ERRORS);
        self.plan
            .work(params, WorkLimit::LIGHT)
            .then(|| errors().map(|error| Fault::of_library(&error, false)).collect())
    }

    /// Checks params until done or stopped. Must run in a thread started by [`spawn`], for its stack.
    pub(crate) fn check(&self, params: &Value, detail: ErrorDetail) -> Result<(), Fault> {
        // If none of several alternatives matches, the library collects all errors of each.
        if !self.plan.has_alternatives && self.plan.work(params, WorkLimit::HEAVY) {
            return self.validate(params, detail);
        }
        if !self.plan.work_of_validity(params, WorkLimit::HEAVY) {
            return Err(Fault::too_much());
        }
        let is_valid = self.validator.is_valid(params);
        is_valid
            .then_some(())
            .ok_or_else(|| Fault::at_root("they do not match the schema, and are too long to say where"))
    }

    /// Checks params within `limit`, in another thread if that is much work. `interrupt` receives a function that ends the
    /// wait.
    pub(crate) fn check_within(
        self: &Arc<Self>,
        params: &Value,
        limit: Duration,
        interrupt: impl FnOnce(Box<dyn Fn() + Send>),
    ) -> CheckResult {
        if let Some(checked) = self.check_now(params, ErrorDetail::WithValue) {
            return checked.into();
        }
        let (sender, done) = mpsc::channel();
        let interrupted = sender.clone();
        interrupt(Box::new(move || _ = interrupted.send(CheckResult::Interrupted)));
        let params = params.clone();
        let check = move |this: &Self| this.check(&params, ErrorDetail::WithValue);
        match self.start(check, move |checked| _ = sender.send(checked.into())) {
            // A sender lives until the check is done, so only a time-out is an error.
            Ok(_pending) => done.recv_timeout(limit).unwrap_or_else(|_| CheckResult::Unknown(too_long(limit))),
            Err(why) => CheckResult::Unknown(why),
        }
    }

    /// Starts a check in another thread, which calls `on_done` with the result. The error says why it cannot start now.
    pub(crate) fn start(
        self: &Arc<Self>,
        check: impl FnOnce(&Self) -> Result<(), Fault> + Send + 'static,
        on_done: impl FnOnce(Result<(), Fault>) + Send + 'static,
    ) -> Result<PendingCheck, String> {
        if self.abandoned.load(Ordering::SeqCst) > 0 {
            return Err("an earlier check against the same schema takes too long".to_owned());
        }
        let ended = Arc::new(AtomicBool::new(false));
        let pending = PendingCheck { schema: Arc::clone(self), ended: Arc::clone(&ended) };
        let this = Arc::clone(self);
        let run = spawn(move || {
            stop::stop_when(Arc::clone(&ended));
            let checked = panic::catch_unwind(AssertUnwindSafe(|| check(&this)));
            if ended.swap(true, Ordering::SeqCst) {
                this.abandoned.fetch_sub(1, Ordering::SeqCst);
            }
            on_done(checked.unwrap_or_else(|_| Err(Fault::at_root("they cannot be checked against the schema"))));
        });
        match run {
            Ok(()) => Ok(pending),
            Err(error) => {
                pending.ended.store(true, Ordering::SeqCst);
                Err(format!("cannot start a thread to check them: {}", os_error::message(&error)))
            }
        }
    }

    fn validate(&self, params: &Value, detail: ErrorDetail) -> Result<(), Fault> {
        self.validator.validate(params).map_err(|error| Fault::of_library(&error, detail == ErrorDetail::WithValue))
    }
}

/// A running check. Dropping it stops the check soon.
pub(crate) struct PendingCheck {
    schema: Arc<Schema>,
    /// Set by the check or the wait, whichever ends first.
    ended: Arc<AtomicBool>,
}

impl Drop for PendingCheck {
    fn drop(&mut self) {
        // The check may end and decrement before this increments: the number is then negative for a moment.
        if !self.ended.swap(true, Ordering::SeqCst) {
            self.schema.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Spawns a detached thread with a stack for deep recursion.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("schema".into()).stack_size(STACK).spawn(work).map(drop)
}

#[cfg(test)]
mod tests;
