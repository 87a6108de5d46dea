//! The poller: asks the TaskManager for a task of each type in turn, and if there is none, in such a way that it may hold
//! the claim open until there is one of any of them.

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

/// Where so many claims in a row are answered with what cannot be read, it is not a task that is broken but the
/// TaskManager.
const MAX_UNREADABLE: u32 = 10;

/// How long a claim that is held open is withdrawn for, and how long each try has to show.
const WITHDRAW_FOR: Duration = Duration::from_secs(1);
const WITHDRAW_EVERY: Duration = Duration::from_millis(50);

/// A task that a poll has got.
pub(super) struct ClaimedTask {
    /// The index of its type.
    pub(super) index: usize,
    pub(super) claim: Claim,
    /// An earlier process left it, or its claim was lost.
    pub(super) is_recovered: bool,
    /// When the poll began.
    pub(super) polled_at: Instant,
}

/// What asking for a task of each type led to.
enum Found {
    /// A task of the type with this index.
    Task { index: usize, claim: Claim, is_recovered: bool },
    /// Nothing; whether a type was left out that may be claimed soon.
    Nothing { left_out: bool },
    /// Nothing, but of a type for which other slots asked at the time nothing is known.
    Partial,
    /// No answer about the type with this index; the server asked to be left alone for so long.
    NoAnswer { index: usize, pause: Option<Duration> },
}

/// The types, by their index, for a task of which room is reserved. It goes back at the end.
struct Open<'a> {
    schedule: &'a PollSchedule,
    types: Vec<usize>,
}

impl Open<'_> {
    /// Gives back what was reserved last.
    fn give_back(&mut self) {
        self.types.pop().into_iter().for_each(|index| self.schedule.release(index));
    }

    /// A task of this type has come.
    fn fill(&mut self, index: usize) {
        self.types.retain(|open| *open != index);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.types.iter().for_each(|index| self.schedule.release(*index));
    }
}

