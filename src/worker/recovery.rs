//! Recovers what earlier processes on this results file left: tasks in flight when they died, and claims whose answers
//! were lost, theirs or this process's own.
//!
//! A lost claim is a task that the TaskManager shows as claimed by this worker, or by a dead worker of this results
//! file, while nobody works it. Searching the TaskManager's claimed tasks finds it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::lost_claims::{EarlierWorkers, LATEST};
use super::outage::is_too_long;
use super::{Completer, Context, Event, Executor, StoreHealth, WorkerError, WorkerType, default_timeout};
use crate::clock::{Moment, Slept, after};
use crate::config::Origin;
use crate::handler;
use crate::store::{Process, StoreError};
use crate::task::{Claim, TaskId, position_of_type};
use crate::taskmanager::{Client, Error, TaskView};

/// A process that noted a poll within this time may have died just now: polls are noted every few seconds, and each
/// takes at most a minute.
const RECENTLY: Duration = Duration::from_mins(5);

/// How often to request a task whose claim was lost if the answer cannot be read.
const READ_TRIES: u32 = 3;

/// Recovered tasks, and the search for lost claims.
pub(super) struct Recovery<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) store_health: &'w StoreHealth<'w>,
    /// Its waits end when the worker starts to drain.
    pub(super) client: Client,
    /// Claims by index of their type, each with the time at which it expires.
    claims: Vec<Mutex<VecDeque<(Claim, Moment)>>>,
}

impl<'w> Recovery<'w> {
    /// Starts with the tasks that dead processes had in flight.
    pub(super) fn new(context: &'w Context<'w>, store_health: &'w StoreHealth<'w>) -> Result<Self, StoreError> {
        let client = context.client().with_clock(Arc::clone(&context.executor.completer.clock));
        let claims = context.types.iter().map(|_| Mutex::default()).collect();
        let recovery = Self { context, store_health, client, claims };
        recovery.take_over()?;
        Ok(recovery)
    }

    fn take_over(&self) -> Result<(), StoreError> {
        let (context, api_url) = (self.context, self.context.client().url());
        let names: Vec<&str> = context.types.iter().map(|it| it.name.as_str()).collect();
        for claim in context.store().take_over(&context.process, api_url, &names)? {
            let Some(index) = names.iter().position(|name| *name == claim.task.task_type) else { continue };
            let end = claim_expiry(&claim, &context.types[index], context);
            if !end.left().is_zero() && self.still_holds(&claim) {
                context.emit(&Event::Recovered(&claim));
                self.of_type(index).push_back((claim, end));
            } else {
                context.store().forget_claim(&claim, api_url)?;
            }
        }
        Ok(())
    }

    /// Whether a claim is still valid. If the TaskManager does not answer, the task is worked: whether its result
    /// counts is decided by the report.
    fn still_holds(&self, claim: &Claim) -> bool {
        match self.context.client().task(claim.task.id) {
            Ok(task) => {
                task.is_some_and(|task| task.is_claimed_by(&claim.worker_id) && task.attempts == claim.task.attempt)
            }
            Err(error) => !error.is_refusal(),
        }
    }

