//! `replay`: runs a task's handler again locally, to debug it. Nothing is stored or reported.

use std::sync::Arc;

use super::console_observer::ConsoleObserver;
use super::live::WaitLine;
use super::setup::{Setup, supervise_handlers};
use crate::cli::TaskIdArgs;
use crate::clock::Clock;
use crate::config::TaskType;
use crate::exit::{Exit, UserError};
use crate::handler::{Handler, Run};
use crate::library::Handlers;
use crate::output::note;
use crate::store::Store;
use crate::task::{Claim, Task, TaskId, TaskResult};
use crate::worker::{HandlerSource, default_timeout, with_sound_ideas};

/// `prismq replay`
pub(super) fn run(args: &TaskIdArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.install_signal_handlers()?;
    let mut store = Arc::new(setup.store_to_read()?);
    let task = find(TaskId(args.id), setup, &store)?;
    let settings = setup.handled(&task.task_type)?;
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
    setup.print_pretty(&result.envelope())?;
    note("neither stored nor reported");
    Ok(setup.exit_of(&result))
}

/// Returns the task as its last handler got it: from the results file, else from the TaskManager.
fn find(id: TaskId, setup: &Setup, store: &Store) -> anyhow::Result<Task> {
    let client = setup.client()?;
    if let Some(claim) = store.claim(client.url(), id)? {
        return Ok(claim.task);
    }
    if let Some(stored) = store.attempts(client.url(), id)?.pop() {
        let TaskResult { task_type, params, attempt, .. } = stored.result;
        return Ok(Task { id, task_type, params, attempt, priority: 0 });
    }
    let found = setup.interruptible(|| {
        let _waiting = WaitLine::for_taskmanager(setup);
        client.task(id)
    });
    let Some(task) = found? else {
        let message = format!("no task {id} in the TaskManager or in the results file");
        return Err(UserError::new(Exit::Failed, message).into());
    };
    let task = task.into_task();
    Ok(Task { attempt: task.attempt.max(1), ..task })
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