/// The poller of a worker.
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

    /// Asks for a task, in the thread of the slot that is to run it and over its own connection. `None` if there is none,
    /// or nothing could be written now: then none is claimed.
    pub(super) fn poll(&self, permit: &PollPermit) -> Option<ClaimedTask> {
        let schedule = &self.context.schedule;
        if !self.store_health.can_store() {
            schedule.finish_poll(permit, Polled::Failed { index: permit.first, pause: Some(LOOK_EVERY) });
            return None;
        }
        let (polled, claimed) = match self.find(permit) {
            Found::Task { index, claim, is_recovered } => {
                let polled_at = permit.start();
                (Polled::Task(index), Some(ClaimedTask { index, claim, is_recovered, polled_at }))
            }
            Found::Nothing { left_out } => (Polled::Empty { left_out }, None),
            Found::Partial => (Polled::Partial, None),
            Found::NoAnswer { index, pause } => (Polled::Failed { index, pause }, None),
        };
        schedule.finish_poll(permit, polled);
        self.context.tell(&Event::Polled);
        claimed
    }

    /// Looks for lost claims if that is due, and asks for a task of each type. That there is none is only said when no
    /// claim is in doubt. This slot asks nothing more until then: the next answer could be lost as well, and the doubt
    /// never end. What ends in other slots meanwhile is seen at the end of the poll.
    fn find(&self, permit: &PollPermit) -> Found {
        // Where this fails, so will the claims, or it is tried again after them.
        let _ = self.recovery.settle();
        loop {
            let known = self.context.in_flight.doubts.found();
            let found = self.ask_for_each(permit);
            if !matches!(found, Found::Nothing { .. }) || self.context.schedule.is_closed() {
                return found;
            }
            match self.wait_until_settled(known) {
                // What was found has no time to lose.
                Ok(()) if self.context.in_flight.doubts.found() > known && !self.context.schedule.is_closed() => {}
                Ok(()) => return found,
                Err(error) => return Found::NoAnswer { index: permit.first, pause: self.recovery.not_settled(error) },
            }
        }
    }

    /// Looks for lost claims until none is in doubt, more than `known` were found, or nothing more is to be claimed.
    fn wait_until_settled(&self, known: u64) -> Result<(), Error> {
        while self.context.in_flight.doubts.found() == known
            && let Some(wait) = self.recovery.settle()?
        {
            if self.context.schedule.is_closed() || self.context.clock().sleep(wait) == Slept::Interrupted {
                break;
            }
        }
        Ok(())
    }

    /// Asks for a task of each type in turn, until there is one. Room for it is reserved when there is. Tasks that
    /// an earlier process left come first.
    fn ask_for_each(&self, permit: &PollPermit) -> Found {
        let snoozed = snoozed_types(self.context);
        let (mut left_out, mut partial) = (snoozed.is_soon(), false);
        let mut open = Open { schedule: &self.context.schedule, types: Vec::new() };
        let count = self.context.types.len();
        for index in (permit.first..permit.first + count).map(|index| index % count) {
            if snoozed.contains(index) && !self.recovery.has_any(index) {
                continue;
            }
            match self.context.schedule.reserve(index) {
                Reservation::Made => open.types.push(index),
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
                open.fill(index);
                return Found::Task { index, claim, is_recovered: true };
            }
            if snoozed.contains(index) {
                open.give_back();
            } else if permit.wait.is_zero() {
                if let Some(found) = self.ask(&mut open, index, LongPollRequest::default()) {
                    return found;
                }
                open.give_back();
            }
        }
        let due = [snoozed.first_due(), self.context.in_flight.doubts.next_look()].into_iter().flatten().min();
        let time = due.map_or(permit.wait, |due| due.min(permit.wait));
        let nothing = if partial { Found::Partial } else { Found::Nothing { left_out } };
        self.wait_for_any(&mut open, time).unwrap_or(nothing)
    }

    /// Asks for a task of each type that is open, and of the last in such a way that the server may wait for one of any
    /// of them. One that does need not be asked of each first.
    fn wait_for_any(&self, open: &mut Open<'_>, time: Duration) -> Option<Found> {
        let (mut gone, known): (Vec<_>, Vec<_>) =
            open.types.iter().partition(|index| self.context.types[**index].is_gone());
        let last = known.last().or(gone.last()).copied()?;
        if !self.context.schedule.server_waits_for_any() {
            gone.extend(&known);
        }
        for index in gone.into_iter().filter(|index| *index != last) {
            let found = self.ask(open, index, LongPollRequest::default());
            if found.is_some() {
                return found;
            }
        }
        let others: Vec<u64> =
            known.iter().filter(|index| **index != last).map(|index| self.context.types[*index].id()).collect();
        self.ask(open, last, LongPollRequest { time, others: &others })
    }

    /// Asks for a task of a type, or not any more; `None` where there is none. A task that cannot be read stays claimed,
    /// and holds up no other.
    fn ask(&self, open: &mut Open<'_>, index: usize, wait: LongPollRequest<'_>) -> Option<Found> {
        for unread in 1.. {
            if self.context.schedule.is_closed() {
                return None;
            }
            match self.claim(open, index, wait) {
                Ok(None) => return None,
                Ok(Some((index, claim))) => {
                    open.fill(index);
                    return Some(Found::Task { index, claim, is_recovered: false });
                }
                Err(error @ Error::InvalidAnswer { .. }) if unread < MAX_UNREADABLE => self.skip_unreadable(error),
                Err(error) => return Some(Found::NoAnswer { index, pause: self.no_answer(index, error) }),
            }
        }
        None
    }

    /// Goes on after a claim whose answer cannot be read. A worker that is to end when all is done has not done all.
    fn skip_unreadable(&self, error: Error) {
        self.context.outage.failed(&error);
        self.context.not_done(error);
    }

    fn claim(&self, open: &Open<'_>, index: usize, wait: LongPollRequest<'_>) -> Result<Option<(usize, Claim)>, Error> {
        loop {
            let asked_at = Instant::now();
            let claimed = self.claim_by_number(&self.context.types[index], wait)?;
            if self.context.outage.claim_answered(index) {
                self.reports.wake();
            }
            // Instead of an answer, there may be lost claims now.
            let Some(claimed) = claimed else { return Ok(None) };
            if wait.is_requested() {
                self.context.schedule.note_server_waits(claimed.long_polling);
            }
            let Some(task) = claimed.task else { return Ok(None) };
            let Some(index) = self.open_type(open, &task) else {
                let (wanted, again) =
                    (&self.context.types[index].name, self.context.in_flight.is_repeated(task.id, Repeated::WrongType));
                self.context.tell(&Event::WrongType { task: &task, wanted, again });
                return self.look_up(&self.context.types[index]).map(|_| None);
            };
            failpoint::reach("answered");
            if self.context.in_flight.admit(&task, asked_at) {
                return Ok(Some((
                    index,
                    self.context.executor.claim(task, &self.context.types[index], claimed.claimed_at),
                )));
            }
        }
    }

    /// The type of a task, if one was wanted. Names tell, not numbers: these may be another type's by now. A task that
    /// nobody wanted goes back to the queue when its claim expires; no handler is given another type's task.
    fn open_type(&self, open: &Open<'_>, task: &Task) -> Option<usize> {
        let names = open.types.iter().map(|index| self.context.types[*index].name.as_str());
        position_of_type(names, &task.task_type).map(|at| open.types[at])
    }

    /// While a type is gone, its old number is not used. `None` where an answer was lost, and claims were found.
    fn claim_by_number(&self, worker_type: &WorkerType, wait: LongPollRequest<'_>) -> Result<Option<Claimed>, Error> {
        if worker_type.is_gone() && !self.look_up(worker_type)? {
            return Ok(Some(self.nothing()));
        }
        let worker_id = &self.context.config().worker_id.value;
        let claim = |client: &Client| {
            let answer = client.claim_long_poll(worker_id, worker_type.id(), self.order, wait);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                self.context.in_flight.doubts.add();
            }
            answer.map(Some)
        };
        match self.recovery.client.claim_once(claim, || {
            Ok((self.recovery.look(&self.recovery.client.with_retries(Retries::NONE))? > 0).then_some(None))
        }) {
            Err(error) if error.says_unknown_type() => self.look_up(worker_type).map(|_| Some(self.nothing())),
            other => other,
        }
    }

    fn nothing(&self) -> Claimed {
        Claimed::nothing(self.context.clock().moment())
    }

    /// Whether the TaskManager knows a type, by whatever number. Tells where that is new.
    fn look_up(&self, worker_type: &WorkerType) -> Result<bool, Error> {
        let was_gone = worker_type.is_gone();
        let is_found = worker_type.look_up(&self.recovery.client)?;
        let task_type = worker_type.name.as_str();
        match (was_gone, is_found) {
            (false, false) => self.context.tell(&Event::TypeGone(task_type)),
            (true, true) => {
                self.context.tell(&Event::TypeFound { task_type, id: worker_type.id() });
            }
            _ => {}
        }
        Ok(is_found)
    }

    /// Sees to a claim that was not answered as it should be; returns how long the server asked to be left alone.
    fn no_answer(&self, index: usize, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        if error == Error::Interrupted {
            return None;
        }
        self.context.outage.claim_failed(index, &error);
        if self.context.outage.is_claim_given_up(index, &error, self.context.exit_on_outage)
            || self.context.is_decided(&error)
        {
            self.context.fail(WorkerError::TaskManager(error));
        }
        pause
    }
}

/// The order in which a strategy takes tasks.
#[must_use]
pub(crate) fn order(strategy: Strategy) -> Order {
    match strategy {
        Strategy::Fifo => Order::OldestFirst,
        Strategy::Lifo => Order::NewestFirst,
        Strategy::Priority => Order::HighestPriorityFirst,
    }
}

/// Withdraws a claim that is held open at the TaskManager, until it `has_ended` within the time that is given. It is
/// answered even so, with the task if it has just got one: that is why we do not simply hang up. Several tries, since it
/// may have been on its way there only.
pub(crate) fn withdraw_claims(client: &Client, worker_id: &str, has_ended: impl Fn(Duration) -> bool) {
    let client = client.with_retries(Retries::NONE);
    let start = Instant::now();
    while !has_ended(WITHDRAW_EVERY) && start.elapsed() < WITHDRAW_FOR {
        // A TaskManager that cannot hold claims open answers the claim itself soon enough.
        let _ = client.withdraw_claims(worker_id);
    }
}