    fn of_type(&self, index: usize) -> MutexGuard<'_, VecDeque<(Claim, Moment)>> {
        self.claims[index].lock()
    }

    /// Whether a type has recovered tasks.
    pub(super) fn has_any(&self, index: usize) -> bool {
        !self.of_type(index).is_empty()
    }

    /// Returns the claims of recovered tasks, by worker ID and task.
    pub(super) fn claims(&self) -> Vec<(String, TaskId)> {
        let of_type = |claim: &(Claim, Moment)| (claim.0.worker_id.clone(), claim.0.task.id);
        (0..self.claims.len()).flat_map(|index| self.of_type(index).iter().map(of_type).collect::<Vec<_>>()).collect()
    }

    /// Returns the number of recovered tasks of each type.
    pub(super) fn counts(&self) -> Vec<usize> {
        (0..self.claims.len()).map(|index| self.of_type(index).len()).collect()
    }

    /// Takes the oldest recovered task of a type. It gets its full timeout again, as far as its claim allows. If its
    /// claim has expired meanwhile, the task is left to the server.
    pub(super) fn take(&self, index: usize) -> Option<Claim> {
        self.take_after(index, 0)
    }

    /// Like [`Recovery::take`], but skips the `skip` oldest tasks.
    pub(super) fn take_after(&self, index: usize, skip: usize) -> Option<Claim> {
        let context = self.context;
        loop {
            let (mut claim, end) = self.of_type(index).remove(skip)?;
            claim.deadline = context.clock().moment().later(context.executor.timeout(&context.types[index])).min(end);
            if !claim.deadline.left().is_zero() {
                return Some(claim);
            }
            context.give_up_claim(&claim);
        }
    }

    /// Searches for lost claims if due. Returns the time until the next search, if claims may still be missing.
    pub(super) fn search_if_due(&self) -> Result<Option<Duration>, Error> {
        let time = self.context.in_flight.lost_claims.next_search();
        if time.is_some_and(|time| time.is_zero()) {
            self.search(&self.client)?;
            // The first search of a worker is too early to find everything if another worker has just died.
            return Ok(self.context.in_flight.lost_claims.next_search());
        }
        Ok(time)
    }

    /// Searches for lost claims until none of this process may be missing; false if the worker is stopped or fails
    /// first.
    pub(super) fn find_all(&self) -> bool {
        while self.context.in_flight.lost_claims.has_own_missing() {
            let wait = match self.search_if_due() {
                Ok(time) => time.unwrap_or_default(),
                Err(error) => self.search_failed(error).unwrap_or(LATEST),
            };
            if self.context.has_failed() || self.context.clock().sleep(wait) == Slept::Interrupted {
                return false;
            }
        }
        true
    }

    /// Handles a failed search; returns the server's Retry-After. If somebody waits for the worker's exit, it must not
    /// report success while claims may be missing.
    pub(super) fn search_failed(&self, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        self.context.outage.failed(&error);
        let is_too_long =
            is_too_long(self.context.in_flight.lost_claims.failing_for(), &error, self.context.outage_limit);
        if is_too_long
            || self.context.outage.is_given_up(&error, self.context.outage_limit)
            || self.context.is_fatal(&error)
        {
            self.context.fail(WorkerError::TaskManager(error));
        }
        pause
    }

    /// Recovers the tasks that the TaskManager shows as claimed by this worker, or by a dead one, and that nobody has
    /// in flight. Returns their number.
    pub(super) fn search(&self, client: &Client) -> Result<usize, Error> {
        self.search_claimed(client).inspect_err(|_| self.context.in_flight.lost_claims.search_failed())
    }

    fn search_claimed(&self, client: &Client) -> Result<usize, Error> {
        let start = Instant::now();
        let tasks = match client.claimed_tasks() {
            Err(error @ Error::Refused { .. }) => {
                let warning = format!(
                    "cannot look up claims that were not answered; their tasks stay claimed until the claims expire: {error}"
                );
                self.context.emit(&Event::Warning(warning));
                if self.context.in_flight.lost_claims.has_own_missing()
                    && self.context.in_flight.lost_claims.next_search() == Some(Duration::ZERO)
                {
                    self.context.note_incomplete(error);
                }
                Vec::new()
            }
            answer => answer?,
        };
        let (mut found, mut owners) = (Vec::new(), HashMap::new());
        for task in tasks {
            let attempt = (task.id, task.attempts);
            if self.is_ours(&task, &mut owners) && self.context.in_flight.register_found(attempt) {
                match self.recover(client, &task) {
                    Ok(true) => found.push(task),
                    answer => {
                        self.context.in_flight.abandon(attempt);
                        answer?;
                    }
                }
            }
        }
        let own = |task: &&TaskView| task.claimed_by.as_deref() == Some(self.context.config().worker_id.as_str());
        self.context.in_flight.lost_claims.searched(start, found.iter().filter(own).count());
        Ok(found.len())
    }

    /// Whether a claim belongs to this worker or to a dead one. Looks each owner up once.
    fn is_ours(&self, task: &TaskView, owners: &mut HashMap<String, bool>) -> bool {
        let Some(owner) = task.claimed_by.as_ref().filter(|_| task.status == "claimed") else { return false };
        let look_up = |owner: &String| {
            *owner == self.context.config().worker_id.value
                || self.store_health.or_false(self.context.store().is_dead_worker(owner, self.context.client().url()))
        };
        *owners.entry(owner.clone()).or_insert_with_key(look_up)
    }

    /// Recovers a task, as if it had been claimed now: this machine's clock does not know when it was. False if another
    /// process has it, or its claim was lost meanwhile.
    fn recover(&self, client: &Client, listed: &TaskView) -> Result<bool, Error> {
        let Some(index) = position_of_type(self.context.types.iter().map(|it| it.name.as_str()), &listed.task_type)
        else {
            return Ok(false);
        };
        let Some(whole) = self.read_claimed(client, listed)? else { return Ok(false) };
        let owner = listed.claimed_by.clone().unwrap_or_default();
        if !whole.is_claimed_by(&owner) || whole.attempts != listed.attempts {
            return Ok(false);
        }
        let claim =
            self.context.executor.claim(whole.into_task(), &self.context.types[index], self.context.clock().moment());
        let claim = Claim { worker_id: owner, ..claim };
        let api_url = self.context.client().url();
        if !self.store_health.or_false(self.context.store().adopt_claim(&claim, api_url, &self.context.process)) {
            return Ok(false);
        }
        self.context.emit(&Event::LostClaimFound(&claim));
        let end = claim_expiry(&claim, &self.context.types[index], self.context);
        self.of_type(index).push_back((claim, end));
        self.context.claim_time.note(Instant::now(), None);
        self.context.in_flight.lost_claims.count_found();
        Ok(true)
    }

    /// Reads a listed task. `None` if it is gone, or still unreadable after several tries: it must not block the
    /// others.
    fn read_claimed(&self, client: &Client, listed: &TaskView) -> Result<Option<TaskView>, Error> {
        let mut tried = 1;
        loop {
            match client.task(listed.id) {
                Err(Error::InvalidAnswer { .. } | Error::NotATaskManager { .. }) if tried < READ_TRIES => tried += 1,
                Err(error @ (Error::InvalidAnswer { .. } | Error::NotATaskManager { .. })) => {
                    self.context.note_incomplete(error);
                    return Ok(None);
                }
                answer => return answer,
            }
        }
    }
}

