//! Task types as configured in `prismq.toml`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

use super::error::did_you_mean;
use super::table::{Entry, TomlTable};
use super::values::whole;
use super::{ConfigError, expand_home, parse_concurrency, parse_duration, parse_max_attempts, parse_positive_duration};
use crate::json;
use crate::name::{self, MAX_NAME};
use crate::text_file;

/// The keys of a `[[task_type]]`.
pub(super) const KEYS: [&str; 15] = [
    "name",
    "version",
    "schema",
    "exec",
    "handler",
    "mode",
    "timeout",
    "concurrency",
    "retry",
    "dir",
    "env",
    "pass_env",
    "clean_env",
    "max_tasks_per_process",
    "subtitles",
];
const RETRY_KEYS: [&str; 3] = ["max_attempts", "backoff_factor", "delay"];
const HANDLERS: [&str; 6] = ["echo", "sleep", "fail", "youtube.video", "youtube.search", "youtube.channel"];
/// Prefix of the handlers that read YouTube.
const YOUTUBE: &str = "youtube.";

/// A configured task type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskType {
    /// Its name, such as `PrismQ.Script.Generate`.
    pub name: String,
    /// The version it is registered with.
    pub version: String,
    /// The JSON Schema of its params, an object.
    pub schema: Option<Value>,
    /// How its tasks are run; `None` if this machine only registers or creates them.
    pub action: Option<Action>,
    /// How its program is run.
    pub mode: Mode,
    /// Maximum time of an attempt; `None` = as long as the claim allows.
    pub timeout: Option<Duration>,
    /// Maximum number of its tasks in flight; `None` = number of slots.
    pub concurrency: Option<usize>,
    /// Retries inside a claim.
    pub retry: Retry,
    /// The working folder of its handler, absolute.
    pub dir: PathBuf,
    /// Variables for its handler.
    pub env: BTreeMap<String, String>,
    /// Variables that reach its handler although their names look like secrets.
    pub pass_env: Vec<String>,
    /// Whether its handler gets only the few variables that every program needs.
    pub clean_env: bool,
    /// Whether its handler, which reads YouTube, asks for subtitles.
    pub subtitles: bool,
}

impl TaskType {
    /// Creates a type with defaults and its handler's working folder.
    #[must_use]
    pub(crate) fn new(name: impl Into<String>, dir: PathBuf) -> Self {
        Self {
            name: name.into(),
            version: "1.0.0".to_owned(),
            schema: None,
            action: None,
            mode: Mode::Once,
            timeout: None,
            concurrency: None,
            retry: Retry::NONE,
            dir,
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            clean_env: false,
            subtitles: false,
        }
    }

    /// Returns a warning if its `timeout` is longer than a claim lasts; `why` says when that shortens attempts.
    #[must_use]
    pub(crate) fn timeout_beyond(&self, claim_timeout: Duration, why: &str) -> Option<String> {
        let (name, timeout) = (&self.name, self.timeout.filter(|timeout| *timeout > claim_timeout)?);
        Some(format!(
            "{name}: timeout {timeout:?} is longer than claim_timeout {claim_timeout:?}: attempts time out after {claim_timeout:?}{why}"
        ))
    }

    /// Whether its handler reads YouTube.
    #[must_use]
    pub(crate) fn reads_youtube(&self) -> bool {
        matches!(&self.action, Some(Action::BuiltIn(name)) if name.starts_with(YOUTUBE))
    }

    /// Returns a one-line summary: the type, its handler and its options.
    pub(super) fn summary(&self) -> String {
        let action = match &self.action {
            Some(Action::Program(words)) => format!("exec {words:?}"),
            Some(Action::Shell(line)) => format!("exec {line:?}"),
            Some(Action::BuiltIn(name)) => format!("handler {name:?}"),
            None => "no handler".to_owned(),
        };
        let mode = match self.mode {
            Mode::Once => String::new(),
            Mode::Persistent { max_tasks: None } => ", persistent".to_owned(),
            Mode::Persistent { max_tasks: Some(max_tasks) } => format!(", persistent, {max_tasks} tasks per process"),
        };
        let subtitles = if self.subtitles { ", with subtitles" } else { "" };
        format!("{} {}, {action}{mode}{subtitles}", self.name, self.version)
    }

    /// Reads a type from `table`, and its schema from the file it names.
    pub(super) fn read(table: &TomlTable<'_>) -> Result<Self, ConfigError> {
        let name = table.get("name").ok_or_else(|| table.error("a task type needs a `name`"))?.parse(task_type_name)?;
        let plain = Self::new(name, table.document.folder().to_owned());
        let task_type = Self {
            version: table.text("version")?.unwrap_or(plain.version),
            schema: table.get("schema").map(|entry| schema(&entry)).transpose()?,
            action: action(table)?,
            mode: mode(table)?,
            timeout: table.parse("timeout", parse_positive_duration)?,
            concurrency: table.parse("concurrency", parse_concurrency)?,
            retry: table.get("retry").map(|entry| retry(&entry)).transpose()?.unwrap_or(plain.retry),
            dir: table.path("dir")?.unwrap_or(plain.dir),
            env: table.get("env").map(|entry| entry.variables()).transpose()?.unwrap_or_default().into_iter().collect(),
            pass_env: table.get("pass_env").map(|entry| entry.texts()).transpose()?.unwrap_or_default(),
            clean_env: table.get("clean_env").map(|entry| entry.boolean()).transpose()?.unwrap_or_default(),
            subtitles: table.get("subtitles").map(|entry| entry.boolean()).transpose()?.unwrap_or_default(),
            ..plain
        };
        match table.get("subtitles") {
            Some(entry) if !task_type.reads_youtube() => {
                Err(entry.error("belongs to a handler that reads YouTube, such as handler = \"youtube.video\""))
            }
            _ => Ok(task_type),
        }
    }
}

