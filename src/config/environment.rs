//! The environment, and the `.env` that fills its gaps, as sources of settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layer::{Key, Layer};
use super::{
    ConfigError, Origin, Setting, parse_address, parse_concurrency, parse_duration, parse_max_attempts,
    parse_max_tasks, parse_positive_duration, values,
};

/// Variables and their values.
pub(super) type Variables = BTreeMap<String, String>;

/// Where variables come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The variables.
    pub(super) variables: &'a Variables,
    /// Variables that must not be used, each with the reason.
    pub(super) refused: &'a BTreeMap<String, ConfigError>,
    /// What says that a setting came from one of them.
    pub(super) origin: fn(&'static str) -> Origin,
    /// What paths are relative to.
    pub(super) base: &'a Path,
}

/// The layer of `source`. A variable that is empty says nothing.
pub(super) fn layer(source: Source<'_>) -> Result<Layer, ConfigError> {
    Ok(Layer {
        config: source.path("PRISMQ_CONFIG")?,
        api_url: source.parse("TASKMANAGER_API_URL", values::api_url)?,
        api_key: source.key("TASKMANAGER_API_KEY", "TASKMANAGER_API_KEY_FILE")?,
        worker_id: source.parse("WORKER_ID", values::worker_id)?,
        poll_interval: source.parse("POLL_INTERVAL", parse_positive_duration)?,
        max_backoff: source.parse("MAX_BACKOFF", parse_positive_duration)?,
        claim_timeout: source.parse("PRISMQ_CLAIM_TIMEOUT", parse_positive_duration)?,
        grace_period: source.parse("PRISMQ_GRACE_PERIOD", parse_duration)?,
        max_tasks: source.parse("MAX_RUNS", parse_max_tasks)?,
        strategy: source.parse("PRISMQ_STRATEGY", str::parse)?,
        concurrency: source.parse("PRISMQ_CONCURRENCY", parse_concurrency)?,
        max_attempts: source.parse("PRISMQ_MAX_ATTEMPTS", parse_max_attempts)?,
        results: source.path("PRISMQ_RESULTS")?,
        keep_results: source.parse("PRISMQ_KEEP_RESULTS", parse_duration)?,
        ideas: source.path("IDEA_DB_PATH")?,
        youtube_daily_quota: source.parse("YOUTUBE_DAILY_QUOTA_LIMIT", values::daily_quota)?,
        youtube_cache: source.parse("YOUTUBE_CACHE", parse_duration)?,
        log_format: source.parse("PRISMQ_LOG_FORMAT", str::parse)?,
        log_level: source.log_level()?,
        status_addr: source.parse("PRISMQ_STATUS_ADDR", parse_address)?,
        ca_file: source.path("PRISMQ_CA_FILE")?,
        youtube_api_url: source.parse("YOUTUBE_API_URL", values::api_url)?,
        youtube_api_key: source.key("YOUTUBE_API_KEY", "YOUTUBE_API_KEY_FILE")?,
    })
}

impl Source<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn parse<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, ConfigError> {
        let checked = |text: &str| {
            // What is not UTF-8 has been replaced: as a path, it would lead somewhere else.
            if text.contains(char::REPLACEMENT_CHARACTER) { Err("not UTF-8".to_owned()) } else { parse(text) }
        };
        if let Some(error) = self.refused.get(name) {
            return Err(error.clone());
        }
        let value = self.text(name).map(checked).transpose().map_err(|problem| self.error(name, problem))?;
        Ok(value.map(|value| Setting::new(value, (self.origin)(name))))
    }

    fn path(&self, name: &'static str) -> Result<Option<Setting<PathBuf>>, ConfigError> {
        self.parse(name, |text| values::path(self.base, text))
    }

    /// The key in the variable `name`, else that in the file which the variable `file` names.
    fn key(&self, name: &'static str, file: &'static str) -> Result<Option<Setting<Key>>, ConfigError> {
        let key = self.parse(name, |text| values::api_key(text).map(Key::Text))?;
        let file = self.path(file)?;
        Ok(key.or_else(|| file.map(|file| Setting::new(Key::File(file.value), file.origin))))
    }

    fn log_level(&self) -> Result<Option<Setting<String>>, ConfigError> {
        let filter = self.parse("RUST_LOG", values::log_level)?;
        // Other programs give DEBUG other meanings: what does not switch it on is not for us.
        let is_debug = self.text("DEBUG").is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"));
        Ok(filter.or_else(|| is_debug.then(|| Setting::new("debug".to_owned(), (self.origin)("DEBUG")))))
    }

    fn error(&self, name: &'static str, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::at((self.origin)(name), problem)
    }
}
