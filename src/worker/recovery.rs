//! What earlier processes of this results file left: tasks that they were running, and claims whose answers were lost,
//! theirs or our own. Both are taken up again.
//!
//! A lost claim is a task that the TaskManager shows as this worker's, or as that of a worker of this results file that has
//! died, and that nobody works. A look at the TaskManager finds it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::doubts::{Earlier, LATEST};
use super::outage::is_too_long;
use super::{Completer, Context, Event, Executor, StoreHealth, WorkerError, WorkerType, default_timeout};
use crate::clock::{Moment, Slept, after};
use crate::config::Origin;
use crate::handler;
use crate::store::{Process, StoreError};
use crate::task::{Claim, position_of_type};
use crate::taskmanager::{Client, Error, TaskView};

/// Who has noted a poll since then may have died just now: polls are noted every few seconds, and each takes a minute at
/// most.
const RECENTLY: Duration = Duration::from_mins(5);

/// So often a task whose claim was lost is asked for if the answer cannot be read.
const READ_TRIES: u32 = 3;

/// The tasks that are taken up again, and what finds them.
pub(super) struct Recovery<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) store_health: &'w StoreHealth<'w>,
    /// Its waits end when the worker starts to drain.
    pub(super) client: Client,
    /// By the index of their type, with the time at which their claims expire.
    claims: Vec<Mutex<VecDeque<(Claim, Moment)>>>,
}

impl<'w> Recovery<'w> {
    /// Starts with the tasks that dead processes were running.
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
            let end = end_of(&claim, &context.types[index], context);
            if !end.left().is_zero() && self.still_holds(&claim) {
                context.tell(&Event::TakenUp(&claim));
                self.of_type(index).push_back((claim, end));
            } else {
                context.store().forget_claim(&claim, api_url)?;
            }
        }
        Ok(())
    }

    /// Whether a claim can still be worked. If the TaskManager does not answer, it is worked: whether the result counts is
    /// settled when it is reported.
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

    /// Whether a type has tasks that are to be taken up.
    pub(super) fn has_any(&self, index: usize) -> bool {
        !self.of_type(index).is_empty()
    }

    /// How many tasks of each type are to be taken up.
    pub(super) fn counts(&self) -> Vec<usize> {
        (0..self.claims.len()).map(|index| self.of_type(index).len()).collect()
    }

    /// The next task of a type that is to be taken up, oldest first. What is run again has its whole time again, as far as
    /// its claim allows. One whose claim has expired meanwhile is left to the server, if that says so as well.
    pub(super) fn take(&self, index: usize) -> Option<Claim> {
        self.take_from(index, 0)
    }

    /// The same as [`Recovery::take`], without the first so many.
    pub(super) fn take_from(&self, index: usize, first: usize) -> Option<Claim> {
        let context = self.context;
        loop {
            let (mut claim, end) = self.of_type(index).remove(first)?;
            claim.deadline = context.clock().moment().later(context.types[index].timeout).min(end);
            if !claim.deadline.left().is_zero() {
                return Some(claim);
            }
            context.in_flight.give_up((claim.task.id, claim.task.attempt));
            // If this fails, the next write that matters says so.
            let _ = context.store().forget_claim(&claim, context.client().url());
        }
    }

    /// Looks for lost claims if that is due. Returns in how long a look can settle what is still in doubt, if anything is.
    pub(super) fn settle(&self) -> Result<Option<Duration>, Error> {
        let time = self.context.in_flight.doubts.next_look();
        if time.is_some_and(|time| time.is_zero()) {
            self.look(&self.client)?;
            // The first look of a worker comes too early to settle all, if another has just died.
            return Ok(self.context.in_flight.doubts.next_look());
        }
        Ok(time)
    }

    /// Looks for lost claims until none of this process is in doubt any more; false where that cannot be: the worker is to
    /// end, or fails.
    pub(super) fn settle_all(&self) -> bool {
        while self.context.in_flight.doubts.is_own_in_doubt() {
            let wait = match self.settle() {
                Ok(time) => time.unwrap_or_default(),
                Err(error) => self.not_settled(error).unwrap_or(LATEST),
            };
            if self.context.has_failed() || self.context.clock().sleep(wait) == Slept::Interrupted {
                return false;
            }
        }
        true
    }

    /// Sees to claims that are still in doubt; returns how long the server asked to be left alone. Who waits for the
    /// worker's end is not told that nothing is left.
    pub(super) fn not_settled(&self, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        self.context.outage.failed(&error);
        let is_too_long =
            is_too_long(self.context.in_flight.doubts.not_answered_for(), &error, self.context.exit_on_outage);
        if is_too_long
            || self.context.outage.is_given_up(&error, self.context.exit_on_outage)
            || self.context.is_decided(&error)
        {
            self.context.fail(WorkerError::TaskManager(error));
        }
        pause
    }

    /// Takes up the tasks that the TaskManager shows as claimed by this worker, or by a dead one, and that nobody has in
    /// hand. Returns how many there were.
    pub(super) fn look(&self, client: &Client) -> Result<usize, Error> {
        self.take_up_lost(client).inspect_err(|_| self.context.in_flight.doubts.look_failed())
    }

    fn take_up_lost(&self, client: &Client) -> Result<usize, Error> {
        let start = Instant::now();
        let tasks = match client.claimed_tasks() {
            Err(error @ Error::Refused { .. }) => {
                let warning = format!("tasks whose claims were lost stay claimed until they expire: {error}");
                self.context.tell(&Event::Warning(warning));
                if self.context.in_flight.doubts.is_own_in_doubt()
                    && self.context.in_flight.doubts.next_look() == Some(Duration::ZERO)
                {
                    self.context.not_done(error);
                }
                Vec::new()
            }
            answer => answer?,
        };
        let (mut found, mut owners) = (Vec::new(), HashMap::new());
        for task in tasks {
            let attempt = (task.id, task.attempts);
            if self.is_ours(&task, &mut owners) && self.context.in_flight.admit_found(attempt) {
                match self.take_up(client, &task) {
                    Ok(true) => found.push(task),
                    answer => {
                        self.context.in_flight.forget(attempt);
                        answer?;
                    }
                }
            }
        }
        let own = |task: &&TaskView| task.claimed_by.as_deref() == Some(self.context.config().worker_id.as_str());
        self.context.in_flight.doubts.looked(start, found.iter().filter(own).count());
        Ok(found.len())
    }

    /// Whether a claim is this worker's own, or a dead one's. Each owner is looked up once.
    fn is_ours(&self, task: &TaskView, owners: &mut HashMap<String, bool>) -> bool {
        let Some(owner) = task.claimed_by.as_ref().filter(|_| task.status == "claimed") else { return false };
        let look_up = |owner: &String| {
            *owner == self.context.config().worker_id.value
                || self
                    .store_health
                    .unless_it_fails(self.context.store().is_dead_worker(owner, self.context.client().url()))
        };
        *owners.entry(owner.clone()).or_insert_with_key(look_up)
    }

    /// Takes a task up that has been claimed already, as if that had been now: by this machine's clock it is not known
    /// when it was. False where another process has it, or it is not to be had any more.
    fn take_up(&self, client: &Client, listed: &TaskView) -> Result<bool, Error> {
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
        if !self.store_health.unless_it_fails(self.context.store().adopt_claim(&claim, api_url, &self.context.process))
        {
            return Ok(false);
        }
        self.context.tell(&Event::LostClaimFound(&claim));
        let end = end_of(&claim, &self.context.types[index], self.context);
        self.of_type(index).push_back((claim, end));
        self.context.in_flight.doubts.count_found();
        Ok(true)
    }

    /// A task that was listed. `None` where it is gone, or cannot be read though several times tried: it keeps none from
    /// the others.
    fn read_claimed(&self, client: &Client, listed: &TaskView) -> Result<Option<TaskView>, Error> {
        let mut tried = 1;
        loop {
            match client.task(listed.id) {
                Err(Error::InvalidAnswer { .. } | Error::NotATaskManager { .. }) if tried < READ_TRIES => tried += 1,
                Err(error @ (Error::InvalidAnswer { .. } | Error::NotATaskManager { .. })) => {
                    self.context.not_done(error);
                    return Ok(None);
                }
                answer => return answer,
            }
        }
    }
}

