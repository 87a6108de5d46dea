//! Polls until there is a task: by long polls if the server supports them, else at intervals.
//!
//! What is the same for workers is shared: [`LongPollPolicy`], [`Backoff`], [`Client::claim_once`], [`withdraw_claims`].
//! The loop is not: this one claims a single task, and has no slots, no circuit breakers and no tasks in flight.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{Clock, Moment, Slept};
use crate::commands::errors;
use crate::commands::setup::Setup;
use crate::shutdown::{Phase, Watch};
use crate::store::Store;
use crate::task::{Task, position_of_type};
use crate::taskmanager::{
    Backoff, Claimed, Client, Error, LongPollPolicy, LongPollRequest, Retries, TaskView, withdraw_claims,
};
use crate::worker::{WorkerType, order};

/// A type to claim a task of.
pub(super) struct WantedType<'a> {
    pub(super) name: &'a str,
    pub(super) id: u64,
}

/// A claimed task, with the index of its type among those wanted and the time of its claim.
pub(super) struct ManuallyClaimed {
    pub(super) index: usize,
    pub(super) task: Task,
    pub(super) claimed_at: Moment,
}

/// Polls for a task of the wanted types.
pub(super) struct ManualPoller<'a> {
    pub(super) setup: &'a Setup,
    pub(super) client: &'a Client,
    pub(super) store: &'a Store,
    pub(super) wanted: &'a [WantedType<'a>],
    /// The same types with their handlers if the task is to run here: a handler may have snoozed its type.
    pub(super) types: &'a [WorkerType],
    pub(super) long_poll: LongPollPolicy,
}

impl ManualPoller<'_> {
    /// Waits for a task no longer than `most`, or until a signal.
    pub(super) fn wait(&mut self, most: Duration) -> anyhow::Result<Option<ManuallyClaimed>> {
        let is_over = self.withdraw_at_signal();
        let got = self.poll_until(most);
        is_over.raise(true);
        got
    }

    fn poll_until(&mut self, most: Duration) -> anyhow::Result<Option<ManuallyClaimed>> {
        let config = &self.setup.config;
        let mut backoff = Backoff::new(config.poll_interval.value, 1.5, config.max_backoff.value);
        let start = Instant::now();
        let left = || most.saturating_sub(start.elapsed());
        loop {
            let asked = Instant::now();
            let pause = backoff.grow();
            let client = self.client.with_retry_after_budget(if most.is_zero() { Duration::MAX } else { left() });
            let got = self.poll_types(&client, self.long_poll.longest(pause).min(left()))?;
            if got.is_some() || left().is_zero() {
                return Ok(got);
            }
            if !self.long_poll.was_held_open(asked) && self.setup.clock().sleep(pause.min(left())) == Slept::Interrupted
            {
                return Ok(None);
            }
        }
    }

    /// Polls each type in turn; the last is a long poll for all of them. Stops after a signal.
    fn poll_types(&mut self, client: &Client, time: Duration) -> anyhow::Result<Option<ManuallyClaimed>> {
        let now = self.setup.clock().now();
        let is_snoozed = |index: usize| self.types.get(index).is_some_and(|it| it.snoozed_until(now).is_some());
        let open: Vec<usize> = (0..self.wanted.len()).filter(|index| !is_snoozed(*index)).collect();
        for index in &open {
            if self.setup.shutdown.get() > Phase::Running {
                break;
            }
            let others: Vec<u64> = open.iter().filter(|it| *it != index).map(|it| self.wanted[*it].id).collect();
            let wait = if Some(index) == open.last() {
                LongPollRequest { time, others: &others }
            } else {
                LongPollRequest::default()
            };
            let got = self.claim(client, *index, wait)?;
            if got.is_some() {
                return Ok(got);
            }
        }
        Ok(None)
    }

    fn claim(
        &mut self,
        client: &Client,
        index: usize,
        wait: LongPollRequest<'_>,
    ) -> anyhow::Result<Option<ManuallyClaimed>> {
        let (config, WantedType { name, id, .. }) = (&self.setup.config, &self.wanted[index]);
        let order = order(config.strategy.value);
        let claim = |client: &Client| client.claim_long_poll(&config.worker_id, *id, order, wait);
        let mut claimed = match client.claim_once(claim, || self.look_for_lost_claim()) {
            Ok(claimed) => claimed,
            Err(Error::Interrupted) => return Ok(None),
            Err(error) if error.says_unknown_type() => return Err(errors::unknown_type_at(self.client, name).into()),
            Err(error) => return Err(error.into()),
        };
        if wait.is_requested() {
            self.long_poll.note(claimed.long_polling);
        }
        let (claimed_at, Some(task)) = (claimed.claimed_at, claimed.tasks.pop()) else { return Ok(None) };
        // A long poll may return a task of another type.
        let by_name = position_of_type(self.wanted.iter().map(|wanted| wanted.name), &task.task_type);
        Ok(Some(ManuallyClaimed { index: by_name.unwrap_or(index), task, claimed_at }))
    }

    /// Returns the task that was claimed by a call whose answer was lost: one that the TaskManager shows as claimed by us
    /// and that is not in the results file. Not if a live worker has our id: it may be about to note that claim.
    fn look_for_lost_claim(&self) -> Result<Option<Claimed>, Error> {
        let (worker_id, client) = (&self.setup.config.worker_id.value, self.client.with_retries(Retries::NONE));
        if self.store.is_live_worker(worker_id) != Ok(false) {
            return Ok(None);
        }
        let tasks = match client.claimed_tasks() {
            Err(Error::Refused { .. }) => return Ok(None),
            tasks => tasks?,
        };
        for task in tasks.into_iter().filter(|task| self.is_lost_claim(task, worker_id)) {
            if let Some(whole) = client.task(task.id)?.filter(|whole| self.is_lost_claim(whole, worker_id)) {
                let claimed_at = self.setup.clock().moment();
                let found = Claimed { tasks: vec![whole.into_task()], ..Claimed::nothing(claimed_at) };
                return Ok(Some(Claimed { long_polling: self.long_poll.server(), ..found }));
            }
        }
        Ok(None)
    }

    fn is_lost_claim(&self, task: &TaskView, worker_id: &str) -> bool {
        let api_url = self.client.url();
        let is_unknown = || {
            self.store.claim(api_url, task.id) == Ok(None)
                && self.store.has_result(api_url, task.id, task.attempts) == Ok(false)
        };
        let is_wanted = || self.wanted.iter().any(|wanted| wanted.name.eq_ignore_ascii_case(&task.task_type));
        task.is_claimed_by(worker_id) && is_wanted() && is_unknown()
    }

    /// Makes a signal withdraw an open long poll, until the returned flag is raised.
    fn withdraw_at_signal(&self) -> Arc<Watch<bool>> {
        let is_over = Arc::new(Watch::new(false));
        let (over, client) = (Arc::clone(&is_over), self.client.clone());
        let worker_id = self.setup.config.worker_id.value.clone();
        self.setup.shutdown.on_raise(Phase::Running, move |_| {
            let (over, client, worker_id) = (Arc::clone(&over), client.clone(), worker_id.clone());
            let withdraw = move || withdraw_claims(&client, &worker_id, |time| over.wait_for(true, time));
            // In a thread of its own, so that the next signal is obeyed meanwhile. Without one, the long poll ends later.
            let _ = thread::Builder::new().name("withdraw".into()).spawn(withdraw);
        });
        is_over
    }
}
