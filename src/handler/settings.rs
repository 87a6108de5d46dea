//! What a handler that is a program is, as it is configured.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a handler runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A program and its arguments, run as they are.
    Program(Vec<String>),
    /// A line for `sh -c`.
    Shell(String),
}

/// How a program is run for each task. It has no `Debug`, for `env` may hold secrets.
#[derive(Clone)]
pub struct ExecSettings {
    /// What is run.
    pub command: Command,
    /// The working folder. A program whose name has a slash is relative to it.
    pub dir: PathBuf,
    /// Variables that the program gets beside, or in place of, the worker's own.
    pub env: BTreeMap<String, String>,
    /// Variables of the worker's that it gets although their names look like those of secrets.
    pub pass_env: Vec<String>,
    /// Whether it gets only the few variables that every program needs, `pass_env` and `env`.
    pub clean_env: bool,
    /// Values that are hidden in what the program prints, wherever it may have them from: the TaskManager's key. So are
    /// those of the variables of `pass_env` whose names look like those of secrets. Values under 4 characters are not.
    pub secrets: Vec<String>,
}