/// What had to wait before it runs has its whole time all the same, as far as its claim allows.
pub(super) fn prolong(context: &Context<'_>, worker_type: &WorkerType, claim: &mut Claim) {
    let whole = default_timeout(context.config().claim_timeout.value);
    // Its deadline was one `timeout` after the claim.
    let end = claim.deadline.later(whole.saturating_sub(worker_type.timeout));
    claim.deadline = context.clock().moment().later(worker_type.timeout).min(end);
}

/// When a claim ends that may be another process's: by the time of day, for want of another, but no later than if it was
/// made now, whatever the clock was set to since.
pub(super) fn end_of(claim: &Claim, worker_type: &WorkerType, context: &Context<'_>) -> Moment {
    let (now, whole) = (context.clock().moment(), default_timeout(context.config().claim_timeout.value));
    let end = after(claim.claimed_at, whole).max(claim.deadline.time);
    Moment::at(end, now).min(now.later(whole.max(worker_type.timeout)))
}

/// Answers for what handlers start from now on, where they are programs, and ends what those of dead processes left
/// running. A process whose handlers are its own code is left as it is: its children are none of our business.
pub(super) fn kill_orphans(executor: &Executor<'_>, process: &Process, runs_programs: bool) {
    let Completer { store, observer, .. } = &executor.completer;
    if runs_programs && let Err(error) = handler::supervise(process.mark()) {
        let warning = format!("processes that leave their handler's process group cannot be killed with it: {error}");
        observer.event(&Event::Warning(warning));
    }
    // A mark that cannot be looked up may be a live process's.
    let is_dead = |mark: &str| store.is_mark_alive(mark) == Ok(Some(false));
    for leftover in handler::kill_orphans(is_dead) {
        observer.event(&Event::OrphanKilled(leftover));
    }
}

/// What the results file says of the processes before `process`.
pub(super) fn earlier(executor: &Executor<'_>, process: &Process) -> Result<Earlier, StoreError> {
    let Completer { store, client, clock, .. } = &executor.completer;
    let (api_url, now) = (client.url(), clock.now());
    let recently = now.checked_sub(RECENTLY).unwrap_or(now);
    if store.may_have_just_died(process, api_url, recently)? {
        return Ok(Earlier::JustDied);
    }
    // A worker id that is new cannot have claimed anything before.
    let is_new = executor.config.worker_id.origin == Origin::Default;
    Ok(if is_new && !store.had_other_workers(process, api_url)? { Earlier::None } else { Earlier::Past })
}
