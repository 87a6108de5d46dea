//! The poller: claims a task of each type in turn, and if there is none, long-polls for a task of any of them.

use std::time::{Duration, Instant};

use super::in_flight::Repeated;
use super::recovery::Recovery;
use super::report_queue::ReportQueue;
use super::schedule::{PollPermit, PollSchedule, Polled, Reservation};
use super::snooze::snoozed_types;
use super::store_health::LOOK_EVERY;
use super::{Context, Event, StoreHealth, WorkerError, WorkerType};
use crate::clock::Slept;
use crate::config::Strategy;
use crate::failpoint;
use crate::task::{Claim, Task, position_of_type};
use crate::taskmanager::{Claimed, Client, Error, LongPollRequest, Order, Retries};

/// After this many unreadable answers in a row, the TaskManager is broken, not one task.
const MAX_UNREADABLE: u32 = 10;

/// How long to keep withdrawing an open long poll, and how long to wait after each request.
const WITHDRAW_FOR: Duration = Duration::from_secs(1);
const WITHDRAW_EVERY: Duration = Duration::from_millis(50);

/// A task claimed by a poll.
pub(super) struct ClaimedTask {
    /// Index of its type.
    pub(super) index: usize,
    pub(super) claim: Claim,
    /// Whether an earlier process left it, or its claim was lost and found.
    pub(super) is_recovered: bool,
    /// When the poll began.
    pub(super) polled_at: Instant,
}

/// The outcome of claiming a task of each type.
enum PollOutcome {
    /// A task of the type at this index.
    Task { index: usize, claim: Claim, is_recovered: bool },
    /// No task. `left_out`: a type was skipped that may be claimed soon.
    Nothing { left_out: bool },
    /// No task, but a type was skipped because other slots were polling for it.
    Partial,
    /// No answer for the type at this index; `pause` is the server's Retry-After.
    NoAnswer { index: usize, pause: Option<Duration> },
}

/// Room reserved in the schedule, as indexes of types. Dropping it releases what was not used.
struct Reserved<'a> {
    schedule: &'a PollSchedule,
    types: Vec<usize>,
}

impl Reserved<'_> {
    /// Releases the last reservation.
    fn release_last(&mut self) {
        self.types.pop().into_iter().for_each(|index| self.schedule.release(index));
    }

    /// Uses up the reservation of this type for its task.
    fn use_up(&mut self, index: usize) {
        self.types.retain(|reserved| *reserved != index);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.types.iter().for_each(|index| self.schedule.release(*index));
    }
}

pub(super) struct Poller<'w> {
    context: &'w Context<'w>,
    store_health: &'w StoreHealth<'w>,
    recovery: &'w Recovery<'w>,
    reports: &'w ReportQueue,
    order: Order,
}

impl<'w> Poller<'w> {
    pub(super) fn new(recovery: &'w Recovery<'w>, reports: &'w ReportQueue) -> Self {
        let (context, store_health) = (recovery.context, recovery.store_health);
        let order = order(context.config().strategy.value);
        Self { context, store_health, recovery, reports, order }
    }

    /// Polls once, in the slot's thread and over its own connection. `None` if there is no task, or if the results file
    /// cannot be written: then nothing is claimed.
    pub(super) fn poll(&self, permit: &PollPermit) -> Option<ClaimedTask> {
        let schedule = &self.context.schedule;
        if !self.store_health.can_store() {
            schedule.finish_poll(permit, Polled::Failed { index: permit.first, pause: Some(LOOK_EVERY) });
            return None;
        }
        let (polled, claimed) = match self.poll_types(permit) {
            PollOutcome::Task { index, claim, is_recovered } => {
                let polled_at = permit.start();
                (Polled::Task(index), Some(ClaimedTask { index, claim, is_recovered, polled_at }))
            }
            PollOutcome::Nothing { left_out } => (Polled::Empty { left_out }, None),
            PollOutcome::Partial => (Polled::Partial, None),
            PollOutcome::NoAnswer { index, pause } => (Polled::Failed { index, pause }, None),
        };
        schedule.finish_poll(permit, polled);
        self.context.emit(&Event::Polled);
        claimed
    }

    /// Searches for lost claims if due, then claims a task of any type. Reports an empty queue only when no claim may
    /// be lost. Until then this slot claims nothing more: the next answer could be lost as well, and the search would
    /// never end. Work that other slots finish meanwhile is noticed at the end of the poll.
    fn poll_types(&self, permit: &PollPermit) -> PollOutcome {
        // If this fails, the claims below fail too, or it is tried again after them.
        let _ = self.recovery.search_if_due();
        loop {
            let known = self.context.in_flight.lost_claims.found();
            let found = self.claim_any(permit);
            if !matches!(found, PollOutcome::Nothing { .. }) || self.context.schedule.is_closed() {
                return found;
            }
            match self.find_lost_claims(known) {
                // A found claim is already running down: take it now.
                Ok(()) if self.context.in_flight.lost_claims.found() > known && !self.context.schedule.is_closed() => {}
                Ok(()) => return found,
                Err(error) => {
                    return PollOutcome::NoAnswer { index: permit.first, pause: self.recovery.search_failed(error) };
                }
            }
        }
    }

