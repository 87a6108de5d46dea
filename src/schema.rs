//! JSON Schemas of params, checked with bounded work.
//!
//! A few lines of schema can ask for years of work: references that double at each level, patterns that try all ways to
//! match, arrays in which each item is compared with each other. So a schema is short, what it applies at one place is
//! counted before it is compiled, and the work of a check is reckoned before it is done: little is done at once, more in
//! a thread of its own, for which nobody waits long, and what is beyond all measure not at all.

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
use self::plan::{Plan, Work};
use self::stop::Look;
use crate::json::{self, MAX_DEPTH};
use crate::os_error;

/// The longest schema, in bytes of JSON: what a column of the published server holds.
pub(crate) const MAX_BYTES: usize = 65_535;
/// Steps back that a pattern with look-around or back-references may take in one text. Usual ones take some hundreds.
const MAX_BACKTRACKS: usize = 10_000;
/// One pattern with more states may be refused by the library for the memory that it takes.
const USUAL_STATES: u64 = 2_000;
/// The stack of a thread that checks: the recursion goes as deep as [`Work::HEAVY`] allows.
const STACK: usize = 64 << 20;
/// A long array may break its schema in each of its items.
const MOST_BREACHES: usize = 50;

/// A JSON Schema, ready to check params with.
pub(crate) struct Schema {
    validator: Validator,
    plan: Plan,
    /// Checks under way for which nobody waits any more.
    given_up: AtomicIsize,
}

/// What `type` may be.
const TYPES: &str = "array, boolean, integer, null, number, object or string, or a list of these";
/// The newest draft.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What is wrong, and where: a JSON pointer into the schema or the params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Empty for the whole.
    pub path: String,
    /// One line.
    pub message: String,
}

impl Fault {
    fn of(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// The work is beyond all measure.
    #[must_use]
    pub(crate) fn too_much() -> Self {
        Self::of("it takes too much work to check them against the schema")
    }

    /// What is wrong with a schema. Of some faults the library says what it could not do, not what to write.
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
                "`$schema`: {specification:?} is not a draft of JSON Schema; use \"{DRAFT}\", say, or leave it out"
            ),
            ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
                format!("`$ref`: {uri:?} is not in the schema, and nothing is fetched; use \"#/$defs/NAME\"")
            }
            ValidationErrorKind::Referencing(ReferencingError::PointerToNowhere { pointer }) => {
                format!("`$ref`: nothing is at {pointer:?} in the schema")
            }
            _ => return Self::told(error, true),
        };
        Self { path: path.to_owned(), message }
    }

    /// As an error tells it, where the value stays out of the message unless `says_value`: it may be megabytes, or secret.
    fn told(error: &ValidationError<'_>, says_value: bool) -> Self {
        let message = if says_value { error.to_string() } else { error.masked().to_string() };
        Self { path: error.instance_path().as_str().to_owned(), message: stop::without_looks(message) }
    }
}

/// What is known of params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They fit the schema.
    Fit,
    /// They break it, or are beyond what is checked.
    Unfit(Fault),
    /// It was not known in time; why not. Another try may tell.
    Unknown(String),
    /// The wait was ended.
    Interrupted,
}

impl From<Result<(), Fault>> for Verdict {
    fn from(checked: Result<(), Fault>) -> Self {
        checked.map_or_else(Self::Unfit, |()| Self::Fit)
    }
}

/// What is said where a check took longer than it may.
#[must_use]
pub(crate) fn too_long(limit: Duration) -> String {
    format!("it takes longer than {:.1} s to check them against the schema", limit.as_secs_f64())
}

/// How params are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// The message shows the value that is wrong.
    Value,
    /// It does not.
    NoValue,
}

