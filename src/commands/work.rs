//! `work`: runs the worker.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::live::{self, Live};
use super::setup::Setup;
use super::status::StatusEndpoint;
use super::systemd::Systemd;
use super::termination::RunningTasks;
use super::worker_observer::{PauseRecorder, WorkerObserver};
use super::{errors, status, types};
use crate::cli::WorkArgs;
use crate::config::{Action, TaskType};
use crate::exit::{Exit, UserError};
use crate::library::{Handlers, WORKER, log_quota};
use crate::output::print_json;
use crate::shutdown::Phase;
use crate::store::Store;
use crate::taskmanager::{Client, TaskFilter};
use crate::worker::{self, Observer, Summary, Tools, WorkerError, WorkerOptions};

/// `prismq work`
pub(super) fn run(args: &WorkArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let running = install_signal_handlers(setup)?;
    let task_types = task_types(args, setup)?;
    #[cfg(feature = "server")]
    let _server = args.embedded.then(|| super::serve::embedded(setup)).transpose()?;
    let status = status::start(&task_types, setup)?;
    let mut client = if is_embedded(args) { setup.own_client()? } else { setup.client()? };
    if let Some(status) = &status {
        client = client.with_meter(status.meter());
    }
    let store = Arc::new(setup.store_with_ideas()?);
    let options = options(args, task_types);
    let observer = observer(status.as_ref(), &store, running, setup);
    let handlers = handlers(status.as_ref(), &store, setup);
    let tools = Tools {
        config: &setup.config,
        client: &client,
        store: &store,
        handlers: &handlers,
        observer: &observer,
        shutdown: &setup.shutdown,
    };
    let ended = worker::run(&options, &tools);
    if let Some(live) = &observer.live {
        live.end();
    }
    if let Some(summary) = observer.summary().filter(|_| setup.json) {
        print_json(&summary)?;
    }
    let summary = ended.map_err(|error| explain(error, observer.summary(), setup))?;
    let done = conclude(&summary, setup)?;
    if args.drain && setup.shutdown.get() == Phase::Running {
        refuse_snoozed(&summary, &client)?;
    }
    Ok(done)
}

fn options(args: &WorkArgs, task_types: Vec<TaskType>) -> WorkerOptions {
    WorkerOptions {
        task_types,
        register: args.register || is_embedded(args),
        drain: args.drain,
        exit_after_idle: args.exit_after_idle,
        watchdog: Systemd::watchdog(),
        ..WorkerOptions::default()
    }
}

/// Returns the configured handlers. The YouTube quota is logged and shown on `status_addr`.
fn handlers<'a>(status: Option<&StatusEndpoint>, store: &Arc<Store>, setup: &'a Setup) -> Handlers<'a> {
    let show = status.map(|status| status.quota_listener(setup.clock()));
    let ledger = setup.youtube_ledger(store).with_listener(Box::new(move |event| {
        log_quota(event);
        if let Some(show) = &show {
            show(event);
        }
    }));
    Handlers::new(&setup.config, Some(Arc::new(ledger)))
}

/// Returns the observer of the worker's events.
fn observer(
    status: Option<&StatusEndpoint>,
    store: &Arc<Store>,
    running: Arc<RunningTasks>,
    setup: &Setup,
) -> WorkerObserver {
    let worker_id = setup.config.worker_id.value.clone();
    let pauses = PauseRecorder { store: Arc::clone(store), worker_id, clock: setup.clock() };
    let mut others: Vec<Box<dyn Observer>> = vec![Box::new(pauses)];
    others.extend(status.map(|status| status.observer(setup.clock())));
    WorkerObserver {
        live: live::is_wanted().then(|| Live::spinner(&setup.screen)),
        others,
        systemd: Systemd::of_environment(),
        running,
        ended: OnceLock::new(),
    }
}

/// Installs the signal handlers. If no task is running, everything is in the results file, and the program may end at once.
fn install_signal_handlers(setup: &Setup) -> anyhow::Result<Arc<RunningTasks>> {
    let running = Arc::new(RunningTasks::new());
    let (at_work, grace_period) = (Arc::clone(&running), setup.config.grace_period.value);
    let is_due = move |first| at_work.is_due(first, grace_period);
    let at_end = Arc::clone(&running);
    setup
        .install_signal_handlers_until(is_due, move || if at_end.is_over() { Exit::Done } else { Exit::Interrupted })?;
    Ok(running)
}

