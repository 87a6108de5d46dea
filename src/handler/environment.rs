//! Environment of a handler's process: the worker's own, without secrets that `pass_env` does not name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::process::PROGRESS_FD;
use super::settings::ExecSettings;
use crate::task::Claim;

/// A variable whose name contains one of these is taken for a secret.
const SECRET: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];
/// Never passed to handlers: the TaskManager's key, and access to the service manager in our name.
const NEVER: [&str; 5] =
    ["TASKMANAGER_API_KEY", "TASKMANAGER_API_KEY_FILE", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// Passed with `clean_env`, in addition to `LC_*`.
const CLEAN: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

pub(super) type Variables = BTreeMap<OsString, OsString>;

/// Returns the part of the environment that is the same for all tasks; `worker` is the worker's own environment.
pub(super) fn environment(worker: impl Iterator<Item = (OsString, OsString)>, settings: &ExecSettings) -> Variables {
    let inherited = worker.filter(|(name, _)| is_inherited(name, settings));
    let configured = settings.env.iter().map(|(name, value)| (name.into(), value.into()));
    inherited.chain(configured).filter(|(name, _)| !is_never_passed(name)).collect()
}

/// Returns the variables of a process that runs only the task of `claim`.
pub(super) fn of_task(claim: &Claim) -> Variables {
    let mut variables = of_process(claim);
    variables.extend(to_variables([
        ("PRISMQ_TASK_ID", claim.task.id.to_string()),
        ("PRISMQ_ATTEMPT", claim.task.attempt.to_string()),
        ("PRISMQ_DEADLINE", claim.deadline.to_string()),
    ]));
    variables
}

/// Returns the variables of a persistent process: those that do not depend on the task.
pub(super) fn of_process(claim: &Claim) -> Variables {
    to_variables([
        ("PRISMQ_TASK_TYPE", claim.task.task_type.clone()),
        ("PRISMQ_WORKER_ID", claim.worker_id.clone()),
        ("PRISMQ_PROGRESS_FD", PROGRESS_FD.to_string()),
    ])
}

fn to_variables<const N: usize>(variables: [(&str, String); N]) -> Variables {
    variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Returns the values of the secrets that `pass_env` passes on.
pub(super) fn passed_secrets(
    worker: impl Iterator<Item = (OsString, OsString)>,
    settings: &ExecSettings,
) -> Vec<String> {
    let passed = worker.filter(|(name, _)| looks_secret(name) && is_passed(name, settings));
    passed.map(|(_, value)| value.to_string_lossy().into_owned()).collect()
}

fn is_inherited(name: &OsStr, settings: &ExecSettings) -> bool {
    is_passed(name, settings) || (!looks_secret(name) && (!settings.clean_env || is_clean(name)))
}

fn is_passed(name: &OsStr, settings: &ExecSettings) -> bool {
    settings.pass_env.iter().any(|wanted| name == wanted.as_str())
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
    use crate::handler::settings::Command;

    fn settings() -> ExecSettings {
        ExecSettings {
            command: Command::Program(vec!["true".into()]),
            dir: "/".into(),
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            clean_env: false,
            secrets: Vec::new(),
        }
    }

    /// The names that are left of `names`, each with the value `worker`.
    fn left(names: &[&str], settings: &ExecSettings) -> Vec<String> {
        let worker = names.iter().map(|name| (name.into(), "worker".into()));
        environment(worker, settings).into_keys().map(|name| name.into_string().unwrap()).collect()
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
        assert_eq!(passed_secrets(worker, &settings), ["one"]);
    }

    #[test]
    fn what_is_for_us_alone_never_gets_through() {
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
        assert_eq!(environment(worker, &settings), BTreeMap::from(expected));
    }
}
