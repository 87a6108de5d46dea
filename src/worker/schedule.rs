//! Who may poll, when, and for which types.
//!
//! A slot polls with a permit from here, over its own kept connection. While tasks come, every free slot gets one. Once
//! the queue was found empty, there is one permit for all slots: its owner polls with backoff, or long-polls at a server
//! that can do that, while the others sleep. When it gets a task it wakes two, and each of those that gets one two more.
//! So an idle worker polls once an interval, however many slots it has.

mod end;
mod repeats;
mod terms;
#[cfg(test)]
mod tests;
mod timing;

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use repeats::RepeatedClaims;
pub(super) use terms::{Closed, Limits, PollPermit, Polled, Reservation};
use terms::{Flow, IdlePoll};

use super::breaker::{Breaker, Change, Verdict};
use super::long_poll::LongPoll;
use crate::taskmanager::{Backoff, LongPolling};

/// So many sleeping slots are woken by a slot that finds a task: where there are many tasks, all are soon at work, and
/// a single task costs two calls in vain.
const CALLED_BY_A_TASK: usize = 2;
/// Workers that are started together, by a deployment say, or are told to come back at the same time, ask at different
/// times within this.
const SPREAD: Duration = Duration::from_secs(1);

struct State {
    /// Tasks in flight, by type.
    in_flight: Vec<usize>,
    /// By type.
    breakers: Vec<Breaker>,
    /// Slots that are asking now.
    asking: u64,
    /// Room that they have reserved for tasks which they may get, by type.
    reserved: Vec<usize>,
    /// Slots that asked at the same time left out types that another asked for: the next asks alone.
    alone: bool,
    claimed: u64,
    finished: u64,
    /// So many tasks were finished when a poll began that found nothing of any type.
    nothing_left_after: Option<u64>,
    /// When the last poll began, and the last that found nothing of any type.
    last_poll_began: Option<Instant>,
    last_in_vain: Option<Instant>,
    /// The type after the last that had a task.
    first: usize,
    flow: Flow,
    idle_poll: IdlePoll,
    long_poll: LongPoll,
    /// The last poll was not answered. Then a claim is not to wait: its answer tells that the server is back.
    unanswered: bool,
    /// So many of the slots that sleep may ask: others have just found tasks.
    called: usize,
    backoff: Backoff,
    next_poll: Instant,
    paused_until: Instant,
    /// The shortest pauses.
    pauses: Backoff,
    repeats: RepeatedClaims,
    /// When a type that is not claimed now may be, as far as was noted since the last poll began.
    due: Option<Instant>,
    last_active: Instant,
    /// Stored results whose first report is not settled yet.
    delivering: usize,
    /// Results whose first report did not get through.
    unreported: usize,
    unreported_since: Option<Instant>,
    /// They do not get through, for too long.
    stuck: bool,
    slots: usize,
    closed: Option<Closed>,
    asked_at: Option<Instant>,
}

/// The state that slots share.
pub(super) struct PollSchedule {
    state: Mutex<State>,
    /// What slots wait for.
    changed: Condvar,
    /// What the worker's main thread waits for: that nothing more is claimed, and then that all ends.
    ending: Condvar,
    limits: Limits,
    /// How many tasks of each type may be in flight.
    concurrency: Vec<usize>,
    /// While so many results wait for their first report, no task is claimed: its claim could expire while its result
    /// waits.
    most_delivering: usize,
}