    /// Searches for lost claims until none may be missing, more than `known` were found, or the schedule is closed.
    fn find_lost_claims(&self, known: u64) -> Result<(), Error> {
        while self.context.in_flight.lost_claims.found() == known
            && let Some(wait) = self.recovery.search_if_due()?
        {
            if self.context.schedule.is_closed() || self.context.clock().sleep(wait) == Slept::Interrupted {
                break;
            }
        }
        Ok(())
    }

    /// Claims a task of each type in turn until there is one, with room reserved for it. Recovered tasks come first.
    fn claim_any(&self, permit: &PollPermit) -> PollOutcome {
        let snoozed = snoozed_types(self.context);
        let (mut left_out, mut partial) = (snoozed.is_soon(), false);
        let mut reserved = Reserved { schedule: &self.context.schedule, types: Vec::new() };
        let count = self.context.types.len();
        for index in (permit.first..permit.first + count).map(|index| index % count) {
            if snoozed.contains(index) && !self.recovery.has_any(index) {
                continue;
            }
            match self.context.schedule.reserve(index) {
                Reservation::Made => reserved.types.push(index),
                Reservation::Full => continue,
                Reservation::Contested => {
                    partial = true;
                    continue;
                }
                Reservation::Paused => {
                    left_out = true;
                    continue;
                }
            }
            if let Some(claim) = self.recovery.take(index) {
                reserved.use_up(index);
                return PollOutcome::Task { index, claim, is_recovered: true };
            }
            if snoozed.contains(index) {
                reserved.release_last();
            } else if permit.wait.is_zero() {
                if let Some(found) = self.claim_type(&mut reserved, index, LongPollRequest::default()) {
                    return found;
                }
                reserved.release_last();
            }
        }
        let due = [snoozed.first_due(), self.context.in_flight.lost_claims.next_search()].into_iter().flatten().min();
        let time = due.map_or(permit.wait, |due| due.min(permit.wait));
        let nothing = if partial { PollOutcome::Partial } else { PollOutcome::Nothing { left_out } };
        self.long_poll(&mut reserved, time).unwrap_or(nothing)
    }

    /// Long-polls with the last reserved type, naming the others. If the server cannot wait for several types, claims
    /// each of the others first.
    fn long_poll(&self, reserved: &mut Reserved<'_>, time: Duration) -> Option<PollOutcome> {
        let (mut gone, known): (Vec<_>, Vec<_>) =
            reserved.types.iter().partition(|index| self.context.types[**index].is_gone());
        let last = known.last().or(gone.last()).copied()?;
        if !self.context.schedule.server_waits_for_any() {
            gone.extend(&known);
        }
        for index in gone.into_iter().filter(|index| *index != last) {
            let found = self.claim_type(reserved, index, LongPollRequest::default());
            if found.is_some() {
                return found;
            }
        }
        let others: Vec<u64> =
            known.iter().filter(|index| **index != last).map(|index| self.context.types[*index].id()).collect();
        self.claim_type(reserved, last, LongPollRequest { time, others: &others })
    }

    /// Claims a task of a type; `None` if there is none or the schedule is closed. A task that cannot be read stays
    /// claimed and does not block others.
    fn claim_type(&self, reserved: &mut Reserved<'_>, index: usize, wait: LongPollRequest<'_>) -> Option<PollOutcome> {
        for unread in 1.. {
            if self.context.schedule.is_closed() {
                return None;
            }
            match self.claim(reserved, index, wait) {
                Ok(None) => return None,
                Ok(Some((index, claim))) => {
                    reserved.use_up(index);
                    return Some(PollOutcome::Task { index, claim, is_recovered: false });
                }
                Err(error @ Error::InvalidAnswer { .. }) if unread < MAX_UNREADABLE => self.skip_unreadable(error),
                Err(error) => return Some(PollOutcome::NoAnswer { index, pause: self.claim_failed(index, error) }),
            }
        }
        None
    }

    /// Continues after an unreadable answer. A worker that should exit when everything is done then exits with an
    /// error.
    fn skip_unreadable(&self, error: Error) {
        self.context.outage.failed(&error);
        self.context.note_incomplete(error);
    }

