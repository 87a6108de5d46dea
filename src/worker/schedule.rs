//! The poll schedule: which slot may poll, when, and for which types.
//!
//! A slot polls with a permit, over its own connection. While tasks come, every free slot gets one. Once the queue was
//! empty, there is one permit for all slots: its owner backs off or long-polls while the others sleep. When it gets a
//! task it wakes two slots, and each of those that gets one wakes two more. So an idle worker polls once an interval,
//! however many slots it has.
//!
//! If the server takes batches, one slot polls for all that are free: it runs one of the tasks itself and hands the
//! others to slots that wait. Slots that become free meanwhile are in the next poll. Slots wake each other one by one, as
//! long as there is something to do: short tasks are done by a few slots before the others are awake. When no claimed
//! task is left, or no slot that waits, one slot stores all results that have gathered; nothing is claimed for the others'
//! slots before that. If calls take longer than the tasks that they bring, the next ones ask for more ([`ClaimAhead`]).

mod ahead;
mod end;
mod handover;
mod messages;
mod pauses;
mod permits;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ahead::ClaimAhead;
use parking_lot::{Condvar, Mutex, MutexGuard};

pub(super) use messages::{ClaimedTask, Closed, ExitLimits, NextStep, PollPermit, Polled, RanTask, Reservation};
use messages::{Flow, IdlePoll};
use pauses::RepeatedClaims;
pub(super) use permits::Reserved;

use super::breaker::Breaker;
use crate::taskmanager::{Backoff, LongPollPolicy, LongPollSupport};

/// Sleeping slots woken by a slot that gets a task. A single task costs two polls without a task.
const CALLED_BY_A_TASK: usize = 2;
/// Workers that start together, or get the same Retry-After, spread their polls over this time.
const SPREAD: Duration = Duration::from_secs(1);

struct ScheduleState {
    /// Running tasks and reservations, by type.
    occupied: Vec<usize>,
    /// By type.
    breakers: Vec<Breaker>,
    /// Slots that are polling now, and the number of tasks they ask for.
    polling: usize,
    asked_for: usize,
    /// Maximum number of tasks that one call claims, and for how many of them there may be no free slot.
    most_per_call: usize,
    most_ahead: usize,
    ahead: ClaimAhead,
    /// Slots that wait for a permit or a task, and how many of them polls may bring a task for.
    waiting: usize,
    promised: usize,
    /// Claimed tasks for waiting slots, and those claimed ahead.
    handed: VecDeque<ClaimedTask>,
    /// Results to store. One slot takes all of them, and stores so many now; their slots run other tasks.
    ran: Vec<RanTask>,
    storing: usize,
    /// Results that could not be stored together: each is stored by a slot that waits.
    returned: Vec<RanTask>,
    /// Slots that were woken one by one and do not run yet: one at most.
    woken: usize,
    /// Room reserved by polls, by type.
    reserved: Vec<usize>,
    /// Concurrent polls skipped types that another polled for: the next slot polls alone.
    alone: bool,
    claimed: u64,
    finished: u64,
    /// Number of finished tasks when the last poll began that found nothing of any type.
    nothing_left_after: Option<u64>,
    /// When the last poll began, and the last that found nothing of any type.
    last_poll_began: Option<Instant>,
    last_empty_poll: Option<Instant>,
    /// Index of the type to poll first: the one after the last that had a task.
    first: usize,
    flow: Flow,
    idle_poll: IdlePoll,
    long_poll: LongPollPolicy,
    /// The last poll failed. Then the next is not a long poll: its answer tells that the server is back.
    last_poll_failed: bool,
    /// Number of sleeping slots that may poll, since others have just got tasks.
    called: usize,
    backoff: Backoff,
    next_poll: Instant,
    paused_until: Instant,
    /// Pauses between polls of an empty queue.
    pauses: Backoff,
    repeats: RepeatedClaims,
    /// When a type that is not claimed now may be claimed again, as noted since the last poll began.
    due: Option<Instant>,
    last_active: Instant,
    /// Stored results whose first report is not settled yet.
    first_reports_pending: usize,
    /// Results whose first report did not get through.
    unreported: usize,
    unreported_since: Option<Instant>,
    /// Reports have failed for too long.
    reports_failing: bool,
    slots: usize,
    closed: Option<Closed>,
    asked_at: Option<Instant>,
}

/// Gives slots permits to poll, and decides when the worker is done.
pub(super) struct PollSchedule {
    state: Mutex<ScheduleState>,
    /// Slots wait for it.
    changed: Condvar,
    /// The main thread waits for it: until the schedule is closed, and then until everything has ended.
    ending: Condvar,
    limits: ExitLimits,
    /// Maximum of tasks in flight, by type.
    concurrency: Vec<usize>,
    /// Number of slots at the start.
    slots: usize,
}

