//! `claim`: claims one task by hand, to print it or to run it here.

mod poll;

use std::sync::Arc;
use std::time::Duration;

use self::poll::{ManualPoller, ManuallyClaimed, WantedType};
use super::console_observer::ConsoleObserver;
use super::live::WaitLine;
use super::setup::{Setup, known_type, supervise_handlers};
use super::{errors, types};
use crate::cli::ClaimArgs;
use crate::clock::{Clock, Moment, Timestamp};
use crate::exit::{Exit, UserError};
use crate::library::Handlers;
use crate::output::note;
use crate::shutdown::Phase;
use crate::store::Store;
use crate::task::{Claim, Task};
use crate::taskmanager::{Client, LongPollPolicy};
use crate::worker::{Completer, Executor, HandlerSource, WorkerError, WorkerType};

/// A claim by hand.
struct ManualClaim<'a> {
    args: &'a ClaimArgs,
    setup: &'a Setup,
    client: Client,
    store: Arc<Store>,
    handlers: Handlers<'a>,
}

/// `prismq claim`
pub(super) fn run(args: &ClaimArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.install_signal_handlers()?;
    if !args.run {
        setup.end_on_second_signal();
    }
    let client = setup.client()?;
    let store = Arc::new(if args.run { setup.store_with_ideas()? } else { setup.store()? });
    let handlers = Handlers::new(&setup.config, Some(Arc::new(setup.youtube_ledger(&store))));
    let manual = ManualClaim { args, setup, client, store, handlers };
    let (wanted, types) = setup.interruptible(|| {
        let _waiting = WaitLine::for_taskmanager(setup);
        let wanted = manual.wanted()?;
        let types = if args.run { manual.runnable(&wanted)? } else { Vec::new() };
        anyhow::Ok((wanted, types))
    })?;
    if args.run {
        supervise_handlers();
    }
    let Some(ManuallyClaimed { index, task, claimed_at }) = manual.claim(&wanted, &types)? else {
        return if setup.shutdown.get() > Phase::Running {
            Ok(Exit::Interrupted)
        } else {
            Err(no_task(&wanted, &types, setup.clock().now()).into())
        };
    };
    match types.get(index) {
        Some(worker_type) => manual.work(task, claimed_at, worker_type),
        None => manual.keep(task, claimed_at),
    }
}

/// Returns the error for an empty queue. Its hint names the types that are snoozed.
fn no_task(wanted: &[WantedType<'_>], types: &[WorkerType], now: Timestamp) -> UserError {
    let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name).collect();
    let error = UserError::new(Exit::NoTask, format!("no pending task of type {}", names.join(", ")));
    let snoozed =
        |it: &WorkerType| it.snoozed_until(now).map(|until| format!("{} is snoozed until {until:.0}", it.name));
    match types.iter().filter_map(snoozed).collect::<Vec<_>>() {
        snoozed if snoozed.is_empty() => error,
        snoozed => error.hint(snoozed.join("; ")),
    }
}

