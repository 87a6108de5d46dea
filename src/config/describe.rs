//! The settings in force, for `prismq config`.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::{Action, Config, Mode, Origin, Setting, TaskType, format_duration};

/// One setting, its value as it would be written, and what set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its name in `prismq.toml`; `config` is that file itself.
    pub name: &'static str,
    /// Its value; a secret is masked.
    pub value: String,
    /// What set it.
    pub origin: Origin,
}

impl Config {
    /// Every setting in force, one row each; task types last, also one row each.
    #[must_use]
    pub(crate) fn describe(&self) -> Vec<Described> {
        let file = self.file.as_ref().map(|file| Setting::new(file.clone(), Origin::File(file.clone())));
        let mut rows = vec![
            optional("config", file.as_ref(), path, "none"),
            row("api_url", &self.api_url, String::clone),
            optional("api_key", self.api_key.as_ref(), |_| "***".to_owned(), "none"),
            row("worker_id", &self.worker_id, String::clone),
            row("poll_interval", &self.poll_interval, duration),
            row("max_backoff", &self.max_backoff, duration),
            row("max_tasks", &self.max_tasks, text),
            row("strategy", &self.strategy, text),
            row("concurrency", &self.concurrency, text),
            row("claim_timeout", &self.claim_timeout, duration),
            row("max_attempts", &self.max_attempts, text),
            row("grace_period", &self.grace_period, duration),
            row("results", &self.results, path),
            row("keep_results", &self.keep_results, duration),
            row("ideas", &self.ideas, path),
            row("youtube_daily_quota", &self.youtube_daily_quota, text),
            row("youtube_cache", &self.youtube_cache, duration),
            row("log_format", &self.log_format, text),
            row("log_level", &self.log_level, String::clone),
            optional("status_addr", self.status_addr.as_ref(), text, "none"),
            optional("ca_file", self.ca_file.as_ref(), path, "the system's certificates"),
            row("youtube_api_url", &self.youtube_api_url, String::clone),
            optional("youtube_api_key", self.youtube_api_key.as_ref(), |_| "***".to_owned(), "none"),
        ];
        let origin = rows[0].origin.clone();
        let types = self.task_types.iter();
        rows.extend(types.map(|it| Described { name: "task_type", value: summary(it), origin: origin.clone() }));
        rows
    }
}

fn row<T>(name: &'static str, setting: &Setting<T>, show: fn(&T) -> String) -> Described {
    Described { name, value: show(&setting.value), origin: setting.origin.clone() }
}

fn optional<T>(name: &'static str, setting: Option<&Setting<T>>, show: fn(&T) -> String, otherwise: &str) -> Described {
    match setting {
        Some(setting) => row(name, setting, show),
        None => Described { name, value: otherwise.to_owned(), origin: Origin::Default },
    }
}

fn text<T: Display>(value: &T) -> String {
    value.to_string()
}

// A row of a `Setting<PathBuf>` hands out just that.
#[allow(clippy::ptr_arg)]
fn path(path: &PathBuf) -> String {
    path.display().to_string()
}

fn duration(duration: &Duration) -> String {
    format_duration(*duration)
}

/// The type, what works it, and how.
fn summary(task_type: &TaskType) -> String {
    let action = match &task_type.action {
        Some(Action::Program(words)) => format!("exec {words:?}"),
        Some(Action::Shell(line)) => format!("exec {line:?}"),
        Some(Action::BuiltIn(name)) => format!("handler {name:?}"),
        None => "no handler".to_owned(),
    };
    let mode = match task_type.mode {
        Mode::Once => String::new(),
        Mode::Persistent { max_tasks: None } => ", persistent".to_owned(),
        Mode::Persistent { max_tasks: Some(max_tasks) } => format!(", persistent, {max_tasks} tasks per process"),
    };
    let subtitles = if task_type.subtitles { ", with subtitles" } else { "" };
    format!("{} {}, {action}{mode}{subtitles}", task_type.name, task_type.version)
}
