//! The poller: claims tasks for free slots. Servers that take batches are asked for all of them at once; others for a task
//! of each type in turn, and if there is none, with a long poll for one of any.

use std::iter;
use std::time::{Duration, Instant};

use super::in_flight::Repeated;
use super::recovery::Recovery;
use super::report_queue::ReportQueue;
use super::schedule::{ClaimedTask, PollPermit, Polled, Reservation, Reserved};
use super::snooze::snoozed_types;
use super::store_health::LOOK_EVERY;
use super::{Context, Event, StoreHealth, WorkerError, WorkerType};
use crate::clock::Slept;
use crate::config::Strategy;
use crate::failpoint;
use crate::task::{Claim, Task, position_of_type};
use crate::taskmanager::{BatchClaim, Claimed, Client, Error, LongPollRequest, MOST_CLAIMS, Order, Retries, TypeLimit};

/// After this many unreadable answers in a row, the TaskManager is broken, not one task.
const MAX_UNREADABLE: u32 = 10;

/// Maximum number of types in a call.
const MOST_TYPES: usize = 256;

/// What to claim.
#[derive(Clone, Copy)]
struct TaskRequest<'a> {
    /// Indexes of the types, at least one.
    types: &'a [usize],
    limit: usize,
    is_long_poll: bool,
    /// When the poll began.
    polled_at: Instant,
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
        if !self.store_health.ensure_writable() {
            return schedule.finish_poll(permit, Polled::Failed { index: permit.first, pause: Some(LOOK_EVERY) });
        }
        let features = self.context.client().features();
        // Tasks that wait for a slot need their claims renewed.
        let most_ahead = if features.batch && features.renew { MOST_CLAIMS } else { 0 };
        schedule.note_most_per_call(if features.batch { MOST_CLAIMS } else { 1 }, most_ahead);
        let mut polled = self.search_and_claim(permit);
        if let Polled::Tasks(tasks) = &mut polled {
            self.note(tasks);
        }
        let claimed = schedule.finish_poll(permit, polled);
        self.context.emit(&Event::Polled);
        claimed
    }

    /// Notes the claims of several tasks together. Otherwise, or if this fails, each slot notes its own.
    fn note(&self, tasks: &mut [ClaimedTask]) {
        if tasks.len() < 2 {
            return;
        }
        failpoint::reach("claimed");
        let claims: Vec<&Claim> = tasks.iter().map(|task| &task.claim).collect();
        let noted = self.context.store().note_claims(&claims, self.context.client().url(), Some(&self.context.process));
        for (task, crash_count) in tasks.iter_mut().zip(noted.unwrap_or_default()) {
            task.noted = Some(crash_count);
        }
    }

    /// Searches for lost claims if due, then claims tasks of any type. Reports an empty queue only when no claim may be
    /// lost. Until then this slot claims nothing more: the next answer could be lost as well, and the search would never
    /// end. Work that other slots finish meanwhile is noticed at the end of the poll.
    fn search_and_claim(&self, permit: &PollPermit) -> Polled {
        // If this fails, the claims below fail too, or it is tried again after them.
        let _ = self.recovery.search_if_due();
        loop {
            let known = self.context.in_flight.lost_claims.found();
            let found = self.claim_of_types(permit);
            if !matches!(found, Polled::Empty { .. }) || self.context.schedule.is_closed() {
                return found;
            }
            match self.find_lost_claims(known) {
                // A found claim is already running down: take it now.
                Ok(()) if self.context.in_flight.lost_claims.found() > known && !self.context.schedule.is_closed() => {}
                Ok(()) => return found,
                Err(error) => {
                    return Polled::Failed { index: permit.first, pause: self.recovery.search_failed(error) };
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

    /// Reserves room for tasks of each type, and claims them: recovered ones first, then in one call if the server takes
    /// batches, else of one type after the other until there is one.
    fn claim_of_types(&self, permit: &PollPermit) -> Polled {
        let snoozed = snoozed_types(self.context);
        let (mut left_out, mut partial) = (snoozed.is_soon(), false);
        let mut reserved = Reserved { schedule: &self.context.schedule, types: Vec::new() };
        let mut recovered = Vec::new();
        let count = self.context.types.len();
        for index in (permit.first..permit.first + count).map(|index| index % count) {
            if snoozed.contains(index) && !self.recovery.has_any(index) {
                continue;
            }
            match self.context.schedule.reserve(index, permit.limit) {
                Reservation::Made(room) => {
                    reserved.types.push((index, room));
                    let most = room.min(permit.limit - recovered.len());
                    for claim in iter::from_fn(|| self.recovery.take(index)).take(most) {
                        reserved.use_up(index);
                        recovered.push(self.context.claimed_task(index, claim, true, permit.start()));
                    }
                }
                Reservation::Full => continue,
                Reservation::Contested => {
                    partial = true;
                    continue;
                }
                Reservation::CircuitOpen => {
                    left_out = true;
                    continue;
                }
            }
            if recovered.len() == permit.limit {
                break;
            }
            if snoozed.contains(index) {
                reserved.release_last();
            } else if permit.wait.is_zero() && !permit.is_batch {
                if let Some(found) = self.claim_type(&mut reserved, permit, index, LongPollRequest::default()) {
                    return found;
                }
                reserved.release_last();
            }
        }
        if !recovered.is_empty() {
            return Polled::Tasks(recovered);
        }
        let due = [snoozed.first_due(), self.context.in_flight.lost_claims.next_search()].into_iter().flatten().min();
        let time = due.map_or(permit.wait, |due| due.min(permit.wait));
        let nothing = if partial { Polled::Partial } else { Polled::Empty { left_out } };
        let found = if permit.is_batch {
            self.claim_batch(&mut reserved, permit, time)
        } else {
            self.long_poll(&mut reserved, permit, time)
        };
        found.unwrap_or(nothing)
    }

    /// Long-polls with the last reserved type, naming the others. If the server cannot wait for several types, claims
    /// each of the others first.
    fn long_poll(&self, reserved: &mut Reserved<'_>, permit: &PollPermit, time: Duration) -> Option<Polled> {
        let (mut gone, known): (Vec<_>, Vec<_>) =
            reserved.types().partition(|index| self.context.types[*index].is_gone());
        let last = known.last().or(gone.last()).copied()?;
        if !self.context.schedule.server_waits_for_any() {
            gone.extend(&known);
        }
        for index in gone.into_iter().filter(|index| *index != last) {
            let found = self.claim_type(reserved, permit, index, LongPollRequest::default());
            if found.is_some() {
                return found;
            }
        }
        let others: Vec<u64> =
            known.iter().filter(|index| **index != last).map(|index| self.context.types[*index].id()).collect();
        self.claim_type(reserved, permit, last, LongPollRequest { time, others: &others })
    }

    /// Claims a task of a type; `None` if there is none or the schedule is closed.
    fn claim_type(
        &self,
        reserved: &mut Reserved<'_>,
        permit: &PollPermit,
        index: usize,
        wait: LongPollRequest<'_>,
    ) -> Option<Polled> {
        let worker_id = &self.context.config().worker_id.value;
        let wanted = [index];
        let is_long_poll = wait.is_requested();
        let request = TaskRequest { types: &wanted, limit: 1, is_long_poll, polled_at: permit.start() };
        self.claim_readable(reserved, request, |client| {
            client.claim_long_poll(worker_id, self.context.types[index].id(), self.order, wait)
        })
    }

    /// Claims tasks of all reserved types in one call.
    fn claim_batch(&self, reserved: &mut Reserved<'_>, permit: &PollPermit, time: Duration) -> Option<Polled> {
        let worker_id = &self.context.config().worker_id.value;
        let wanted: Vec<usize> = reserved.types().take(MOST_TYPES).collect();
        let rooms = reserved.types.clone();
        let (limit, polled_at) = (permit.limit, permit.start());
        let request = TaskRequest { types: &wanted, limit, is_long_poll: time.as_secs() > 0, polled_at };
        self.claim_readable(reserved, request, |client| {
            let known = rooms.iter().filter(|(index, _)| wanted.contains(index));
            let known = known.map(|(index, room)| (&self.context.types[*index], *room));
            let types: Vec<TypeLimit> = known
                .filter(|(worker_type, _)| !worker_type.is_gone())
                .map(|(worker_type, limit)| TypeLimit { id: worker_type.id(), limit })
                .collect();
            client.claim_batch(worker_id, &BatchClaim { types: &types, limit, order: self.order, time })
        })
    }

    /// Claims until there are tasks that can be read. Those that cannot stay claimed and do not block others. `None` if
    /// there are none or the schedule is closed.
    fn claim_readable(
        &self,
        reserved: &mut Reserved<'_>,
        request: TaskRequest<'_>,
        claim: impl Fn(&Client) -> Result<Claimed, Error>,
    ) -> Option<Polled> {
        // The same for each call, so that failures in a row add up.
        let index = *request.types.iter().min()?;
        for unread in 1.. {
            if self.context.schedule.is_closed() {
                return None;
            }
            match self.claim_and_register(reserved, request, &claim) {
                Ok(Some(tasks)) if tasks.is_empty() && unread < MAX_UNREADABLE => {}
                Ok(tasks) => return tasks.filter(|tasks| !tasks.is_empty()).map(Polled::Tasks),
                Err(error @ Error::InvalidAnswer { .. }) if unread < MAX_UNREADABLE => self.skip_unreadable(error),
                Err(error) => return Some(Polled::Failed { index, pause: self.claim_failed(index, error) }),
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

    /// Claims tasks once, and registers them as in flight. `None` if there are none; an empty list if others may follow:
    /// those of this answer are here already, or cannot be read.
    fn claim_and_register(
        &self,
        reserved: &mut Reserved<'_>,
        request: TaskRequest<'_>,
        claim: impl Fn(&Client) -> Result<Claimed, Error>,
    ) -> Result<Option<Vec<ClaimedTask>>, Error> {
        let asked_at = Instant::now();
        let claimed = self.claim_or_find(request, claim)?;
        for index in request.types {
            if self.context.outage.claim_answered(*index) {
                self.reports.wake();
            }
        }
        // `None`: the answer was lost, and the search found claims instead.
        let Some(claimed) = claimed else { return Ok(None) };
        if request.is_long_poll {
            self.context.schedule.note_server_waits(claimed.long_polling);
        }
        let is_empty = claimed.tasks.is_empty() && claimed.unreadable.is_empty();
        for error in claimed.unreadable {
            self.context.in_flight.lost_claims.add(1);
            self.skip_unreadable(error);
        }
        let (mut tasks, mut is_wrong) = (Vec::new(), false);
        for task in claimed.tasks {
            let Some(index) = self.reserved_type(reserved, &task) else {
                is_wrong = true;
                self.wrong_type(&task, request.types);
                continue;
            };
            failpoint::reach("answered");
            if self.context.in_flight.register(&task, asked_at) {
                reserved.use_up(index);
                let claim = self.context.executor.claim(task, &self.context.types[index], claimed.claimed_at);
                tasks.push(self.context.claimed_task(index, claim, false, request.polled_at));
            }
        }
        if !tasks.is_empty() {
            self.context.claim_time.note(Instant::now(), claimed.expires_in);
        }
        if is_wrong {
            request.types.iter().try_for_each(|index| self.look_up(&self.context.types[*index]).map(drop))?;
        }
        Ok(if tasks.is_empty() && (is_empty || is_wrong) { None } else { Some(tasks) })
    }

    /// Handles a task of a type that was not asked for. It returns to the queue when its claim expires; it is never given
    /// to another type's handler.
    fn wrong_type(&self, task: &Task, types: &[usize]) {
        let names: Vec<&str> = types.iter().map(|index| self.context.types[*index].name.as_str()).collect();
        let is_repeated = !self.context.in_flight.mark_emitted(task.id, Repeated::WrongType);
        self.context.emit(&Event::WrongType { task, wanted: &names.join(", "), is_repeated });
    }

    /// Returns the index of a task's type if this poll asked for it. Compares names, since an id may belong to another
    /// type by now.
    fn reserved_type(&self, reserved: &Reserved<'_>, task: &Task) -> Option<usize> {
        let names = reserved.types().map(|index| self.context.types[index].name.as_str());
        position_of_type(names, &task.task_type).and_then(|at| reserved.types().nth(at))
    }

    /// Claims without losing any task. `None` if the answer was lost and lost claims were found.
    fn claim_or_find(
        &self,
        request: TaskRequest<'_>,
        claim: impl Fn(&Client) -> Result<Claimed, Error>,
    ) -> Result<Option<Claimed>, Error> {
        let types = request.types.iter().map(|index| &self.context.types[*index]);
        let mut is_any_known = false;
        for worker_type in types.clone() {
            is_any_known |= !worker_type.is_gone() || self.look_up(worker_type)?;
        }
        if !is_any_known {
            return Ok(Some(self.nothing()));
        }
        let claim = |client: &Client| {
            let answer = claim(client);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                self.context.in_flight.lost_claims.add(request.limit);
            }
            answer.map(Some)
        };
        match self.recovery.client.claim_once(claim, || {
            Ok((self.recovery.search(&self.recovery.client.with_retries(Retries::NONE))? > 0).then_some(None))
        }) {
            Err(error) if error.says_unknown_type() => {
                types.map(|it| self.look_up(it)).collect::<Result<Vec<_>, _>>().map(|_| Some(self.nothing()))
            }
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
        let is_given_up = self.context.outage.is_claim_given_up(index, &error, self.context.outage_limit);
        if is_given_up || self.context.is_fatal(&error) {
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
