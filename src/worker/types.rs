//! The task types a worker works: what the configuration says of each, joined with what the TaskManager knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::hold::Hold;
use super::params::Schema;
use crate::clock::Timestamp;
use crate::config::{self, Action, Config, Mode, Retry};
use crate::handler::{Command, Exec, ExecSettings, Handler, Persistent, builtin, builtin_schema};
use crate::shutdown::Stop;
use crate::taskmanager::{Client, Error, Registered, TaskType};
use crate::youtube::{self, Ledger};

/// A task type, ready to be worked.
pub struct WorkerType {
    /// Its name.
    pub name: String,
    id: AtomicU64,
    gone: AtomicBool,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) schema: Option<Schema>,
    /// The longest an attempt may take.
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) retry: Retry,
    pub(super) hold: Hold,
}

/// Why a type cannot be worked. The text is one line for a person.
#[derive(Debug, thiserror::Error)]
pub enum TypeError {
    /// The configuration is wrong, or the handler cannot run: one line for a person.
    #[error("{0}")]
    Configuration(String),
    /// The TaskManager knows no type of that name.
    #[error("the TaskManager knows no task type {0}")]
    Unknown(String),
    /// The TaskManager did not answer, or refused.
    #[error(transparent)]
    TaskManager(Error),
}

impl WorkerType {
    /// The number by which the TaskManager knows the type.
    pub(super) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Whether the TaskManager knew no such type when it was last asked.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Asks for the number again: the server may have been set up anew. False where the type is gone.
    pub(super) fn look_up(&self, client: &Client) -> Result<bool, Error> {
        let found = client.task_type(&self.name)?;
        if let Some(found) = &found {
            self.id.store(found.id, Ordering::Relaxed);
        }
        self.gone.store(found.is_none(), Ordering::Relaxed);
        Ok(found.is_some())
    }

    /// When its handler takes tasks again, where it takes none at `now`.
    #[must_use]
    pub fn not_before(&self, now: Timestamp) -> Option<Timestamp> {
        self.handler.not_before().filter(|until| *until > now)
    }

    /// Ends the processes that its handler keeps for tasks to come.
    pub fn end_idle(&self, stop: &Stop) {
        self.handler.end_idle(stop);
    }

    /// Joins a configured type and its handler with what the TaskManager knows of it. `warn` hears of what is odd but
    /// works.
    pub fn resolve(
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
            timeout: timeout(settings, claim_timeout, warn),
            concurrency: settings.concurrency.unwrap_or(usize::MAX),
            retry: settings.retry,
            hold: Hold::default(),
        })
    }
}

/// The handler of a configured type, whether or not it could run now. `ledger` counts what those spend that read YouTube.
pub fn handler(
    settings: &config::TaskType,
    config: &Config,
    ledger: Option<Arc<dyn Ledger>>,
) -> Result<Arc<dyn Handler>, String> {
    let command = match &settings.action {
        None => return Err(no_handler(&settings.name)),
        Some(Action::BuiltIn(name)) => {
            let youtube = || youtube::handler(name, youtube_settings(config, ledger, settings.subtitles));
            let built_in = builtin(name).or_else(youtube);
            return built_in.ok_or_else(|| format!("{}: no handler {name:?} is built in", settings.name));
        }
        Some(Action::Program(arguments)) => Command::Program(arguments.clone()),
        Some(Action::Shell(line)) => Command::Shell(line.clone()),
    };
    let exec = Exec::new(ExecSettings {
        command,
        dir: settings.dir.clone(),
        env: settings.env.clone(),
        pass_env: settings.pass_env.clone(),
        clean_env: settings.clean_env,
        secrets: config.api_key.iter().chain(&config.youtube_api_key).map(|key| key.expose().to_owned()).collect(),
    });
    Ok(match settings.mode {
        Mode::Once => Arc::new(exec),
        Mode::Persistent { max_tasks } => Arc::new(Persistent::new(exec, max_tasks)),
    })
}

/// What to do about a type that nothing works.
#[must_use]
pub fn no_handler(name: &str) -> String {
    format!(
        "the task type {name} has no handler: write `exec = [\"PROGRAM\"]` or `handler = \"NAME\"` below its name \
         in prismq.toml"
    )
}

/// What handlers that read YouTube work with.
#[must_use]
pub fn youtube_settings(config: &Config, ledger: Option<Arc<dyn Ledger>>, subtitles: bool) -> youtube::Settings {
    youtube::Settings {
        url: config.youtube_api_url.value.clone(),
        key: config.youtube_api_key.as_ref().map(|key| key.expose().to_owned()),
        ledger,
        subtitles,
    }
}

/// The schema that is known of the task type `name` where nobody says anything of it.
#[must_use]
pub fn usual_schema(name: &str) -> Option<Value> {
    builtin_schema(youtube::usual_handler(name)?)
}

/// Registers a configured type, with its own schema, its built-in handler's, or one that takes any object.
pub fn register(settings: &config::TaskType, client: &Client) -> Result<Registered, Error> {
    let schema = settings.schema.clone().or_else(|| match &settings.action {
        Some(Action::BuiltIn(name)) => builtin_schema(name),
        Some(_) => None,
        None => usual_schema(&settings.name),
    });
    client.register_type(&settings.name, &settings.version, &schema.unwrap_or_else(|| json!({"type": "object"})))
}

/// The configuration's schema is the user's to mend; one of the server's that makes no sense is not checked.
fn schema(
    settings: &config::TaskType,
    known: &TaskType,
    warn: &mut dyn FnMut(String),
) -> Result<Option<Schema>, String> {
    if let Some(schema) = &settings.schema {
        let schema = Schema::new(schema);
        return schema.map(Some).map_err(|error| format!("the schema of {}: {error}", settings.name));
    }
    if known.param_schema == Value::Null {
        return Ok(None);
    }
    match Schema::new(&known.param_schema) {
        Ok(schema) => Ok(Some(schema)),
        Err(error) => {
            warn(format!("params of {} are not checked: the TaskManager's schema: {error}", known.name));
            Ok(None)
        }
    }
}

/// A handler must be done before its claim runs out.
fn timeout(settings: &config::TaskType, claim_timeout: Duration, warn: &mut dyn FnMut(String)) -> Duration {
    let Some(timeout) = settings.timeout else {
        return default_timeout(claim_timeout);
    };
    if let Some(warning) = settings.timeout_beyond(claim_timeout) {
        warn(warning);
    }
    timeout.min(claim_timeout)
}

/// The claim less 10 s for the report, or half the claim where it is short.
#[must_use]
pub fn default_timeout(claim_timeout: Duration) -> Duration {
    claim_timeout.saturating_sub(Duration::from_secs(10)).max(claim_timeout / 2)
}
