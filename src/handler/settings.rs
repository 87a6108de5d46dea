//! How a program is run, as its task type configures it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The command of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A program and its arguments.
    Program(Vec<String>),
    /// A command line for `sh -c`.
    Shell(String),
}

/// How a program is run. Not `Debug`, since `env` may contain secrets.
#[derive(Clone)]
pub struct ExecSettings {
    /// The command to run.
    pub command: Command,
    /// The working folder. A program whose name has a slash is relative to it.
    pub dir: PathBuf,
    /// Variables added to the environment that the program inherits from the worker; they override it.
    pub env: BTreeMap<String, String>,
    /// Variables to inherit although their names look like secrets.
    pub pass_env: Vec<String>,
    /// Whether to inherit only a few common variables and `pass_env`.
    pub clean_env: bool,
    /// Values to redact in the program's output, such as the TaskManager's key. Variables of `pass_env` that look like
    /// secrets are redacted as well. Values shorter than 4 characters are not.
    pub secrets: Vec<String>,
}
