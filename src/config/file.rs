//! `prismq.toml`: where it is, and what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::layer::{Key, Layer};
use super::table::{Document, Table};
use super::task_type;
use super::{
    ConfigError, Origin, Setting, TaskType, parse_address, parse_concurrency, parse_duration, parse_max_attempts,
    parse_max_tasks, parse_positive_duration, values,
};
use crate::text_file;

/// The file's name, in the working folder and in the user's configuration folder.
const NAME: &str = "prismq.toml";

/// The keys at the top of the file; the last two are refused with a word on why.
const KEYS: [&str; 25] = [
    "api_url",
    "api_key_file",
    "worker_id",
    "poll_interval",
    "max_backoff",
    "max_tasks",
    "strategy",
    "concurrency",
    "claim_timeout",
    "max_attempts",
    "grace_period",
    "results",
    "keep_results",
    "ideas",
    "youtube_daily_quota",
    "youtube_cache",
    "log_format",
    "log_level",
    "status_addr",
    "ca_file",
    "youtube_api_url",
    "youtube_api_key_file",
    "task_type",
    "api_key",
    "youtube_api_key",
];

/// The file in force and what is in it: `named` by the command line or the environment, else the working folder's, else
/// the user's.
pub(super) fn find(
    named: Option<Setting<PathBuf>>,
    working_dir: &Path,
    config_home: Option<&Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, ConfigError> {
    if let Some(Setting { value: path, origin }) = named {
        let what = match origin {
            Origin::Flag => "--config".to_owned(),
            Origin::Environment(name) => name.to_owned(),
            other => other.to_string(),
        };
        if !path.exists() {
            return Err(ConfigError::at(what, format_args!("no such file: {}", path.display())));
        }
        let bytes = text_file::read(&path, text_file::MAX_SETTINGS)
            .map_err(|error| ConfigError::unreadable(format_args!("{what}: {}", path.display()), &error))?;
        return Ok(Some((path, bytes)));
    }
    let users = config_home.map(|home| home.join("prismq").join(NAME));
    for path in [Some(working_dir.join(NAME)), users].into_iter().flatten() {
        let found = text_file::read_found(&path, text_file::MAX_SETTINGS);
        if let Some(bytes) = found.map_err(|error| ConfigError::unreadable(path.display(), &error))? {
            return Ok(Some((path, bytes)));
        }
    }
    Ok(None)
}

/// Reads the file at `path`, which holds these bytes, and the schemas it names.
pub(super) fn read((path, bytes): &(PathBuf, Vec<u8>)) -> Result<(Layer, Vec<TaskType>), ConfigError> {
    let text = text_file::utf_8_lines(bytes)
        .map_err(|(line, problem)| ConfigError::at(format_args!("{}:{line}", path.display()), problem))?;
    let document = Document { path, text };
    let root = DeTable::parse(text).map_err(|error| syntax_error(&document, &error))?;
    let table = Table::new(&document, (0, root.get_ref()), &KEYS)?;
    refuse(&table)?;
    Ok((layer(&table)?, task_types(&table)?))
}

/// What the parser says, and in plain words.
const OUR_WORDS: [(&str, &str); 6] = [
    ("string values must be quoted, expected literal string", "text must be in quotes"),
    ("key with no value, expected `=`", "a key without `=` and a value"),
    ("unclosed array, expected `]`", "a list is not closed: `]` is missing"),
    ("unclosed inline table, expected `}`", "a table is not closed: `}` is missing"),
    ("invalid basic string, expected `\"`", "a string is not closed: `\"` is missing"),
    ("duplicate key", "the key is defined twice"),
];

/// The parser's own words span several lines and quote the file, which might hold a key.
fn syntax_error(document: &Document<'_>, error: &toml::de::Error) -> ConfigError {
    let mut problem = error.message().lines().collect::<Vec<_>>().join(", ");
    for (theirs, ours) in OUR_WORDS {
        problem = problem.replace(theirs, ours);
    }
    document.error(error.span().map_or(0, |span| span.start), format_args!("not valid TOML: {problem}"))
}

fn refuse(table: &Table<'_>) -> Result<(), ConfigError> {
    for (key, variable, file) in [
        ("api_key", "TASKMANAGER_API_KEY", "api_key_file"),
        ("youtube_api_key", "YOUTUBE_API_KEY", "youtube_api_key_file"),
    ] {
        if let Some(entry) = table.get(key) {
            let error = entry.error("keys do not belong in this file");
            return Err(error.hint(format!("set {variable}, or name a file that holds the key with `{file}`")));
        }
    }
    Ok(())
}

fn layer(table: &Table<'_>) -> Result<Layer, ConfigError> {
    let file = table.document.path;
    Ok(Layer {
        config: None,
        api_url: here(file, table.parse("api_url", values::api_url)?),
        api_key: here(file, table.path("api_key_file")?.map(Key::File)),
        worker_id: here(file, table.parse("worker_id", values::worker_id)?),
        poll_interval: here(file, table.parse("poll_interval", parse_positive_duration)?),
        max_backoff: here(file, table.parse("max_backoff", parse_positive_duration)?),
        claim_timeout: here(file, table.parse("claim_timeout", parse_positive_duration)?),
        grace_period: here(file, table.parse("grace_period", parse_duration)?),
        max_tasks: here(file, table.parse("max_tasks", parse_max_tasks)?),
        strategy: here(file, table.parse("strategy", str::parse)?),
        concurrency: here(file, table.parse("concurrency", parse_concurrency)?),
        max_attempts: here(file, table.parse("max_attempts", parse_max_attempts)?),
        results: here(file, table.path("results")?),
        keep_results: here(file, table.parse("keep_results", parse_duration)?),
        ideas: here(file, table.path("ideas")?),
        youtube_daily_quota: here(file, table.parse("youtube_daily_quota", values::daily_quota)?),
        youtube_cache: here(file, table.parse("youtube_cache", parse_duration)?),
        log_format: here(file, table.parse("log_format", str::parse)?),
        log_level: here(file, table.parse("log_level", values::log_level)?),
        status_addr: here(file, table.parse("status_addr", parse_address)?),
        ca_file: here(file, table.path("ca_file")?),
        youtube_api_url: here(file, table.parse("youtube_api_url", values::api_url)?),
        youtube_api_key: here(file, table.path("youtube_api_key_file")?.map(Key::File)),
    })
}

fn here<T>(file: &Path, value: Option<T>) -> Option<Setting<T>> {
    value.map(|value| Setting::new(value, Origin::File(file.to_owned())))
}

fn task_types(table: &Table<'_>) -> Result<Vec<TaskType>, ConfigError> {
    let Some(entry) = table.get("task_type") else { return Ok(Vec::new()) };
    let mut names = BTreeSet::new();
    let mut types = Vec::new();
    for (offset, entries) in entry.tables()? {
        let table = Table::new(table.document, (offset, entries), &task_type::KEYS)?;
        let task_type = TaskType::read(&table)?;
        if !names.insert(task_type.name.clone()) {
            return Err(table.error(format_args!("the task type `{}` is defined twice", task_type.name)));
        }
        types.push(task_type);
    }
    Ok(types)
}