/// Gives a task that had to wait before its run its full timeout again, as far as its claim allows: that of a server
/// without renewals ends.
pub(super) fn extend_deadline(context: &Context<'_>, worker_type: &WorkerType, claim: &mut Claim) {
    let (whole, timeout) =
        (default_timeout(context.config().claim_timeout.value), context.executor.timeout(worker_type));
    if context.client().known_features().renew {
        claim.deadline = context.clock().moment().later(timeout);
        return;
    }
    // Its deadline was one `timeout` after the claim.
    let end = claim.deadline.later(whole.saturating_sub(timeout));
    claim.deadline = context.clock().moment().later(timeout).min(end);
}

/// Returns when a claim expires that may be another process's: by the time of day, but no later than if it was made
/// now, whatever the clock was set to since.
pub(super) fn claim_expiry(claim: &Claim, worker_type: &WorkerType, context: &Context<'_>) -> Moment {
    let (now, whole) = (context.clock().moment(), default_timeout(context.config().claim_timeout.value));
    let end = after(claim.claimed_at, whole).max(claim.deadline.time);
    Moment::at(end, now).min(now.later(whole.max(context.executor.timeout(worker_type))))
}

/// Makes this process the reaper of its handlers' descendants.
pub(super) fn supervise_handlers(executor: &Executor<'_>, process: &Process) {
    if let Err(error) = handler::supervise(process.mark()) {
        let warning = format!("processes that leave their handler's process group cannot be killed with it: {error}");
        executor.completer.observer.event(&Event::Warning(warning));
    }
}

/// Kills the orphans of dead processes.
pub(super) fn kill_orphans(executor: &Executor<'_>) {
    let Completer { store, observer, .. } = &executor.completer;
    // A mark that cannot be looked up may belong to a live process.
    let is_dead = |mark: &str| store.is_mark_alive(mark) == Ok(Some(false));
    for orphan in handler::kill_orphans(is_dead) {
        observer.event(&Event::OrphanKilled(orphan));
    }
}

/// Returns what the results file says about the processes before `process`.
pub(super) fn earlier_workers(executor: &Executor<'_>, process: &Process) -> Result<EarlierWorkers, StoreError> {
    let Completer { store, client, clock, .. } = &executor.completer;
    let (api_url, now) = (client.url(), clock.now());
    let recently = now.checked_sub(RECENTLY).unwrap_or(now);
    if store.may_have_just_died(process, api_url, recently)? {
        return Ok(EarlierWorkers::JustDied);
    }
    // A new worker id cannot have claimed anything before.
    let is_new = executor.config.worker_id.origin == Origin::Default;
    Ok(if is_new && !store.had_other_workers(process, api_url)? { EarlierWorkers::None } else { EarlierWorkers::Ended })
}
