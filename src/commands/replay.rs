//! `replay`: runs a task's handler again locally, to debug it. Nothing is stored or reported.

use std::sync::Arc;

use super::console_observer::ConsoleObserver;
use super::explain;
use super::live::Waiting;
use super::setup::{Setup, supervise_handlers};
use crate::cli::ReplayArgs;
use crate::clock::Clock;
use crate::config::TaskType;
use crate::exit::{Exit, UserError};
use crate::handler::{Handler, Run};
use crate::library::Handlers;
use crate::output::{note, print_json, print_line};
use crate::shutdown::Phase;
use crate::store::Store;
use crate::task::{Claim, Task, TaskId, TaskResult};
use crate::worker::{HandlerSource, default_timeout, with_sound_ideas};

/// `prismq replay`
pub(super) fn run(args: &ReplayArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.install_signal_handlers()?;
    let mut store = Arc::new(setup.store_to_read()?);
    let task = find(TaskId(args.id), setup, &store)?;
    let settings = settings(&task.task_type, setup)?;
    if settings.reads_youtube() {
        // The file is created if necessary, to count the handler's use of the quota.
        store = Arc::new(setup.store()?);
    }
    let handlers = Handlers::new(&setup.config, Some(Arc::new(setup.youtube_ledger(&store))));
    let handler = handlers.handler(settings).map_err(UserError::usage)?;
    handler.check().map_err(UserError::usage)?;
    supervise_handlers();
    note(format_args!("running the handler of task {} ({}) again", task.id, task.task_type));
    let result = work(task, settings, &*handler, setup);
    let envelope = result.envelope();
    if setup.json {
        print_json(&envelope)?;
    } else {
        print_line(serde_json::to_string_pretty(&envelope)?)?;
    }
    note("neither stored nor reported");
    Ok(match result.outcome.failure {
        _ if setup.shutdown.get() > Phase::Running => Exit::Interrupted,
        None => Exit::Done,
        Some(_) => Exit::Failed,
    })
}

/// Returns the task as its last handler got it: from the results file, else from the TaskManager.
fn find(id: TaskId, setup: &Setup, store: &Store) -> anyhow::Result<Task> {
    let client = setup.client()?;
    if let Some(claim) = store.claim(client.url(), id)? {
        return Ok(claim.task);
    }
    if let Some(stored) = explain::attempts(store, client.url(), id)?.pop() {
        let TaskResult { task_type, params, attempt, .. } = stored.result;
        return Ok(Task { id, task_type, params, attempt, priority: 0 });
    }
    let found = setup.interruptible(|| {
        let _waiting = Waiting::for_taskmanager(setup);
        client.task(id)
    });
    let Some(task) = found? else {
        let message = format!("no task {id} at the TaskManager or in the results file");
        return Err(UserError::new(Exit::Failed, message).into());
    };
    let task = task.into_task();
    Ok(Task { attempt: task.attempt.max(1), ..task })
}

/// Returns the configuration of a task type.
fn settings<'a>(task_type: &str, setup: &'a Setup) -> Result<&'a TaskType, UserError> {
    setup.configured(task_type).ok_or_else(|| {
        UserError::usage(format!("{task_type} has no handler: it is not configured"))
            .hint("add it to prismq.toml as a [[task_type]]")
    })
}

/// Runs the handler once, as a worker would after a claim.
fn work(task: Task, settings: &TaskType, handler: &dyn Handler, setup: &Setup) -> TaskResult {
    let start = setup.clock().moment();
    let claim_timeout = setup.config.claim_timeout.value;
    let timeout = settings.timeout.map_or(default_timeout(claim_timeout), |timeout| timeout.min(claim_timeout));
    let worker_id = setup.config.worker_id.value.clone();
    let claim = Claim { task, worker_id, claimed_at: start.time, deadline: start.later(timeout) };
    let stop = setup.stop_on_signals();
    let (console_observer, line) = ConsoleObserver::new(claim.task.id, setup);
    let outcome = with_sound_ideas(handler.run(&claim, &Run::new(timeout, &stop, &console_observer)));
    handler.end_idle(&stop);
    drop(line);
    TaskResult::new(claim, outcome, &setup.config.api_url, start.time, start.now())
}