/// How a task is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A program and its arguments.
    Program(Vec<String>),
    /// A command line for `sh -c`.
    Shell(String),
    /// A built-in handler.
    BuiltIn(String),
}

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One process for each task.
    Once,
    /// A process runs one task after another.
    Persistent {
        /// Maximum number of tasks of a process; `None` = no limit.
        max_tasks: Option<NonZeroU32>,
    },
}

/// Retries of retryable failures inside a claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Retry {
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// Factor between one wait and the next, at least 1.
    pub backoff_factor: f64,
    /// First wait.
    pub delay: Duration,
}

impl Retry {
    /// No retries.
    pub(crate) const NONE: Self = Self { max_attempts: 1, backoff_factor: 2.0, delay: Duration::from_secs(1) };
}

/// Checks the name of a task type, also from the command line.
pub(crate) fn task_type_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a task type's name is 1 to 255 bytes without white space".to_owned());
    }
    match name::hidden(text) {
        Some(hidden) => Err(format!("a task type's name must not contain the invisible character {hidden}")),
        None => Ok(text.to_owned()),
    }
}

fn mode(table: &TomlTable<'_>) -> Result<Mode, ConfigError> {
    let is_persistent = match table.get("mode") {
        None => false,
        Some(mode) => match mode.text()? {
            "once" => false,
            "persistent" if table.get("handler").is_some() => {
                return Err(mode.error("a built-in handler has no process to keep: \"persistent\" belongs to `exec`"));
            }
            "persistent" => true,
            other => {
                return Err(mode.error(format_args!("{other:?} is not a mode: write \"once\" or \"persistent\"")));
            }
        },
    };
    match table.get("max_tasks_per_process") {
        Some(entry) if !is_persistent => Err(entry.error("belongs to mode = \"persistent\"")),
        _ if !is_persistent => Ok(Mode::Once),
        max_tasks => Ok(Mode::Persistent { max_tasks: max_tasks.map(|entry| entry.parse(tasks)).transpose()? }),
    }
}

fn tasks(text: &str) -> Result<NonZeroU32, String> {
    let tasks = whole(text, 1..=u32::MAX.into())?;
    NonZeroU32::new(tasks).ok_or_else(|| "must be at least 1".to_owned())
}

fn action(table: &TomlTable<'_>) -> Result<Option<Action>, ConfigError> {
    match (table.get("exec"), table.get("handler")) {
        (Some(_), Some(handler)) => Err(handler.error("a task type has `exec` or `handler`, not both")),
        (Some(exec), None) => program(&exec).map(Some),
        (None, Some(handler)) => built_in(&handler).map(Some),
        (None, None) => Ok(None),
    }
}

fn program(exec: &Entry<'_>) -> Result<Action, ConfigError> {
    match exec.value() {
        DeValue::Array(_) => {
            let mut words = exec.texts()?;
            if let Some(program) = words.first_mut().filter(|program| program.starts_with('~')) {
                let path = expand_home(Path::new(&program)).map_err(|problem| exec.error(problem))?;
                *program =
                    path.into_os_string().into_string().map_err(|_| exec.error("the home folder is not UTF-8"))?;
            }
            let has_program = words.first().is_some_and(|program| !program.trim().is_empty());
            if has_program { Ok(Action::Program(words)) } else { Err(exec.error("must name a program")) }
        }
        DeValue::String(_) => Ok(Action::Shell(exec.text()?.to_owned())),
        _ => Err(exec.error("must be a list such as [\"python3\", \"work.py\"], or a line for sh in quotes")),
    }
}

fn built_in(handler: &Entry<'_>) -> Result<Action, ConfigError> {
    match handler.text()? {
        name if HANDLERS.contains(&name) => Ok(Action::BuiltIn(name.to_owned())),
        name => {
            let error = handler.error(format_args!("{name:?} is not a built-in handler"));
            Err(error.hint(did_you_mean(name, &HANDLERS)))
        }
    }
}

fn retry(entry: &Entry<'_>) -> Result<Retry, ConfigError> {
    let table = entry.table(&RETRY_KEYS)?;
    Ok(Retry {
        max_attempts: table.parse("max_attempts", parse_max_attempts)?.unwrap_or(3),
        backoff_factor: table.parse("backoff_factor", backoff_factor)?.unwrap_or(Retry::NONE.backoff_factor),
        delay: table.parse("delay", parse_duration)?.unwrap_or(Retry::NONE.delay),
    })
}

fn backoff_factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 1.0);
    factor.ok_or_else(|| format!("must be a number of at least 1, such as 1.5, not {text:?}"))
}

fn schema(entry: &Entry<'_>) -> Result<Value, ConfigError> {
    if entry.value().is_table() {
        return entry.json();
    }
    if !entry.value().is_str() {
        return Err(entry.error("must be the path of a JSON Schema in quotes, or the schema as a table"));
    }
    let path = entry.path()?;
    let bytes = text_file::read(&path, json::MAX_BYTES).map_err(|error| {
        entry.error(format_args!("{} cannot be read: {}", path.display(), text_file::reason(&error)))
    })?;
    match json::read_strict(&bytes) {
        Ok(schema @ Value::Object(_)) => Ok(schema),
        Ok(_) => Err(entry.error(format_args!("{} is not a JSON object", path.display()))),
        Err(error) => Err(entry.error(format_args!("{} is {error}", path.display()))),
    }
}