impl PollSchedule {
    pub(super) fn new(limits: Limits, concurrency: Vec<usize>, slots: usize, backoff: Backoff) -> Self {
        let now = Instant::now();
        let start = if limits.is_patient() {
            SPREAD.min(backoff.clone().grow()).mul_f64(fastrand::f64())
        } else {
            Duration::ZERO
        };
        let state = State {
            in_flight: vec![0; concurrency.len()],
            breakers: concurrency.iter().map(|_| Breaker::new()).collect(),
            asking: 0,
            reserved: vec![0; concurrency.len()],
            alone: false,
            claimed: 0,
            finished: 0,
            nothing_left_after: None,
            last_poll_began: None,
            last_in_vain: None,
            first: 0,
            flow: Flow::Unknown,
            idle_poll: IdlePoll::Nobody,
            long_poll: if limits.is_patient() { LongPoll::new(concurrency.len()) } else { LongPoll::never() },
            unanswered: false,
            called: 0,
            pauses: Backoff::when_asked_to_wait(backoff.longest()),
            repeats: RepeatedClaims::new(),
            backoff,
            next_poll: now + start,
            paused_until: now,
            due: None,
            last_active: now,
            delivering: 0,
            unreported: 0,
            unreported_since: None,
            stuck: false,
            slots,
            closed: None,
            asked_at: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            ending: Condvar::new(),
            limits,
            concurrency,
            most_delivering: 2 * slots,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells all who wait, not one: who goes on is decided by the state, and one that cannot must not swallow the call.
    fn tell(&self, state: &State) {
        self.changed.notify_all();
        if state.closed.is_some() {
            self.ending.notify_all();
        }
    }

    /// Waits until a slot may poll; `None` if nothing more is to be claimed.
    pub(super) fn acquire(&self) -> Option<PollPermit> {
        let mut state = self.lock();
        let (mut fresh, mut is_idle) = (true, false);
        loop {
            state.close_when_done(&self.limits);
            if state.closed.is_some() {
                self.tell(&state);
                return None;
            }
            let wake = self.may_ask_at(&state);
            if state.flow != Flow::Tasks && state.idle_poll == IdlePoll::Nobody && wake.is_some() {
                (is_idle, state.idle_poll) = (true, IdlePoll::Polling);
            }
            let called = if state.flow == Flow::Tasks { fresh || state.called > 0 } else { is_idle };
            let called = called && !(state.alone && state.asking > 0);
            if called && wake.is_some_and(|wake| wake <= Instant::now()) {
                if !fresh {
                    state.called = state.called.saturating_sub(1);
                }
                return Some(state.permit(is_idle, &self.limits));
            }
            // Who is not called sleeps until somebody else has news; so does who polls alone, while another asks.
            let until = if called { wake } else { None };
            fresh &= called || state.alone;
            wait(&self.changed, &mut state, until);
        }
    }

    /// Reserves room for a task of a type, before it is asked for.
    pub(super) fn reserve(&self, index: usize) -> Reservation {
        let mut state = self.lock();
        // A permit that was given before the end was asked for takes nothing more.
        if state.closed.is_some() {
            return Reservation::Full;
        }
        if state.in_flight[index] >= self.concurrency[index] {
            return if state.reserved[index] > 0 { Reservation::Contested } else { Reservation::Full };
        }
        if !state.breakers[index].admit(Instant::now()) {
            return Reservation::Paused;
        }
        state.in_flight[index] += 1;
        state.reserved[index] += 1;
        Reservation::Made
    }

    /// Gives back what was reserved in vain.
    pub(super) fn release(&self, index: usize) {
        let mut state = self.lock();
        state.in_flight[index] -= 1;
        state.reserved[index] -= 1;
        state.breakers[index].withdraw();
    }

    /// Notes whether the server waits for a task where it is asked to.
    pub(super) fn note_server_waits(&self, waits: LongPolling) {
        self.lock().long_poll.note(waits);
    }

    /// Whether the server waits for a task of any type that it is asked for.
    pub(super) fn server_waits_for_any(&self) -> bool {
        self.lock().long_poll.is_for_any()
    }

    /// Returns a permit with what the poll found.
    pub(super) fn finish_poll(&self, permit: &PollPermit, polled: Polled) {
        let mut state = self.lock();
        state.asking -= 1;
        if permit.is_idle {
            state.idle_poll = IdlePoll::Nobody;
        }
        state.unanswered = matches!(polled, Polled::Failed { .. });
        if !state.unanswered {
            state.pauses.reset();
        }
        state.alone = polled == Polled::Partial && !self.limits.is_patient();
        match polled {
            Polled::Task(index) => {
                state.claimed += 1;
                state.reserved[index] -= 1;
                state.first = (index + 1) % self.concurrency.len();
                (state.flow, state.called) = (Flow::Tasks, CALLED_BY_A_TASK);
                state.last_active = Instant::now();
                state.backoff.reset();
            }
            // A task that ended meanwhile has made room, or has gone back to the queue: ask again.
            Polled::Empty { .. } if permit.finished_before != state.finished => {}
            // Who waits for the worker's end is only told of what is known of all types: ask again.
            Polled::Partial if state.alone => {}
            Polled::Partial | Polled::Empty { .. } => {
                // Each type is the last once in a while, for which a server waits.
                state.first = (permit.first + 1) % self.concurrency.len();
                state.schedule(permit, None);
                state.last_in_vain = state.last_in_vain.max(Some(permit.start));
                if polled == (Polled::Empty { left_out: false }) {
                    state.nothing_left_after = Some(permit.finished_before);
                }
            }
            // The next types come first next time: they may fare better.
            Polled::Failed { index, pause } => {
                state.first = (index + 1) % self.concurrency.len();
                state.nothing_left_after = None;
                state.schedule(permit, pause);
            }
        }
        state.close_when_drained(&self.limits);
        state.close_when_idle(&self.limits);
        self.tell(&state);
    }

    /// Notes that a task of a type runs no longer, and what that says about the type's service. If its result
    /// `is_stored`, its delivery begins, which ends with [`PollSchedule::delivered`].
    pub(super) fn finish_run(&self, index: usize, verdict: Verdict, is_stored: bool) -> Option<Change> {
        let mut state = self.lock();
        // If the type was full, or a task or its handler has put something into the queue, there may be more to claim.
        if state.in_flight[index] == self.concurrency[index] || self.limits.drain {
            state.flow = Flow::Tasks;
        }
        state.in_flight[index] -= 1;
        state.delivering += usize::from(is_stored);
        state.finished += 1;
        state.last_active = Instant::now();
        self.tell(&state);
        state.breakers[index].judge(verdict, Instant::now())
    }

    /// Notes that the first report of a stored result is settled, or postponed; and whether the task `may_be_back` in the
    /// queue of the TaskManager.
    pub(super) fn delivered(&self, may_be_back: bool) {
        let mut state = self.lock();
        let was_held_up = state.delivering >= self.most_delivering;
        state.delivering -= 1;
        state.last_active = Instant::now();
        if may_be_back {
            state.finished += 1;
            if self.limits.drain {
                (state.flow, state.called) = (Flow::Tasks, state.called.max(1));
            }
        }
        state.close_when_drained(&self.limits);
        // Most reports are news to nobody: with many slots it would cost to wake them all.
        if may_be_back || was_held_up || state.closed.is_some() || !self.limits.is_patient() {
            self.tell(&state);
        }
    }

    /// Notes how many results the TaskManager has not confirmed. They are counted under the lock, so that of two
    /// threads that note it at once, the one that counted last is believed.
    pub(super) fn note_unreported(&self, count: impl FnOnce() -> usize) {
        let mut state = self.lock();
        let unreported = count();
        let now = Instant::now();
        // A failure that has arrived only now is back in the queue.
        if unreported < state.unreported {
            state.last_active = now;
            if self.limits.drain {
                (state.flow, state.called, state.finished) = (Flow::Tasks, 1, state.finished + 1);
            }
        }
        state.unreported = unreported;
        state.unreported_since = (unreported > 0).then(|| state.unreported_since.unwrap_or(now));
        self.tell(&state);
    }

    /// Claims nothing more. The first reason stands.
    pub(super) fn close(&self, reason: Closed) {
        let mut state = self.lock();
        state.closed.get_or_insert(reason);
        self.tell(&state);
    }

    /// Claims nothing more because the program was asked to end.
    pub(super) fn ask_to_end(&self) {
        let mut state = self.lock();
        state.asked_at.get_or_insert_with(Instant::now);
        state.closed.get_or_insert(Closed::Asked);
        self.tell(&state);
    }

    /// Notes that a slot has ended.
    pub(super) fn slot_ended(&self) {
        let mut state = self.lock();
        state.slots -= 1;
        self.tell(&state);
    }

    /// When a slot may next ask, `None` where that depends on what other threads do.
    fn may_ask_at(&self, state: &State) -> Option<Instant> {
        let enough = self.limits.max_tasks > 0 && state.claimed + state.asking >= self.limits.max_tasks;
        let full = state.in_flight.iter().zip(&self.concurrency).all(|(in_flight, limit)| in_flight >= limit);
        if enough || full || state.delivering >= self.most_delivering {
            return None;
        }
        Some(state.next_poll_at(&self.limits))
    }
}

impl State {
    /// How many tasks run.
    fn working(&self) -> usize {
        self.in_flight.iter().sum::<usize>() - self.reserved.iter().sum::<usize>()
    }

    fn permit(&mut self, is_idle: bool, limits: &Limits) -> PollPermit {
        let start = Instant::now();
        self.asking += 1;
        self.due = None;
        self.last_poll_began = Some(start);
        let may_wait = is_idle && limits.is_patient() && !self.unanswered;
        let wait = if may_wait { self.long_poll.longest(self.backoff.clone().grow()) } else { Duration::ZERO };
        if !wait.is_zero() {
            self.idle_poll = IdlePoll::Held;
        }
        PollPermit { first: self.first, wait, start, is_idle, finished_before: self.finished }
    }

    /// Whether the server may be the place to wait at, after a poll without a task. Not if it was asked to wait and
    /// did not, or did not answer: it would be asked in a circle.
    fn may_wait_at_server(&self, permit: &PollPermit) -> bool {
        !self.unanswered && self.long_poll.may_wait(permit.start, !permit.wait.is_zero())
    }

    /// Before the worker ends because it is idle, it asks once more, whenever the next poll would be.
    fn next_poll_at(&self, limits: &Limits) -> Instant {
        if self.flow == Flow::Tasks {
            return self.paused_until;
        }
        let last_poll = self.idle_end(limits).filter(|end| self.last_poll_began.is_none_or(|start| start < *end));
        last_poll.map_or(self.next_poll, |end| end.min(self.next_poll)).max(self.paused_until)
    }
}

fn wait(on: &Condvar, state: &mut MutexGuard<'_, State>, until: Option<Instant>) {
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