    fn claim(
        &self,
        reserved: &Reserved<'_>,
        index: usize,
        wait: LongPollRequest<'_>,
    ) -> Result<Option<(usize, Claim)>, Error> {
        loop {
            let asked_at = Instant::now();
            let claimed = self.claim_by_id(&self.context.types[index], wait)?;
            if self.context.outage.claim_answered(index) {
                self.reports.wake();
            }
            // `None`: the answer was lost, and the search found claims instead.
            let Some(claimed) = claimed else { return Ok(None) };
            if wait.is_requested() {
                self.context.schedule.note_server_waits(claimed.long_polling);
            }
            let Some(task) = claimed.task else { return Ok(None) };
            let Some(index) = self.reserved_type(reserved, &task) else {
                let (wanted, again) =
                    (&self.context.types[index].name, self.context.in_flight.is_repeated(task.id, Repeated::WrongType));
                self.context.emit(&Event::WrongType { task: &task, wanted, again });
                return self.look_up(&self.context.types[index]).map(|_| None);
            };
            failpoint::reach("answered");
            if self.context.in_flight.register(&task, asked_at) {
                return Ok(Some((
                    index,
                    self.context.executor.claim(task, &self.context.types[index], claimed.claimed_at),
                )));
            }
        }
    }

    /// Returns the index of a task's type if this poll asked for it. Compares names, since an id may belong to another
    /// type by now. A task nobody asked for returns to the queue when its claim expires; it is never given to another
    /// type's handler.
    fn reserved_type(&self, reserved: &Reserved<'_>, task: &Task) -> Option<usize> {
        let names = reserved.types.iter().map(|index| self.context.types[*index].name.as_str());
        position_of_type(names, &task.task_type).map(|at| reserved.types[at])
    }

    /// Claims by the type's id, unless the type is gone. `None` if the answer was lost and lost claims were found.
    fn claim_by_id(&self, worker_type: &WorkerType, wait: LongPollRequest<'_>) -> Result<Option<Claimed>, Error> {
        if worker_type.is_gone() && !self.look_up(worker_type)? {
            return Ok(Some(self.nothing()));
        }
        let worker_id = &self.context.config().worker_id.value;
        let claim = |client: &Client| {
            let answer = client.claim_long_poll(worker_id, worker_type.id(), self.order, wait);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                self.context.in_flight.lost_claims.add();
            }
            answer.map(Some)
        };
        match self.recovery.client.claim_once(claim, || {
            Ok((self.recovery.search(&self.recovery.client.with_retries(Retries::NONE))? > 0).then_some(None))
        }) {
            Err(error) if error.says_unknown_type() => self.look_up(worker_type).map(|_| Some(self.nothing())),
            other => other,
        }
    }

    fn nothing(&self) -> Claimed {
        Claimed::nothing(self.context.clock().moment())
    }

    /// Whether the TaskManager knows a type, under any id. Emits an event if that changed.
    fn look_up(&self, worker_type: &WorkerType) -> Result<bool, Error> {
        let was_gone = worker_type.is_gone();
        let is_found = worker_type.look_up(&self.recovery.client)?;
        let task_type = worker_type.name.as_str();
        match (was_gone, is_found) {
            (false, false) => self.context.emit(&Event::TypeGone(task_type)),
            (true, true) => {
                self.context.emit(&Event::TypeFound { task_type, id: worker_type.id() });
            }
            _ => {}
        }
        Ok(is_found)
    }

    /// Handles a failed claim; returns the server's Retry-After.
    fn claim_failed(&self, index: usize, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        if error == Error::Interrupted {
            return None;
        }
        self.context.outage.claim_failed(index, &error);
        if self.context.outage.is_claim_given_up(index, &error, self.context.exit_on_outage)
            || self.context.is_fatal(&error)
        {
            self.context.fail(WorkerError::TaskManager(error));
        }
        pause
    }
}

/// Returns the order in which a strategy claims tasks.
#[must_use]
pub(crate) fn order(strategy: Strategy) -> Order {
    match strategy {
        Strategy::Fifo => Order::OldestFirst,
        Strategy::Lifo => Order::NewestFirst,
        Strategy::Priority => Order::HighestPriorityFirst,
    }
}

/// Withdraws an open long poll, until `has_ended` within the given time. The server still answers it, with a task if it
/// has just claimed one; that is why the connection is not simply closed. Repeats the request, since the poll may not
/// have reached the server yet.
pub(crate) fn withdraw_claims(client: &Client, worker_id: &str, has_ended: impl Fn(Duration) -> bool) {
    let client = client.with_retries(Retries::NONE);
    let start = Instant::now();
    while !has_ended(WITHDRAW_EVERY) && start.elapsed() < WITHDRAW_FOR {
        // A TaskManager without long polling answers the claim itself soon enough.
        let _ = client.withdraw_claims(worker_id);
    }
}
