//! The handlers that a configuration can name: programs, built-in ones, and those for YouTube.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::{Action, Config, Mode, TaskType};
use crate::handler::{Exec, ExecCommand, ExecSettings, Handler, Persistent, builtin, builtin_schema};
use crate::store::Store;
use crate::taskmanager::{Client, Error, Registered};
use crate::worker::{HandlerSource, no_handler};
use crate::youtube::{self, Ledger, YouTubeSettings};

/// The handlers of a configuration.
pub(crate) struct Handlers<'a> {
    config: &'a Config,
    youtube: Option<Arc<Ledger>>,
}

impl<'a> Handlers<'a> {
    /// Creates the handlers of `config`. Those for YouTube use the ledger `youtube`.
    pub(crate) fn new(config: &'a Config, youtube: Option<Arc<Ledger>>) -> Self {
        Self { config, youtube }
    }

    fn builtin(&self, name: &str, settings: &TaskType) -> Option<Arc<dyn Handler>> {
        let ledger = self.youtube.clone();
        let youtube = || youtube::handler(name, youtube_settings(self.config, ledger, settings.subtitles));
        builtin(name).or_else(youtube)
    }

    fn program(&self, command: ExecCommand, settings: &TaskType) -> Arc<dyn Handler> {
        let keys = self.config.api_key.iter().chain(&self.config.youtube_api_key);
        let exec = Exec::new(ExecSettings {
            command,
            dir: settings.dir.clone(),
            env: settings.env.clone(),
            pass_env: settings.pass_env.clone(),
            clean_env: settings.clean_env,
            secrets: keys.map(|key| key.expose().to_owned()).collect(),
        });
        match settings.mode {
            Mode::Once => Arc::new(exec),
            Mode::Persistent { max_tasks } => Arc::new(Persistent::new(exec, max_tasks)),
        }
    }
}

impl HandlerSource for Handlers<'_> {
    fn handler(&self, settings: &TaskType) -> Result<Arc<dyn Handler>, String> {
        match &settings.action {
            None => Err(no_handler(&settings.name)),
            Some(Action::BuiltIn(name)) => self
                .builtin(name, settings)
                .ok_or_else(|| format!("{}: no handler {name:?} is built in", settings.name)),
            Some(Action::Program(arguments)) => Ok(self.program(ExecCommand::Program(arguments.clone()), settings)),
            Some(Action::Shell(line)) => Ok(self.program(ExecCommand::Shell(line.clone()), settings)),
        }
    }

    fn schema(&self, settings: &TaskType) -> Value {
        schema(settings)
    }

    fn prune(&self) -> bool {
        self.youtube.as_ref().is_some_and(|ledger| ledger.prune() == Ok(true))
    }
}

/// Returns the ledger for YouTube in `store`.
pub(crate) fn youtube_ledger(store: &Arc<Store>, config: &Config, clock: Arc<dyn Clock>) -> Ledger {
    let (limit, keep) = (u64::from(config.youtube_daily_quota.value), config.youtube_cache.value);
    Ledger::new(Arc::clone(store), clock, limit, keep)
}

/// Returns the settings of the handlers for YouTube.
pub(crate) fn youtube_settings(config: &Config, ledger: Option<Arc<Ledger>>, subtitles: bool) -> YouTubeSettings {
    YouTubeSettings {
        url: config.youtube_api_url.value.clone(),
        key: config.youtube_api_key.as_ref().map(|key| key.expose().to_owned()),
        ledger,
        subtitles,
    }
}

/// Registers a configured type.
pub(crate) fn register(settings: &TaskType, client: &Client) -> Result<Registered, Error> {
    client.register_type(&settings.name, &settings.version, &schema(settings))
}

/// Returns the schema of a configured type: its own, its built-in handler's, or one that accepts any object.
fn schema(settings: &TaskType) -> Value {
    let schema = settings.schema.clone().or_else(|| match &settings.action {
        Some(Action::BuiltIn(name)) => schema_of_handler(name),
        Some(_) => None,
        None => usual_schema(&settings.name),
    });
    schema.unwrap_or_else(|| json!({"type": "object"}))
}

/// Returns the default schema of a well-known task type.
pub(crate) fn usual_schema(name: &str) -> Option<Value> {
    schema_of_handler(youtube::default_handler(name)?)
}

fn schema_of_handler(name: &str) -> Option<Value> {
    builtin_schema(name).or_else(|| youtube::schema(name))
}
