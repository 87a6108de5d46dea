//! Converts the errors of all modules to one line for users, with a hint and an exit code.

use std::path::Path;

use crate::config::{Config, ConfigError, Origin};
use crate::exit::{Exit, UserError};
use crate::store::StoreError;
use crate::task::TaskId;
use crate::taskmanager::{Client, Error, TaskTypeView};
use crate::worker::{Summary, TypeError, Undelivered, WorkerError};

/// Maximum edit distance of names for a 'did you mean' hint.
const MAX_EDIT_DISTANCE: usize = 2;

/// Converts any error to a user error.
pub(crate) fn explain(error: anyhow::Error) -> UserError {
    let error = match error.downcast::<UserError>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<Error>() {
        return taskmanager(error);
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return store(error);
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return config(error);
    }
    UserError::new(Exit::Failed, format!("{error:#}"))
}

pub(super) fn taskmanager(error: &Error) -> UserError {
    let with = |exit| UserError::new(exit, error.to_string());
    if error.may_be_by_proxy() {
        return with(Exit::Unreachable)
            .hint("is the proxy right? If the TaskManager can be reached without it, add its host to NO_PROXY");
    }
    match error {
        Error::Unreachable { .. } => with(Exit::Unreachable)
            .hint("is it running, and is TASKMANAGER_API_URL right? `prismq serve` starts a local one"),
        Error::Shortage { .. } => with(Exit::Unreachable)
            .hint("raise the limit on open files (`ulimit -n`, LimitNOFILE= under systemd), or lower --concurrency"),
        Error::NotATaskManager { .. } => {
            with(Exit::Unreachable).hint("TASKMANAGER_API_URL must be its base URL, which ends in /api")
        }
        // The message contains the advice.
        Error::NotConnected { .. } => with(Exit::Unreachable),
        Error::Unavailable { .. } => with(Exit::Unreachable).hint("try again later"),
        Error::KeyRefused { with_key: true, .. } => with(Exit::KeyRefused).hint("check TASKMANAGER_API_KEY"),
        Error::KeyRefused { with_key: false, .. } => with(Exit::KeyRefused)
            .hint("set TASKMANAGER_API_KEY, or TASKMANAGER_API_KEY_FILE to a file that contains it"),
        Error::Interrupted => with(Exit::Interrupted),
        Error::Refused { message, .. } if message.contains("'params' must be of type object") => {
            with(Exit::Failed).hint("this TaskManager rejects empty params: give at least one KEY=VALUE")
        }
        Error::Inexact { .. } => with(Exit::Failed).hint("narrow it down with --status or --type"),
        Error::Refused { .. } | Error::InvalidAnswer { .. } => with(Exit::Failed),
    }
}

/// If the error is a refused key, adds where the key came from to its hint.
pub(super) fn naming_key(error: UserError, config: &Config) -> UserError {
    let Some(key) = config.api_key.as_ref().filter(|_| error.exit == Exit::KeyRefused) else { return error };
    match &key.origin {
        Origin::Environment(name) => error.hint(format!("check {name}")),
        Origin::DotEnv(name) => error.hint(format!("check {name} in .env")),
        Origin::File(path) => error.hint(format!("check the file that api_key_file names in {}", path.display())),
        Origin::Flag | Origin::Default => error,
    }
}

/// Returns the error for a result that could not be delivered.
pub(super) fn undelivered(id: TaskId, why: &Undelivered) -> UserError {
    match why {
        Undelivered::NotStored { error, .. } if error.is_of_ideas() => {
            of_task(id, "stays claimed until its claim expires", error)
        }
        Undelivered::NotStored { error, reported: true } => {
            let error = store(error);
            let reported = format!("task {id} was reported anyway");
            let hint = error.hint.as_ref().map_or(reported.clone(), |hint| format!("{hint}; {reported}"));
            error.hint(hint)
        }
        Undelivered::NotStored { error, .. } | Undelivered::NotSettled(error) => store(error),
        Undelivered::NotReported(error) => {
            let mut error = taskmanager(error);
            error.message = format!(
                "{}; the result of task {id} is stored in the results file; `prismq complete {id}` or the next worker \
                 sends it again",
                error.message
            );
            error
        }
    }
}

/// Returns the error for a failed write, with what happens to the task.
pub(super) fn of_task(id: TaskId, fate: &str, error: &StoreError) -> UserError {
    let mut error = store(error);
    error.message = format!("task {id} {fate}: {}", error.message);
    error
}

