//! What one source of settings says, and how sources lie over each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigError, LogFormat, Origin, Secret, Setting, Strategy, values};
use super::{format_duration, parse_positive_duration};

/// What the command line gave, or a program that builds a worker. Paths are relative to the working folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where the TaskManager is.
    pub api_url: Option<String>,
    /// What it knows this user by. Never from the command line, where others could see it.
    pub api_key: Option<Secret>,
    /// Who the worker is.
    pub worker_id: Option<String>,
    /// The results file.
    pub results: Option<PathBuf>,
    /// How long results stay in it; 0 is for ever.
    pub keep_results: Option<Duration>,
    /// The database of ideas.
    pub ideas: Option<PathBuf>,
    /// How a line of the log looks.
    pub log_format: Option<LogFormat>,
    /// What is logged.
    pub log_level: Option<String>,
    /// The time between two polls of an idle worker; more than zero.
    pub poll_interval: Option<Duration>,
    /// The longest time between two polls; more than zero.
    pub max_backoff: Option<Duration>,
    /// How long the server lets a worker keep a task; more than zero.
    pub claim_timeout: Option<Duration>,
    /// How long handlers may go on after a signal.
    pub grace_period: Option<Duration>,
    /// After how many tasks the worker ends; 0 is never.
    pub max_tasks: Option<u64>,
    /// Which of the waiting tasks comes first.
    pub strategy: Option<Strategy>,
    /// How many tasks are worked at once; at least one.
    pub concurrency: Option<usize>,
    /// How often a task may be handed out before it is failed unrun; at least once.
    pub max_attempts: Option<u32>,
    /// Where health and figures are shown.
    pub status_addr: Option<SocketAddr>,
}

impl Flags {
    /// Checks the values, for a caller who has not parsed them from texts.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let duration = |it: Option<Duration>| it.map(format_duration);
        check("api_url", self.api_url.clone(), values::api_url)?;
        check("api_key", self.api_key.as_ref().map(Secret::expose), values::api_key)?;
        check("worker_id", self.worker_id.clone(), values::worker_id)?;
        check("poll_interval", duration(self.poll_interval), parse_positive_duration)?;
        check("max_backoff", duration(self.max_backoff), parse_positive_duration)?;
        check("claim_timeout", duration(self.claim_timeout), parse_positive_duration)?;
        check("concurrency", self.concurrency, values::parse_concurrency)?;
        check("max_attempts", self.max_attempts, values::parse_max_attempts)
    }
}

fn check<T>(name: &str, value: Option<impl ToString>, parse: fn(&str) -> Result<T, String>) -> Result<(), ConfigError> {
    let parsed = value.map(|value| parse(&value.to_string())).transpose();
    parsed.map(drop).map_err(|problem| ConfigError::at(name, problem))
}

/// An API key, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Text(Secret),
    File(PathBuf),
}

/// What one source says; `None` where it says nothing. Paths are absolute.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) config: Option<Setting<PathBuf>>,
    pub(super) api_url: Option<Setting<String>>,
    pub(super) api_key: Option<Setting<Key>>,
    pub(super) worker_id: Option<Setting<String>>,
    pub(super) poll_interval: Option<Setting<Duration>>,
    pub(super) max_backoff: Option<Setting<Duration>>,
    pub(super) claim_timeout: Option<Setting<Duration>>,
    pub(super) grace_period: Option<Setting<Duration>>,
    pub(super) max_tasks: Option<Setting<u64>>,
    pub(super) strategy: Option<Setting<Strategy>>,
    pub(super) concurrency: Option<Setting<usize>>,
    pub(super) max_attempts: Option<Setting<u32>>,
    pub(super) results: Option<Setting<PathBuf>>,
    pub(super) keep_results: Option<Setting<Duration>>,
    pub(super) ideas: Option<Setting<PathBuf>>,
    pub(super) youtube_daily_quota: Option<Setting<u32>>,
    pub(super) youtube_cache: Option<Setting<Duration>>,
    pub(super) log_format: Option<Setting<LogFormat>>,
    pub(super) log_level: Option<Setting<String>>,
    pub(super) status_addr: Option<Setting<SocketAddr>>,
    pub(super) ca_file: Option<Setting<PathBuf>>,
    pub(super) youtube_api_url: Option<Setting<String>>,
    pub(super) youtube_api_key: Option<Setting<Key>>,
}