impl<'a> ManualClaim<'a> {
    fn wanted(&self) -> anyhow::Result<Vec<WantedType<'a>>> {
        let mut names: Vec<&str> = self.args.types.iter().map(String::as_str).collect();
        if names.is_empty() {
            names.extend(self.setup.config.task_types.iter().map(|task_type| task_type.name.as_str()));
        }
        if names.is_empty() {
            return Err(types::no_types().into());
        }
        let find = |name| Ok(WantedType { name, id: known_type(&self.client, name)?.id });
        names.into_iter().map(find).collect()
    }

    /// Resolves the types with their handlers; a type without one is an error before any task is claimed.
    fn runnable(&self, wanted: &[WantedType<'_>]) -> Result<Vec<WorkerType>, UserError> {
        let mut warn = |warning| log::warn!("{warning}");
        let resolve = |wanted: &WantedType<'_>| {
            let configured = self.setup.handled(wanted.name)?;
            let handler = self.handlers.handler(configured).map_err(UserError::usage)?;
            handler.check().map_err(UserError::usage)?;
            let claim_timeout = self.setup.config.claim_timeout.value;
            configured.timeout_beyond(claim_timeout, "").into_iter().for_each(&mut warn);
            let resolved = WorkerType::resolve(configured, handler, &self.setup.config, &self.client, &mut warn);
            resolved.map_err(|error| WorkerError::Type(error).into())
        };
        wanted.iter().map(resolve).collect()
    }

    /// Waits for a task: once, for as long as `--timeout` says, or until a signal.
    fn claim(&self, wanted: &[WantedType<'_>], types: &[WorkerType]) -> anyhow::Result<Option<ManuallyClaimed>> {
        let names: Vec<&str> = wanted.iter().map(|it| it.name).collect();
        let _waiting = WaitLine::message(format!("waiting for a task of type {}", names.join(", ")), self.setup);
        let most = if self.args.once { Duration::ZERO } else { self.args.timeout.unwrap_or(Duration::MAX) };
        let (setup, client, store) = (self.setup, &self.client, &*self.store);
        ManualPoller { setup, client, store, wanted, types, long_poll: LongPollPolicy::new(wanted.len()) }.wait(most)
    }

    /// Prints the task, notes its claim for `complete`, `fail` and `progress`, and shows these commands.
    fn keep(&self, task: Task, claimed_at: Moment) -> anyhow::Result<Exit> {
        let config = &self.setup.config;
        let deadline = claimed_at.later(config.claim_timeout.value);
        let claim = Claim { task, worker_id: config.worker_id.value.clone(), claimed_at: claimed_at.time, deadline };
        // The task is claimed now, so the user has to learn of it even if one of these fails.
        let noted = self.store.note_claim(&claim, self.client.url(), None);
        let printed = self.setup.print_pretty(&claim);
        let id = claim.task.id;
        note(format_args!("claimed until {:.0}; next:", claim.deadline.time));
        // Without the note in the results file, the commands need the worker ID.
        let by = noted.as_ref().err().map_or(String::new(), |_| format!(" --worker-id {}", claim.worker_id));
        note(format_args!("  prismq complete {id}{by} --result '{{\"answer\":42}}'"));
        note(format_args!("  prismq fail {id}{by} --error 'what went wrong'"));
        noted.map_err(|error| errors::of_task(id, "is claimed", &error))?;
        printed.map(|()| Exit::Done)
    }

    /// Runs a task here, as a worker would, and reports it unless `--no-report` is set.
    fn work(&self, task: Task, claimed_at: Moment, worker_type: &WorkerType) -> anyhow::Result<Exit> {
        let (console_observer, line) = ConsoleObserver::new(task.id, self.setup);
        let clock: Arc<dyn Clock> = Arc::new(self.setup.clock());
        let client = self.client.clone();
        let completer = Completer { store: &self.store, client, observer: &console_observer, clock };
        let executor = Executor { config: &self.setup.config, completer };
        let claim = executor.claim(task, worker_type, claimed_at);
        let crash_count = match self.store.note_claim(&claim, self.client.url(), None) {
            Ok(crash_count) => crash_count,
            Err(error) => {
                let id = claim.task.id;
                let returned = executor.completer.return_task(claim, &error);
                let fate = if returned { "was returned" } else { "stays claimed until its claim expires" };
                return Err(errors::of_task(id, fate, &error).into());
            }
        };
        let Task { id, task_type, attempt, .. } = &claim.task;
        self.setup.screen.suspend(|| note(format_args!("running task {id} ({task_type}), attempt {attempt}")));
        let deadline = claim.deadline;
        let stop = self.setup.stop_on_signals();
        let mut result = executor.run(claim, crash_count, worker_type, &stop);
        worker_type.end_idle(&stop);
        drop(line);
        if self.args.no_report {
            self.setup.print_pretty(&result.envelope())?;
            note(format_args!("not reported: task {} stays claimed until {:.0}", result.task_id, deadline.time));
        } else {
            let stored = executor.completer.store(&mut result);
            self.setup.print_pretty(&result.envelope())?;
            let _waiting = WaitLine::for_taskmanager(self.setup);
            executor
                .completer
                .deliver(stored, &mut result, false)
                .map_err(|why| errors::undelivered(result.task_id, &why))?;
        }
        Ok(self.setup.exit_of(&result))
    }
}