/// Returns the error for unreported results. The exit code is that of a refused key only if it is the reason for all.
pub(super) fn unreported(summary: &Summary, results: &Path) -> UserError {
    const NAMED: usize = 5;
    let (unreported, file) = (summary.unreported, results.display());
    let Some((id, first)) = summary.refused.first() else {
        let message = format!("unreported results: {unreported}; they are in {file}");
        return UserError::new(Exit::Unreachable, message).hint("the next worker with this results file reports them");
    };
    let key = summary.refused.iter().all(|(_, error)| matches!(error, Error::KeyRefused { .. }));
    let mut ids: Vec<String> = summary.refused.iter().take(NAMED).map(|(id, _)| id.to_string()).collect();
    if summary.refused.len() > NAMED {
        ids.push("…".to_owned());
    }
    let message = format!(
        "unreported results: {unreported}, {} of them refused by the TaskManager (task {}): {first}; they \
         are in {file}",
        summary.refused.len(),
        ids.join(", ")
    );
    let hint = format!("see `prismq explain {id}`; the next worker with this results file sends them again");
    UserError::new(if key { Exit::KeyRefused } else { Exit::Failed }, message).hint(hint)
}

fn config(error: &ConfigError) -> UserError {
    UserError { exit: Exit::Usage, message: error.message.clone(), hint: error.hint.clone() }
}

pub(super) fn store(error: &StoreError) -> UserError {
    match error {
        StoreError::Unusable { .. } => {
            UserError::usage(error.to_string()).hint("choose another with --results or PRISMQ_RESULTS")
        }
        StoreError::WorkerIdInUse { .. } => {
            UserError::usage(error.to_string()).hint("give each worker its own ID, or leave WORKER_ID unset")
        }
        StoreError::Gone { .. } | StoreError::IdeasGone { .. } => UserError::new(Exit::Failed, error.to_string())
            .hint("start it again: it continues with the existing file or creates a new one"),
        StoreError::IdeasUnusable { .. } => {
            UserError::usage(error.to_string()).hint("choose another database with --ideas or IDEA_DB_PATH")
        }
        StoreError::Failed { .. } | StoreError::IdeasFailed { .. } => UserError::new(Exit::Failed, error.to_string()),
    }
}

/// Returns the error for an unknown task type.
pub(super) fn unknown_type(name: &str) -> UserError {
    UserError::usage(format!("the TaskManager has no task type {name}")).hint(format!(
        "register it: prismq register-type {name} (with --schema '{{\"type\":\"object\"}}' if prismq.toml has no schema)"
    ))
}

/// Returns the error for an unknown task type, with a hint if its name is similar to a known one.
pub(super) fn unknown_type_at(client: &Client, name: &str) -> UserError {
    let slips = |known: &TaskTypeView| strsim::damerau_levenshtein(&known.name.to_lowercase(), &name.to_lowercase());
    let known = client.task_types().unwrap_or_default();
    match known.iter().min_by_key(|known| slips(known)).filter(|known| slips(known) <= MAX_EDIT_DISTANCE) {
        Some(near) => unknown_type(name).hint(format!("did you mean {}?", near.name)),
        None => unknown_type(name),
    }
}

impl From<WorkerError> for UserError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Config(error) => config(&error),
            WorkerError::Type(TypeError::Configuration(message)) => Self::usage(message),
            WorkerError::Type(TypeError::Unknown(name)) => {
                let hint = format!("start the worker with --register, or register it: prismq register-type {name}");
                unknown_type(&name).hint(hint)
            }
            WorkerError::Type(TypeError::TaskManager(error)) | WorkerError::TaskManager(error) => taskmanager(&error),
            WorkerError::Store(error) => store(&error),
            WorkerError::Thread { .. } => Self::new(Exit::Failed, error.to_string())
                .hint("lower --concurrency, or raise the limit on processes (`ulimit -u`, TasksMax= under systemd)"),
            WorkerError::OpenFiles { needed, enough_for, .. } => {
                let lower = match enough_for {
                    0 => String::new(),
                    most => format!("set --concurrency to {most} or less, or "),
                };
                Self::usage(error.to_string())
                    .hint(format!("{lower}raise the limit (`ulimit -n {needed}`, LimitNOFILE= under systemd)"))
            }
        }
    }
}
