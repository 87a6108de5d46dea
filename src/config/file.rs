//! Finds and reads `prismq.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::layer::{Given, Layer};
use super::table::{TomlDocument, TomlTable};
use super::{ConfigError, Definition, Origin, SETTINGS, TaskType, TextForm, task_type, toml_errors};
use crate::text_file;

/// File name, in the working folder and in the user's configuration folder.
const NAME: &str = "prismq.toml";

/// The key of the task types.
const TASK_TYPE: &str = "task_type";

/// Returns the configuration file to use and its content: the one `named` by the command line or the environment, else
/// the working folder's, else the user's.
pub(super) fn find(
    named: Option<Given>,
    working_dir: &Path,
    config_home: Option<&Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, ConfigError> {
    if let Some(Given { text, origin, .. }) = named {
        let path = PathBuf::from(text);
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

/// Parses the file at `path`, which contains `bytes`, and reads the schemas it names.
pub(super) fn read((path, bytes): &(PathBuf, Vec<u8>)) -> Result<(Layer, Vec<TaskType>), ConfigError> {
    let text = text_file::utf_8_lines(bytes)
        .map_err(|(line, problem)| ConfigError::at(format_args!("{}:{line}", path.display()), problem))?;
    let document = TomlDocument { path, text };
    let root = DeTable::parse(text).map_err(|error| syntax_error(&document, &error))?;
    // Secrets are refused below, with the reason.
    let secrets = SETTINGS.iter().filter(|setting| setting.key_file.is_some()).map(|setting| setting.name);
    let known: Vec<_> = SETTINGS.iter().filter_map(Definition::key).chain([TASK_TYPE]).chain(secrets).collect();
    let table = TomlTable::new(&document, (0, root.get_ref()), &known)?;
    refuse_secrets(&table)?;
    Ok((layer(&table)?, task_types(&table)?))
}

/// Turns a syntax error into our words; the parser's own describe its grammar.
fn syntax_error(document: &TomlDocument<'_>, error: &toml::de::Error) -> ConfigError {
    let problem = toml_errors::explain(&error.message().lines().collect::<Vec<_>>().join(", "));
    document.error(error.span().map_or(0, |span| span.start), format_args!("not valid TOML: {problem}"))
}

fn refuse_secrets(table: &TomlTable<'_>) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        if let (Some(file), Some(entry)) = (setting.key_file, table.get(setting.name)) {
            let error = entry.error("keys do not belong in this file");
            let hint = format!("set {}, or name a file that contains the key with `{}`", setting.variable, file.name);
            return Err(error.hint(hint));
        }
    }
    Ok(())
}

/// Reads the settings at the top of the file.
fn layer(table: &TomlTable<'_>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for setting in SETTINGS {
        let Some(entry) = setting.key().and_then(|key| table.get(key)) else { continue };
        let file = setting.key_file.map(|file| file.what);
        let text = match setting.form {
            TextForm::Path => entry.path()?.into_os_string(),
            _ if file.is_some() => entry.path()?.into_os_string(),
            _ => entry.parse(|text| setting.check(table.document.folder(), text.as_ref()))?,
        };
        layer.insert(setting.name, Given { text, origin: Origin::File(table.document.path.to_owned()), file });
    }
    Ok(layer)
}

fn task_types(table: &TomlTable<'_>) -> Result<Vec<TaskType>, ConfigError> {
    let Some(entry) = table.get(TASK_TYPE) else { return Ok(Vec::new()) };
    let mut names = BTreeSet::new();
    let mut types = Vec::new();
    for (offset, entries) in entry.tables()? {
        let table = TomlTable::new(table.document, (offset, entries), &task_type::KEYS)?;
        let task_type = TaskType::read(&table)?;
        if !names.insert(task_type.name.clone()) {
            return Err(table.error(format_args!("the task type `{}` is defined twice", task_type.name)));
        }
        types.push(task_type);
    }
    Ok(types)
}
