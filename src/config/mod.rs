//! Settings: command line, environment, `.env`, `prismq.toml` and defaults become one [`Config`], each value with
//! what set it.
//!
//! Every source is read into a layer of the same shape; the layers lie over each other in one pure step. Nothing
//! here changes the process's environment.

mod describe;
mod dot_env;
mod duration;
mod environment;
mod error;
mod file;
mod home;
mod layer;
mod log_filter;
mod setting;
mod table;
mod task_type;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;

use environment::Source;
use layer::{Key, Layer};

use crate::text_file;

pub(crate) use duration::{format_duration, parse_duration, parse_positive_duration};
pub use error::ConfigError;
pub(crate) use error::{did_you_mean, is_near};
pub(crate) use home::expand_home;
pub(crate) use layer::Flags;
pub(crate) use log_filter::parse_log_filter;
pub(crate) use setting::{Origin, Secret, Setting};
pub(crate) use task_type::{Action, Mode, Retry, TaskType, task_type_name};
pub use values::Strategy;
pub(crate) use values::{LogFormat, parse_address, parse_concurrency, parse_max_attempts, parse_max_tasks, whole};

/// Every setting in force. Paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where the TaskManager is, without a slash at the end.
    pub api_url: Setting<String>,
    /// What it knows this user by.
    pub api_key: Option<Setting<Secret>>,
    /// Who this worker is.
    pub worker_id: Setting<String>,
    /// The time between two polls of an idle worker; more than zero.
    pub poll_interval: Setting<Duration>,
    /// The longest time between two polls; more than zero. It may be below `poll_interval`.
    pub max_backoff: Setting<Duration>,
    /// How long the server lets a worker keep a task; more than zero.
    pub claim_timeout: Setting<Duration>,
    /// How long handlers may go on after a signal.
    pub grace_period: Setting<Duration>,
    /// After how many tasks the worker ends; 0 is never.
    pub max_tasks: Setting<u64>,
    /// Which of the waiting tasks comes first.
    pub strategy: Setting<Strategy>,
    /// How many tasks are worked at once; at least one.
    pub concurrency: Setting<usize>,
    /// How often a task may be handed out before it is failed unrun; at least once.
    pub max_attempts: Setting<u32>,
    /// The results file.
    pub results: Setting<PathBuf>,
    /// How long results stay in it; 0 is for ever.
    pub keep_results: Setting<Duration>,
    /// The database of ideas; by default the results file.
    pub ideas: Setting<PathBuf>,
    /// The units of the YouTube Data API that may be used a day; at least one.
    pub youtube_daily_quota: Setting<u32>,
    /// How long what YouTube says of a video is used again; 0 is never.
    pub youtube_cache: Setting<Duration>,
    /// How a line of the log looks.
    pub log_format: Setting<LogFormat>,
    /// What is logged, as [`parse_log_filter`] reads it.
    pub log_level: Setting<String>,
    /// Where health and figures are shown.
    pub status_addr: Option<Setting<SocketAddr>>,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<Setting<PathBuf>>,
    /// Where the YouTube Data API is, without a slash at the end.
    pub youtube_api_url: Setting<String>,
    /// What it knows this user by.
    pub youtube_api_key: Option<Setting<Secret>>,
    /// The types in `prismq.toml`, in its order. Their names differ.
    pub task_types: Vec<TaskType>,
    /// The `prismq.toml` in force.
    pub file: Option<PathBuf>,
}

/// What settings are made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// What the command line gave.
    pub flags: Flags,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// The folder the command was called in.
    pub working_dir: PathBuf,
    /// The user's configuration folder, where the user has one.
    pub config_home: Option<PathBuf>,
    /// The user's data folder, where the user has one.
    pub data_home: Option<PathBuf>,
}

impl Sources {
    /// `flags`, and what surrounds this process.
    pub(crate) fn of_process(flags: Flags) -> Result<Self, ConfigError> {
        let working_dir = std::env::current_dir().map_err(|error| {
            ConfigError::at("working folder", format_args!("cannot be found: {}", text_file::reason(&error)))
        })?;
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let user = etcetera::choose_base_strategy().ok();
        Ok(Self {
            flags,
            environment: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
            working_dir,
            config_home: user.as_ref().map(BaseStrategy::config_dir),
            data_home: user.as_ref().map(BaseStrategy::data_dir),
        })
    }
}

