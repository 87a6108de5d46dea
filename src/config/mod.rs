//! Configuration: command line, environment, `.env`, `prismq.toml` and defaults become one [`Config`], in which each
//! value has its origin.
//!
//! Each source is read into a layer of the same shape, and the layers are merged in one pure step. Nothing here changes
//! the process's environment.

mod definition;
mod dot_env;
mod duration;
mod environment;
mod error;
mod file;
mod layer;
mod setting;
mod settings;
mod table;
mod task_type;
#[cfg(test)]
mod tests;
mod toml_errors;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use environment::VariableSource;
use layer::Given;

use crate::text_file;

pub(crate) use definition::{CliOption, Definition, Scope, TextForm};
pub(crate) use duration::{format_duration, parse_duration, parse_positive_duration};
pub use error::ConfigError;
pub(crate) use error::{did_you_mean, is_near};
pub(crate) use layer::Flags;
pub(crate) use setting::{Described, Origin, Secret, Setting};
pub(crate) use settings::{Config, SETTINGS};
pub(crate) use task_type::{Action, Mode, Retry, TaskType, task_type_name};
pub use values::Strategy;
pub(crate) use values::{
    LogFormat, expand_home, parse_address, parse_concurrency, parse_log_filter, parse_max_attempts, parse_max_tasks,
    whole,
};

/// The setting that names `prismq.toml`.
const CONFIG: &str = "config";

/// The sources of settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// Settings from the command line.
    pub flags: Flags,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// The working folder.
    pub working_dir: PathBuf,
    /// The user's configuration folder, if there is one.
    pub config_home: Option<PathBuf>,
    /// The user's data folder, if there is one.
    pub data_home: Option<PathBuf>,
}

impl Sources {
    /// Returns the sources of this process, with `flags`.
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

/// Reads and merges all sources.
pub(crate) fn load(sources: Sources) -> Result<Config, ConfigError> {
    let Sources { flags, environment, working_dir, config_home, data_home } = sources;
    let dot_env = dot_env::read(&working_dir.join(".env"))?;
    let process = VariableSource {
        variables: &environment,
        refused: &BTreeMap::new(),
        origin: Origin::Environment,
        base: &working_dir,
    };
    let gaps = VariableSource {
        variables: &dot_env.values,
        refused: &dot_env.refused,
        origin: Origin::DotEnv,
        base: &working_dir,
    };
    let mut layer = flags.layer(&working_dir)?.over(process.layer()?).over(gaps.layer()?);

    let file = file::find(layer.remove(CONFIG), &working_dir, config_home.as_deref())?;
    let mut task_types = Vec::new();
    if let Some(file) = file {
        let below;
        (below, task_types) = file::read(&file)?;
        layer = layer.over(below);
        let (path, _) = file;
        layer.insert(CONFIG, Given::new(path.clone().into(), Origin::File(path)));
    }
    let results = default_results(environment.get("STATE_DIRECTORY"), data_home.as_deref(), &working_dir)?;
    Config::new(&layer, task_types, results)
}

/// Builds a configuration from flags and defaults only: no environment, no `.env`, no file.
pub(crate) fn of_flags(sources: Sources) -> Result<Config, ConfigError> {
    let Sources { flags, working_dir, data_home, .. } = sources;
    let mut layer = flags.layer(&working_dir)?;
    layer.remove(CONFIG);
    Config::new(&layer, Vec::new(), default_results(None, data_home.as_deref(), &working_dir)?)
}

impl Config {
    /// Returns one row for each setting, then one for each task type.
    #[must_use]
    pub(crate) fn describe(&self) -> Vec<Described> {
        let settings = SETTINGS.iter().zip(self.values()).map(|(setting, value)| {
            let (value, origin) = value.unwrap_or_else(|| (setting.unset.to_owned(), Origin::Default));
            Described { name: setting.name, value, origin }
        });
        let origin = self.config.as_ref().map_or(Origin::Default, |file| file.origin.clone());
        let types = self.task_types.iter().map(|it| Described {
            name: "task_type",
            value: it.summary(),
            origin: origin.clone(),
        });
        settings.chain(types).collect()
    }
}

/// Returns a new worker id, `<host>-<8 hex>`: readable in a list of tasks, and unique for each process.
fn new_worker_id() -> String {
    let host = hostname::get().ok().map(|host| host.to_string_lossy().into_owned());
    let host = host.filter(|host| crate::name::hidden(host).is_none());
    format!("{}-{:08x}", host.as_deref().unwrap_or("worker"), crate::random_id::random_id() >> 32)
}

/// Returns the default results file: in the service's state folder (the first, if systemd gave several), else in the
/// user's data folder. A process with neither keeps its results in the working folder, so that commands that need no
/// results do not fail.
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