impl Schema {
    /// Compiles a schema of any draft. `format` counts, and nothing is fetched. It may take some tenths of a second.
    pub(crate) fn new(schema: &Value) -> Result<Self, Fault> {
        json::check(schema, MAX_DEPTH).map_err(|error| Fault::of(error.to_string()))?;
        if schema.to_string().len() > MAX_BYTES {
            return Err(Fault::of(format!("longer than {MAX_BYTES} bytes")));
        }
        let (plan, schema) = Plan::new(schema).map_err(Fault::of)?;
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .with_keyword(stop::KEYWORD, |_, _, _| Ok(Box::new(Look)))
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS))
            .offline()
            .build(&schema)
            .map_err(|error| Fault::of_schema(&error))?;
        Ok(Self { validator, plan, given_up: AtomicIsize::new(0) })
    }

    /// How much memory its patterns take, in half kilobytes at worst.
    #[must_use]
    pub(crate) fn states(&self) -> u64 {
        self.plan.states()
    }

    /// The same in a thread of its own.
    pub(crate) fn compile(schema: &Value) -> Result<Self, Fault> {
        let (sender, compiled) = mpsc::sync_channel(1);
        let schema = schema.clone();
        let run = spawn(move || _ = sender.send(Self::new(&schema)));
        run.map_err(|error| Fault::of(format!("no thread to read it in: {}", os_error::words(&error))))?;
        // The sender is gone where the compiler has panicked.
        compiled.recv().unwrap_or_else(|_| Err(Fault::of("it cannot be compiled")))
    }

    /// Checks params at once where that is little work; `None` where it is not.
    #[must_use]
    pub(crate) fn check_now(&self, params: &Value, telling: Telling) -> Option<Result<(), Fault>> {
        self.plan.work(params, Work::LIGHT).then(|| self.validate(params, telling))
    }

    /// All that is wrong with params, as far as people read, where that is little work; `None` where it is not.
    #[must_use]
    pub(crate) fn faults_now(&self, params: &Value) -> Option<Vec<Fault>> {
        let errors = || self.validator.iter_errors(params).take(MOST_BREACHES);
        self.plan.work(params, Work::LIGHT).then(|| errors().map(|error| Fault::told(&error, false)).collect())
    }

    /// Checks params, however long it takes, or until nobody waits any more. It needs the stack of a thread by [`spawn`].
    pub(crate) fn check(&self, params: &Value, telling: Telling) -> Result<(), Fault> {
        // Where none of several alternatives fits, all that is wrong with each would be put together.
        if !self.plan.has_alternatives && self.plan.work(params, Work::HEAVY) {
            return self.validate(params, telling);
        }
        if !self.plan.work_of_verdict(params, Work::HEAVY) {
            return Err(Fault::too_much());
        }
        let is_valid = self.validator.is_valid(params);
        is_valid.then_some(()).ok_or_else(|| Fault::of("they break the schema, and are too long to say where"))
    }

    /// Checks params within `limit`, in a thread of its own if that is much work. `interrupt` is handed what ends the wait.
    pub(crate) fn check_within(
        self: &Arc<Self>,
        params: &Value,
        limit: Duration,
        interrupt: impl FnOnce(Box<dyn Fn() + Send>),
    ) -> Verdict {
        if let Some(checked) = self.check_now(params, Telling::Value) {
            return checked.into();
        }
        let (sender, done) = mpsc::channel();
        let interrupted = sender.clone();
        interrupt(Box::new(move || _ = interrupted.send(Verdict::Interrupted)));
        let params = params.clone();
        let check = move |this: &Self| this.check(&params, Telling::Value);
        match self.start(check, move |checked| _ = sender.send(checked.into())) {
            // Both senders are here as long as nothing was sent.
            Ok(_waiting) => done.recv_timeout(limit).unwrap_or_else(|_| Verdict::Unknown(too_long(limit))),
            Err(why) => Verdict::Unknown(why),
        }
    }

    /// Has `check` run in a thread of its own, and `tell` with what comes of it. It stops soon after the wait is dropped;
    /// until then, another of the same schema is refused: it would fare no better. The error says why.
    pub(crate) fn start(
        self: &Arc<Self>,
        check: impl FnOnce(&Self) -> Result<(), Fault> + Send + 'static,
        tell: impl FnOnce(Result<(), Fault>) + Send + 'static,
    ) -> Result<Waiting, String> {
        if self.given_up.load(Ordering::SeqCst) > 0 {
            return Err("an earlier check against the same schema takes too long".to_owned());
        }
        let over = Arc::new(AtomicBool::new(false));
        let waiting = Waiting { schema: Arc::clone(self), over: Arc::clone(&over) };
        let this = Arc::clone(self);
        let run = spawn(move || {
            stop::when(Arc::clone(&over));
            let checked = panic::catch_unwind(AssertUnwindSafe(|| check(&this)));
            if over.swap(true, Ordering::SeqCst) {
                this.given_up.fetch_sub(1, Ordering::SeqCst);
            }
            tell(checked.unwrap_or_else(|_| Err(Fault::of("they cannot be checked against the schema"))));
        });
        match run {
            Ok(()) => Ok(waiting),
            Err(error) => {
                waiting.over.store(true, Ordering::SeqCst);
                Err(format!("no thread to check them in: {}", os_error::words(&error)))
            }
        }
    }

    fn validate(&self, params: &Value, telling: Telling) -> Result<(), Fault> {
        self.validator.validate(params).map_err(|error| Fault::told(&error, telling == Telling::Value))
    }
}

/// The wait for a check. Who drops it waits no longer.
pub(crate) struct Waiting {
    schema: Arc<Schema>,
    /// Whoever ends second, the check or the wait, finds it set.
    over: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The check may be over, and counted off, before it is counted: then the number is below zero for a moment.
        if !self.over.swap(true, Ordering::SeqCst) {
            self.schema.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Runs what may recurse deep in a thread with a stack for it. Nobody waits for its end.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("schema".into()).stack_size(STACK).spawn(work).map(drop)
}

#[cfg(test)]
mod tests;