impl PollSchedule {
    pub(super) fn new(limits: ExitLimits, concurrency: Vec<usize>, slots: usize, backoff: Backoff) -> Self {
        let now = Instant::now();
        let start = if limits.runs_until_stopped() {
            SPREAD.min(backoff.clone().grow()).mul_f64(fastrand::f64())
        } else {
            Duration::ZERO
        };
        let state = ScheduleState {
            occupied: vec![0; concurrency.len()],
            breakers: concurrency.iter().map(|_| Breaker::new()).collect(),
            polling: 0,
            asked_for: 0,
            most_per_call: 1,
            most_ahead: 0,
            ahead: ClaimAhead::default(),
            waiting: 0,
            promised: 0,
            handed: VecDeque::new(),
            ran: Vec::new(),
            storing: 0,
            returned: Vec::new(),
            woken: 0,
            reserved: vec![0; concurrency.len()],
            alone: false,
            claimed: 0,
            finished: 0,
            nothing_left_after: None,
            last_poll_began: None,
            last_empty_poll: None,
            first: 0,
            flow: Flow::Unknown,
            idle_poll: IdlePoll::Nobody,
            long_poll: if limits.runs_until_stopped() {
                LongPollPolicy::new(concurrency.len())
            } else {
                LongPollPolicy::never()
            },
            last_poll_failed: false,
            called: 0,
            pauses: Backoff::when_asked_to_wait(backoff.longest()),
            repeats: RepeatedClaims::new(),
            backoff,
            next_poll: now + start,
            paused_until: now,
            due: None,
            last_active: now,
            first_reports_pending: 0,
            unreported: 0,
            unreported_since: None,
            reports_failing: false,
            slots,
            closed: None,
            asked_at: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), ending: Condvar::new(), limits, concurrency, slots }
    }

    fn lock(&self) -> MutexGuard<'_, ScheduleState> {
        self.state.lock()
    }

    /// Wakes all waiting threads: the state decides which of them may go on.
    fn notify(&self, state: &ScheduleState) {
        self.changed.notify_all();
        if state.closed.is_some() {
            self.ending.notify_all();
        }
    }

    /// Waits until a slot may poll, or another slot has left it something to do; `None` once the schedule is closed and
    /// nothing can follow.
    pub(super) fn acquire(&self) -> Option<NextStep> {
        let mut state = self.lock();
        let (mut fresh, mut is_idle) = (true, false);
        loop {
            if let Some(step) = state.take_work() {
                if is_idle {
                    state.idle_poll = IdlePoll::Nobody;
                }
                self.wake_next(&mut state);
                return Some(step);
            }
            state.close_when_done(&self.limits);
            if state.closed.is_some() && state.promised == 0 && state.storing == 0 {
                self.notify(&state);
                return None;
            }
            let wake = self.may_poll_at(&state);
            if state.flow != Flow::Tasks && state.idle_poll == IdlePoll::Nobody && wake.is_some() {
                (is_idle, state.idle_poll) = (true, IdlePoll::Polling);
            }
            let called = state.may_poll_next(fresh, is_idle);
            if called && wake.is_some_and(|wake| wake <= Instant::now()) {
                if !fresh {
                    state.called = state.called.saturating_sub(1);
                }
                return Some(NextStep::Poll(state.permit(is_idle, &self.limits)));
            }
            // Other slots sleep until somebody has news; so does one that must poll alone while another polls.
            let until = if called { wake } else { None };
            fresh &= called || state.alone;
            state.waiting += 1;
            wait(&self.changed, &mut state, until);
            state.waiting -= 1;
            state.woken = 0;
        }
    }

    /// Reserves room for up to `most` tasks of a type before the poll.
    pub(super) fn reserve(&self, index: usize, most: usize) -> Reservation {
        let mut state = self.lock();
        // A permit given before the schedule was closed claims nothing more.
        if state.closed.is_some() {
            return Reservation::Full;
        }
        let room = self.claimable(&state, index);
        if room == 0 {
            return if state.reserved[index] > 0 { Reservation::Contested } else { Reservation::Full };
        }
        let count = state.breakers[index].admit(room.min(most), Instant::now());
        if count == 0 {
            return Reservation::CircuitOpen;
        }
        state.occupied[index] += count;
        state.reserved[index] += count;
        Reservation::Made(count)
    }

    /// Releases reservations that were not used.
    pub(super) fn release(&self, index: usize, count: usize) {
        let mut state = self.lock();
        state.occupied[index] -= count;
        state.reserved[index] -= count;
        state.breakers[index].withdraw();
    }

    /// Returns how many more tasks of a type may be claimed. Types with a limit of their own are not claimed ahead.
    fn claimable(&self, state: &ScheduleState, index: usize) -> usize {
        let limit = self.concurrency[index];
        let ahead = if limit < self.slots { 0 } else { state.ahead.tasks() };
        limit.saturating_add(ahead).saturating_sub(state.occupied[index])
    }

    /// Notes how many tasks one call may claim, and how many of them when no slot is free.
    pub(super) fn note_most_per_call(&self, most: usize, most_ahead: usize) {
        let mut state = self.lock();
        state.most_ahead = most_ahead;
        if std::mem::replace(&mut state.most_per_call, most) != most {
            self.notify(&state);
        }
    }

    /// Nothing is claimed while this many results wait for their first report: new claims could expire.
    fn most_first_reports(&self, state: &ScheduleState) -> usize {
        2 * (self.slots + state.ahead.tasks())
    }

    /// Notes whether the server supports long polls.
    pub(super) fn note_server_waits(&self, waits: LongPollSupport) {
        self.lock().long_poll.note(waits);
    }

    /// Whether the server supports long polls for several types at once.
    pub(super) fn server_waits_for_any(&self) -> bool {
        self.lock().long_poll.is_for_any()
    }

    /// Returns a permit with what the poll found. Returns the first task, for the slot that polled; the others go to slots
    /// that wait.
    pub(super) fn finish_poll(&self, permit: &PollPermit, polled: Polled) -> Option<ClaimedTask> {
        let mut state = self.lock();
        state.polling -= 1;
        state.asked_for -= permit.limit;
        state.promised = state.promised.saturating_sub(permit.promised);
        if permit.is_idle {
            state.idle_poll = IdlePoll::Nobody;
        }
        state.last_poll_failed = matches!(polled, Polled::Failed { .. });
        if !state.last_poll_failed {
            state.pauses.reset();
        }
        state.alone = matches!(polled, Polled::Partial) && !self.limits.runs_until_stopped();
        let own = match polled {
            Polled::Tasks(tasks) => state.take_over(permit, tasks, &self.limits),
            polled => {
                state.found_nothing(permit, &polled);
                None
            }
        };
        state.close_when_drained(&self.limits);
        state.close_when_idle(&self.limits);
        // The one that waits to poll an empty queue must know when to do that.
        let is_due_anew = state.idle_poll == IdlePoll::Polling && state.flow != Flow::Tasks;
        if !state.is_batch() || state.closed.is_some() || is_due_anew {
            self.notify(&state);
        } else if own.is_some() {
            self.wake_next(&mut state);
        }
        own
    }

    /// Closes the schedule: nothing more is claimed. The first reason is kept.
    pub(super) fn close(&self, reason: Closed) {
        let mut state = self.lock();
        state.closed.get_or_insert(reason);
        self.notify(&state);
    }

    /// Closes the schedule because the program was stopped.
    pub(super) fn ask_to_end(&self) {
        let mut state = self.lock();
        state.asked_at.get_or_insert_with(Instant::now);
        state.closed.get_or_insert(Closed::Asked);
        self.notify(&state);
    }

    /// Closes the schedule after a panic in a slot: its poll, if it had a permit, brings no tasks, and it stores nothing.
    pub(super) fn abort(&self) {
        {
            let mut state = self.lock();
            (state.promised, state.storing) = (0, 0);
        }
        self.close(Closed::Failed);
    }

    /// Notes that a slot has ended.
    pub(super) fn slot_ended(&self) {
        let mut state = self.lock();
        state.slots -= 1;
        self.notify(&state);
    }

    /// Returns when a slot may poll next; `None` if that depends on other threads.
    fn may_poll_at(&self, state: &ScheduleState) -> Option<Instant> {
        let enough = self.limits.max_tasks > 0 && state.left_to_claim(&self.limits) == 0;
        // A slot may run a task while its last result waits to be stored.
        let full = state.working() >= state.slots
            || state.occupied.iter().zip(&self.concurrency).all(|(occupied, limit)| occupied >= limit);
        if state.closed.is_some() || enough || full || state.first_reports_pending >= self.most_first_reports(state) {
            return None;
        }
        Some(state.next_poll_at(&self.limits))
    }
}

impl ScheduleState {
    /// Returns the number of running tasks.
    fn working(&self) -> usize {
        self.occupied.iter().sum::<usize>() - self.reserved.iter().sum::<usize>()
    }

    /// Returns when to poll next. A worker about to exit because it is idle polls once more.
    fn next_poll_at(&self, limits: &ExitLimits) -> Instant {
        if self.flow == Flow::Tasks {
            return self.paused_until;
        }
        let last_poll = self.idle_end(limits).filter(|end| self.last_poll_began.is_none_or(|start| start < *end));
        last_poll.map_or(self.next_poll, |end| end.min(self.next_poll)).max(self.paused_until)
    }
}

fn wait(on: &Condvar, state: &mut MutexGuard<'_, ScheduleState>, until: Option<Instant>) {
    match until {
        None => on.wait(state),
        Some(until) => drop(on.wait_until(state, until)),
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