#[cfg(feature = "server")]
fn is_embedded(args: &WorkArgs) -> bool {
    args.embedded
}

#[cfg(not(feature = "server"))]
fn is_embedded(_: &WorkArgs) -> bool {
    false
}

/// Converts the error that ended a worker. Its results are in the results file, unless that is what failed.
fn explain(error: WorkerError, summary: Option<&Value>, setup: &Setup) -> UserError {
    let is_kept = matches!(error, WorkerError::TaskManager(_));
    let unreported = summary.and_then(|summary| summary["unreported"].as_u64()).filter(|count| is_kept && *count > 0);
    let mut error = UserError::from(error);
    if let Some(unreported) = unreported {
        let file = setup.config.results.display();
        error.message = format!("{}; unreported results: {unreported}; they are in {file}", error.message);
    }
    error
}

/// Returns the exit code. Unreported results are normal after a signal, but an error if the worker was to finish its work.
fn conclude(summary: &Summary, setup: &Setup) -> Result<Exit, UserError> {
    if summary.unreported == 0 || setup.shutdown.get() > Phase::Running {
        return Ok(Exit::Done);
    }
    Err(errors::unreported(summary, &setup.config.results))
}

/// Fails if a drain leaves pending tasks of types that are not being claimed.
fn refuse_snoozed(summary: &Summary, client: &Client) -> anyhow::Result<()> {
    for (task_type, until) in &summary.snoozed {
        // The TaskManager may spell the name in another case; an unregistered type has no tasks.
        let Some(known) = client.task_type(task_type)? else { continue };
        let filter = TaskFilter { status: Some("pending".into()), type_pattern: Some(known.name), limit: 1 };
        if !client.tasks(&filter)?.is_empty() {
            let message = format!("tasks left: {task_type} is snoozed until {until:.0}");
            return Err(UserError::new(Exit::Failed, message).hint("run it again then").into());
        }
    }
    Ok(())
}

/// Returns the types to run: those named, or all configured ones, and those added by `--handle`.
fn task_types(args: &WorkArgs, setup: &Setup) -> anyhow::Result<Vec<TaskType>> {
    let added: Vec<TaskType> = args.handles.iter().map(added).collect::<Result<_, _>>()?;
    if let Some(twice) = (1..added.len()).find(|at| added[..*at].iter().any(|it| it.name == added[*at].name)) {
        let name = &added[twice].name;
        return Err(UserError::usage(format!("--handle: the task type {name} is given twice")).into());
    }
    let mut task_types = added.clone();
    let mut add = |task_type: &TaskType| {
        if task_types.iter().all(|there| there.name != task_type.name) {
            task_types.push(task_type.clone());
        }
    };
    for name in &args.types {
        if let Some(task_type) = setup.configured(name) {
            add(task_type);
        } else if added.iter().all(|it| it.name != *name) {
            return Err(not_configured(name, setup).into());
        }
    }
    if args.types.is_empty() && added.is_empty() {
        workable(setup)?.into_iter().for_each(add);
    }
    if task_types.is_empty() { Err(types::no_types().into()) } else { Ok(task_types) }
}

/// Returns the configured types with a handler, at least one. Others may exist for registration only.
fn workable(setup: &Setup) -> Result<Vec<&TaskType>, UserError> {
    let (with, without): (Vec<_>, Vec<_>) = setup.config.task_types.iter().partition(|it| it.action.is_some());
    match without.first() {
        Some(first) if with.is_empty() => return Err(UserError::usage(worker::no_handler(&first.name))),
        _ => {}
    }
    for task_type in without {
        log::info!(target: WORKER, task_type = task_type.name.as_str(); "task type skipped: it has no handler");
    }
    Ok(with)
}

fn added(handle: &crate::cli::Handle) -> anyhow::Result<TaskType> {
    let mut task_type = TaskType::new(handle.task_type.clone(), std::env::current_dir()?);
    task_type.action = Some(Action::Shell(handle.command.clone()));
    Ok(task_type)
}

fn not_configured(name: &str, setup: &Setup) -> UserError {
    let known: Vec<&str> = setup.config.task_types.iter().map(|it| it.name.as_str()).collect();
    let error = UserError::usage(format!("the task type {name} is not configured"));
    match known.as_slice() {
        [] => error.hint(format!("add it to prismq.toml, or use --handle '{name}=COMMAND'")),
        known => error.hint(format!("configured types: {}", known.join(", "))),
    }
}