impl Layer {
    /// This layer, and `lower` where it says nothing.
    pub(super) fn over(self, lower: Self) -> Self {
        Self {
            config: self.config.or(lower.config),
            api_url: self.api_url.or(lower.api_url),
            api_key: self.api_key.or(lower.api_key),
            worker_id: self.worker_id.or(lower.worker_id),
            poll_interval: self.poll_interval.or(lower.poll_interval),
            max_backoff: self.max_backoff.or(lower.max_backoff),
            claim_timeout: self.claim_timeout.or(lower.claim_timeout),
            grace_period: self.grace_period.or(lower.grace_period),
            max_tasks: self.max_tasks.or(lower.max_tasks),
            strategy: self.strategy.or(lower.strategy),
            concurrency: self.concurrency.or(lower.concurrency),
            max_attempts: self.max_attempts.or(lower.max_attempts),
            results: self.results.or(lower.results),
            keep_results: self.keep_results.or(lower.keep_results),
            ideas: self.ideas.or(lower.ideas),
            youtube_daily_quota: self.youtube_daily_quota.or(lower.youtube_daily_quota),
            youtube_cache: self.youtube_cache.or(lower.youtube_cache),
            log_format: self.log_format.or(lower.log_format),
            log_level: self.log_level.or(lower.log_level),
            status_addr: self.status_addr.or(lower.status_addr),
            ca_file: self.ca_file.or(lower.ca_file),
            youtube_api_url: self.youtube_api_url.or(lower.youtube_api_url),
            youtube_api_key: self.youtube_api_key.or(lower.youtube_api_key),
        }
    }

    /// The layer of the command line.
    pub(super) fn from_flags(flags: Flags, working_dir: &Path) -> Result<Self, ConfigError> {
        let path = |name: &str, path: Option<PathBuf>| {
            let path = path.map(|path| values::path(working_dir, path)).transpose();
            path.map(flag).map_err(|problem| ConfigError::at(name, problem))
        };
        Ok(Self {
            config: path("--config", flags.config)?,
            api_url: checked("--api-url", flags.api_url, values::api_url)?,
            worker_id: checked("--worker-id", flags.worker_id, values::worker_id)?,
            poll_interval: flag(flags.poll_interval),
            max_backoff: flag(flags.max_backoff),
            claim_timeout: flag(flags.claim_timeout),
            grace_period: flag(flags.grace_period),
            max_tasks: flag(flags.max_tasks),
            strategy: flag(flags.strategy),
            concurrency: flag(flags.concurrency),
            max_attempts: flag(flags.max_attempts),
            results: path("--results", flags.results)?,
            keep_results: flag(flags.keep_results),
            ideas: path("--ideas", flags.ideas)?,
            log_format: flag(flags.log_format),
            log_level: checked("--log-level", flags.log_level, values::log_level)?,
            status_addr: flag(flags.status_addr),
            api_key: flag(flags.api_key.map(Key::Text)),
            youtube_daily_quota: None,
            youtube_cache: None,
            ca_file: None,
            youtube_api_url: None,
            youtube_api_key: None,
        })
    }
}

fn flag<T>(value: Option<T>) -> Option<Setting<T>> {
    value.map(|value| Setting::new(value, Origin::Flag))
}

type Check = fn(&str) -> Result<String, String>;

fn checked(name: &str, text: Option<String>, check: Check) -> Result<Option<Setting<String>>, ConfigError> {
    let value = text.map(|text| check(&text)).transpose();
    value.map(flag).map_err(|problem| ConfigError::at(name, problem))
}