/// Reads every source and lays them over each other.
pub(crate) fn load(sources: Sources) -> Result<Config, ConfigError> {
    let Sources { flags, environment, working_dir, config_home, data_home } = sources;
    let dot_env = dot_env::read(&working_dir.join(".env"))?;
    let process =
        Source { variables: &environment, refused: &BTreeMap::new(), origin: Origin::Environment, base: &working_dir };
    let gaps =
        Source { variables: &dot_env.values, refused: &dot_env.refused, origin: Origin::DotEnv, base: &working_dir };
    let mut layer =
        Layer::from_flags(flags, &working_dir)?.over(environment::layer(process)?).over(environment::layer(gaps)?);

    let file = file::find(layer.config.take(), &working_dir, config_home.as_deref())?;
    let (below, task_types) = file.as_ref().map(file::read).transpose()?.unwrap_or_default();
    let results = default_results(environment.get("STATE_DIRECTORY"), data_home.as_deref(), &working_dir)?;
    Ok(Config { task_types, file: file.map(|(path, _)| path), ..complete(layer.over(below), results)? })
}

/// What the flags say, and defaults for the rest: no environment, no `.env`, no file.
pub(crate) fn of_flags(sources: Sources) -> Result<Config, ConfigError> {
    let Sources { flags, working_dir, data_home, .. } = sources;
    let results = default_results(None, data_home.as_deref(), &working_dir)?;
    complete(Layer::from_flags(flags, &working_dir)?, results)
}

/// Reads the keys, and fills what `layer` leaves open. `results` is where the results are by default.
fn complete(layer: Layer, results: PathBuf) -> Result<Config, ConfigError> {
    let results = or(layer.results, results);
    let ideas = or(layer.ideas, results.value.clone());
    let youtube_api_key = layer.youtube_api_key.map(|key| read_key("YouTube API key file", key)).transpose()?;
    Ok(Config {
        api_url: or(layer.api_url, "http://localhost:8000/api".to_owned()),
        api_key: layer.api_key.map(|key| read_key("API key file", key)).transpose()?,
        worker_id: layer.worker_id.unwrap_or_else(|| Setting::new(new_worker_id(), Origin::Default)),
        poll_interval: or(layer.poll_interval, Duration::from_secs(10)),
        max_backoff: or(layer.max_backoff, Duration::from_mins(1)),
        claim_timeout: or(layer.claim_timeout, Duration::from_mins(5)),
        grace_period: or(layer.grace_period, Duration::from_secs(30)),
        max_tasks: or(layer.max_tasks, 0),
        strategy: or(layer.strategy, Strategy::Fifo),
        concurrency: or(layer.concurrency, 1),
        max_attempts: or(layer.max_attempts, 5),
        results,
        keep_results: or(layer.keep_results, Duration::ZERO),
        ideas,
        youtube_daily_quota: or(layer.youtube_daily_quota, 10_000),
        youtube_cache: or(layer.youtube_cache, Duration::from_hours(1)),
        log_format: or(layer.log_format, LogFormat::Text),
        log_level: or(layer.log_level, "info".to_owned()),
        status_addr: layer.status_addr,
        ca_file: layer.ca_file,
        youtube_api_url: or(layer.youtube_api_url, "https://www.googleapis.com/youtube/v3".to_owned()),
        youtube_api_key,
        task_types: Vec::new(),
        file: None,
    })
}

fn or<T>(setting: Option<Setting<T>>, default: T) -> Setting<T> {
    setting.unwrap_or_else(|| Setting::new(default, Origin::Default))
}

/// The key itself; `what` names the file that it may be in.
fn read_key(what: &str, key: Setting<Key>) -> Result<Setting<Secret>, ConfigError> {
    let secret = match key.value {
        Key::Text(secret) => secret,
        Key::File(path) => {
            let place = format!("{what} {} ({})", path.display(), key.origin);
            let bytes = text_file::read(&path, text_file::MAX_SETTINGS)
                .map_err(|error| ConfigError::unreadable(&place, &error))?;
            let key = text_file::utf_8(&bytes).and_then(values::api_key);
            key.map_err(|problem| ConfigError::at(&place, problem))?
        }
    };
    Ok(Setting::new(secret, key.origin))
}

/// `<host>-<8 hex>`: who it is can be read from a list of tasks, and no two processes are the same.
fn new_worker_id() -> String {
    let host = hostname::get().ok().map(|host| host.to_string_lossy().into_owned());
    let host = host.filter(|host| crate::name::hidden(host).is_none());
    format!("{}-{:08x}", host.as_deref().unwrap_or("worker"), crate::name::unique() >> 32)
}

/// The service's state folder (the first of them, where systemd gave several), else the user's data folder. A
/// process with neither keeps its results where it was called, so that nothing fails that needs no results.
fn default_results(
    state_directory: Option<&String>,
    data_home: Option<&Path>,
    working_dir: &Path,
) -> Result<PathBuf, ConfigError> {
    let state = state_directory.and_then(|list| list.split(':').next()).filter(|folder| !folder.is_empty());
    let folder = match (state, data_home) {
        (Some(state), _) => {
            values::path(working_dir, state).map_err(|problem| ConfigError::at("STATE_DIRECTORY", problem))?
        }
        (None, Some(home)) => home.join("prismq"),
        (None, None) => working_dir.to_owned(),
    };
    Ok(folder.join("results.db"))
}
