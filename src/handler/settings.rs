//! How a program is run, as its task type configures it: its command, its folder, and its environment, which is the
//! worker's own without secrets that `pass_env` does not name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A variable whose name contains one of these is taken for a secret.
const SECRET: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];
/// Never passed to handlers: the TaskManager's key, and access to the service manager in our name.
const NEVER: [&str; 5] =
    ["TASKMANAGER_API_KEY", "TASKMANAGER_API_KEY_FILE", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// Passed with `clean_env`, in addition to `LC_*`.
const CLEAN: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Environment variables.
pub(super) type EnvVars = BTreeMap<OsString, OsString>;

/// The command of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecCommand {
    /// A program and its arguments.
    Program(Vec<String>),
    /// A command line for `sh -c`.
    Shell(String),
}

/// How a program is run. Not `Debug`, since `env` may contain secrets.
#[derive(Clone)]
pub struct ExecSettings {
    /// The command to run.
    pub command: ExecCommand,
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

impl ExecSettings {
    /// Creates settings without further variables or secrets.
    #[must_use]
    pub fn new(command: ExecCommand, dir: PathBuf) -> Self {
        Self { command, dir, env: BTreeMap::new(), pass_env: Vec::new(), clean_env: false, secrets: Vec::new() }
    }

    /// Returns the part of the environment that is the same for all tasks; `worker` is the worker's own environment.
    pub(super) fn environment(&self, worker: impl Iterator<Item = (OsString, OsString)>) -> EnvVars {
        let inherited = worker.filter(|(name, _)| self.inherits(name));
        let configured = self.env.iter().map(|(name, value)| (name.into(), value.into()));
        inherited.chain(configured).filter(|(name, _)| !is_never_passed(name)).collect()
    }

    /// Returns the values of the secrets that `pass_env` passes on.
    pub(super) fn passed_secrets(&self, worker: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
        let passed = worker.filter(|(name, _)| looks_secret(name) && self.passes(name));
        passed.map(|(_, value)| value.to_string_lossy().into_owned()).collect()
    }

    fn inherits(&self, name: &OsStr) -> bool {
        self.passes(name) || (!looks_secret(name) && (!self.clean_env || is_clean(name)))
    }

    fn passes(&self, name: &OsStr) -> bool {
        self.pass_env.iter().any(|wanted| name == wanted.as_str())
    }
}

fn is_never_passed(name: &OsStr) -> bool {
    NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}

fn looks_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    SECRET.iter().any(|word| name.contains(word))
}

fn is_clean(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| CLEAN.contains(&name) || name.starts_with("LC_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ExecSettings {
        ExecSettings::new(ExecCommand::Program(vec!["true".into()]), "/".into())
    }

    /// The names that are left of `names`, each with the value `worker`.
    fn left(names: &[&str], settings: &ExecSettings) -> Vec<String> {
        let worker = names.iter().map(|name| (name.into(), "worker".into()));
        settings.environment(worker).into_keys().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn the_workers_own_environment_is_inherited_without_what_looks_secret() {
        let names =
            ["EDITOR", "OPENAI_API_KEY", "github_token", "Db_Password", "MY_SECRETS", "CREDENTIALS_FILE", "PATH"];
        assert_eq!(left(&names, &settings()), ["EDITOR", "PATH"]);
    }

    #[test]
    fn pass_env_lets_a_secret_through_by_its_exact_name() {
        let settings = ExecSettings { pass_env: vec!["OPENAI_API_KEY".into(), "MISSING".into()], ..settings() };
        assert_eq!(left(&["OPENAI_API_KEY", "openai_api_key", "OTHER_KEY"], &settings), ["OPENAI_API_KEY"]);
    }

    #[test]
    fn the_secrets_that_get_through_are_known() {
        let settings = ExecSettings { pass_env: vec!["MY_TOKEN".into(), "EDITOR".into()], ..settings() };
        let worker = [("MY_TOKEN", "one"), ("EDITOR", "two"), ("OTHER_TOKEN", "three")];
        let worker = worker.into_iter().map(|(name, value)| (name.into(), value.into()));
        assert_eq!(settings.passed_secrets(worker), ["one"]);
    }

    #[test]
    fn reserved_variables_are_never_passed_to_handlers() {
        let names = NEVER;
        let settings = ExecSettings {
            pass_env: names.map(String::from).to_vec(),
            env: names.map(|name| (name.into(), "configured".into())).into(),
            ..settings()
        };
        assert_eq!(left(&names, &settings), [""; 0]);
    }

    #[test]
    fn a_clean_environment_keeps_only_the_list_and_what_is_passed() {
        let settings = ExecSettings {
            clean_env: true,
            pass_env: vec!["API_TOKEN".into()],
            env: BTreeMap::from([("MODEL".into(), "small".into())]),
            ..settings()
        };
        let names = ["API_TOKEN", "EDITOR", "HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER"];
        let kept = ["API_TOKEN", "HOME", "LANG", "LC_ALL", "MODEL", "PATH", "TMPDIR", "TZ", "USER"];
        assert_eq!(left(&names, &settings), kept);
    }

    #[test]
    fn the_configured_environment_wins_and_may_hold_secrets() {
        let env = BTreeMap::from([("EDITOR".into(), "mine".into()), ("SOME_KEY".into(), "mine".into())]);
        let settings = ExecSettings { env, ..settings() };
        let worker = [("EDITOR".into(), "worker".into())].into_iter();
        let expected = [("EDITOR", "mine"), ("SOME_KEY", "mine")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(settings.environment(worker), BTreeMap::from(expected));
    }
}
