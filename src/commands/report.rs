//! `complete`, `fail` and `progress`: for scripts that claimed a task by hand.

use std::sync::Arc;

use serde_json::{Value, json};

use super::live::WaitLine;
use super::setup::Setup;
use super::{errors, input};
use crate::cli::{CompleteArgs, FailArgs, ProgressArgs};
use crate::clock::Clock;
use crate::config::Origin;
use crate::exit::{Exit, UserError};
use crate::handler;
use crate::output::{note, print_json, print_line};
use crate::store::{ResultStatus, Store, StoreError, StoredResult, check_ideas};
use crate::task::{Claim, ErrorType, Outcome, TaskId, TaskResult};
use crate::taskmanager::{Client, Delivery};
use crate::worker::Completer;

/// `prismq complete`
pub(super) fn complete(args: &CompleteArgs, setup: &Setup) -> anyhow::Result<Exit> {
    let result = args.result.as_deref().map(|argument| input::json("--result", argument)).transpose()?;
    let outcome = handler::outcome_of(result.unwrap_or(Value::Null));
    check_ideas(&outcome).map_err(|error| UserError::usage(format!("--result: {error}")))?;
    report(TaskId(args.id), outcome, setup)
}

/// `prismq fail`
pub(super) fn fail(args: &FailArgs, setup: &Setup) -> anyhow::Result<Exit> {
    report(TaskId(args.id), Outcome::failure(ErrorType::Handler, args.error.clone()), setup)
}

/// `prismq progress`
pub(super) fn progress(args: &ProgressArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let client = setup.client()?;
    let store = setup.store()?;
    let waiting = WaitLine::for_taskmanager(setup);
    let claim = claim_of(TaskId(args.id), setup, &client, &store)?;
    match client.progress(TaskId(args.id), &claim.worker_id, args.percent, args.message.as_deref()) {
        Err(error) if error.says_not_claimed() => return Err(lost(TaskId(args.id)).into()),
        sent => sent?,
    }
    drop(waiting);
    if setup.json {
        print_json(&json!({"id": args.id, "progress": args.percent, "message": args.message}))?;
    }
    Ok(Exit::Done)
}

/// Stores the result, then reports it, as a worker does. If an unreported result is stored already, that one is sent.
fn report(id: TaskId, outcome: Outcome, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let client = setup.client()?;
    let store = setup.store_with_ideas()?;
    let waiting = WaitLine::for_taskmanager(setup);
    let unreported = unreported(id, &client, &store)?;
    let is_sent_again = unreported.is_some();
    let completer = Completer { store: &store, client: client.clone(), observer: &(), clock: Arc::new(setup.clock()) };
    let (stored, mut result) = if let Some(unreported) = unreported {
        let what = format!("task {id} already has an unreported result: sending that one");
        setup.screen.suspend(|| note(what));
        (Ok(unreported.id), unreported.result)
    } else {
        let mut result = result_of(claim_of(id, setup, &client, &store)?, outcome, setup, &client);
        (completer.store(&mut result), result)
    };
    let delivery = completer.deliver(stored, &mut result, is_sent_again);
    drop(waiting);
    if delivery.map_err(|why| errors::undelivered(id, &why))? == Delivery::ClaimLost {
        return Err(lost(id).into());
    }
    print(&result, &client, setup)?;
    Ok(Exit::Done)
}

fn print(result: &TaskResult, client: &Client, setup: &Setup) -> anyhow::Result<()> {
    if setup.json {
        return Ok(print_json(&result.envelope())?);
    }
    let id = result.task_id;
    if result.outcome.failure.is_none() {
        return Ok(print_line(format_args!("task {id} completed"))?);
    }
    let waiting = WaitLine::for_taskmanager(setup);
    // The failure is reported; this only tells what happens next.
    let status = client.task(id).ok().flatten().map(|task| task.status);
    drop(waiting);
    let attempt = result.attempt;
    let line = match status.as_deref() {
        Some("pending") => format!("attempt {attempt} of task {id} failed; it is pending again and will be retried"),
        Some("claimed") => format!("attempt {attempt} of task {id} failed; it is already claimed again"),
        _ => format!("task {id} failed"),
    };
    Ok(print_line(line)?)
}

fn lost(id: TaskId) -> UserError {
    UserError::new(
        Exit::Failed,
        format!("task {id} is not claimed by this worker: the claim expired or the task has ended"),
    )
    .hint(format!("see `prismq show-task {id}`"))
}

/// Returns the unreported result of a task that is no longer claimed.
fn unreported(id: TaskId, client: &Client, store: &Store) -> Result<Option<StoredResult>, StoreError> {
    if store.claim(client.url(), id)?.is_some() {
        return Ok(None);
    }
    Ok(store.attempts(client.url(), id)?.into_iter().rfind(|stored| stored.reported_at.is_none()))
}

/// Returns the claim in the results file or, if the user names its worker, the one that the TaskManager shows.
fn claim_of(id: TaskId, setup: &Setup, client: &Client, store: &Store) -> anyhow::Result<Claim> {
    let worker_id = &setup.config.worker_id;
    let is_meant = |claim: &Claim| worker_id.origin != Origin::Flag || claim.worker_id == worker_id.value;
    if let Some(claim) = store.claim(client.url(), id)?.filter(is_meant) {
        return Ok(claim);
    }
    if worker_id.origin == Origin::Default {
        let message = match store.attempts(client.url(), id)?.last() {
            Some(last) if last.status == ResultStatus::Completed && last.reported_at.is_some() => {
                return Err(UserError::new(Exit::Failed, ended(last)).into());
            }
            Some(last) => format!("{}; it has not been claimed since with this results file", ended(last)),
            None => format!("task {id} was not claimed with this results file"),
        };
        return Err(UserError::new(Exit::Failed, message)
            .hint("claim it with `prismq claim`, or name its worker with --worker-id")
            .into());
    }
    let Some(task) = client.task(id)? else {
        return Err(UserError::new(Exit::Failed, format!("the TaskManager has no task {id}")).into());
    };
    let claimed_at = setup.clock().moment();
    Ok(Claim {
        task: task.into_task(),
        worker_id: worker_id.value.clone(),
        claimed_at: claimed_at.time,
        deadline: claimed_at.later(setup.config.claim_timeout.value),
    })
}

/// Describes how an earlier attempt ended here.
fn ended(StoredResult { result, status, reported_at, .. }: &StoredResult) -> String {
    let (id, attempt) = (result.task_id, result.attempt);
    match (status, reported_at) {
        (ResultStatus::Completed, Some(at)) => format!("task {id} is already completed: reported here at {at:.0}"),
        (ResultStatus::Failed, Some(at)) => {
            format!("attempt {attempt} of task {id} has already failed: reported here at {at:.0}")
        }
        (ResultStatus::Lost, _) => {
            format!("attempt {attempt} of task {id} has already ended here, after its claim was lost")
        }
        (_, None) => format!("attempt {attempt} of task {id} has already ended here and is not reported yet"),
    }
}

/// Returns the result of work by hand, which took from the claim until now. Only the time of day of the claim is known, so the
/// duration may be negative and then counts as zero.
fn result_of(claim: Claim, outcome: Outcome, setup: &Setup, client: &Client) -> TaskResult {
    let (started_at, finished_at) = (claim.claimed_at, setup.clock().now().max(claim.claimed_at));
    TaskResult::new(claim, outcome, client.url(), started_at, finished_at)
}
