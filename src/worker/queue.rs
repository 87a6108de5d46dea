//! Whose turn it is to claim, and of which type.
//!
//! While tasks come, every slot claims for itself. Once the queue was found empty, one slot alone keeps watch: it polls
//! with backoff while the others sleep, or waits at a server that can. When it gets a task it wakes two, and each of
//! those that gets one two more. So an idle worker polls once an interval, however many slots it has.

mod asleep;
mod closing;
mod due;
mod ending;
mod in_vain;
mod schedule;
mod terms;
#[cfg(test)]
mod tests;

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use in_vain::InVain;
pub(super) use terms::{Closed, Limits, Place, Sweep, Turn};
use terms::{Flow, Watch};

use super::breaker::{Breaker, Change, Verdict};
use super::long_poll::LongPoll;
use crate::taskmanager::{Backoff, Waits};

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
    /// Places that they hold for tasks which they may get.
    reserved: Vec<usize>,
    /// Slots that asked at the same time left out types that another asked for: the next asks alone.
    alone: bool,
    claimed: u64,
    finished: u64,
    /// So many tasks were finished when a sweep began that found nothing of any type.
    nothing_left_after: Option<u64>,
    /// When the last turn began, and the last that found nothing of any type.
    last_turn: Option<Instant>,
    last_in_vain: Option<Instant>,
    /// The type after the last that had a task.
    first: usize,
    flow: Flow,
    watch: Watch,
    long_poll: LongPoll,
    /// The last sweep was not answered. Then a claim is not to wait: its answer tells that the server is back.
    unanswered: bool,
    /// So many of the slots that sleep may ask: others have just found tasks.
    called: usize,
    backoff: Backoff,
    next_poll: Instant,
    paused_until: Instant,
    /// The shortest pauses.
    pauses: Backoff,
    in_vain: InVain,
    /// When a type that is not claimed now may be, as far as was noted since the last turn began.
    due: Option<Instant>,
    last_active: Instant,
    /// Results that the TaskManager has not confirmed.
    unreported: usize,
    unreported_since: Option<Instant>,
    /// They do not get through, for too long.
    stuck: bool,
    slots: usize,
    closed: Option<Closed>,
    asked_at: Option<Instant>,
}

/// The state that slots share.
pub(super) struct Queue {
    state: Mutex<State>,
    /// What slots wait for.
    changed: Condvar,
    /// What the worker's main thread waits for: that nothing more is claimed, and then that all ends.
    ending: Condvar,
    limits: Limits,
    /// How many tasks of each type may be in flight.
    concurrency: Vec<usize>,
}

impl Queue {
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
            last_turn: None,
            last_in_vain: None,
            first: 0,
            flow: Flow::Unknown,
            watch: Watch::Nobody,
            long_poll: if limits.is_patient() { LongPoll::new(concurrency.len()) } else { LongPoll::never() },
            unanswered: false,
            called: 0,
            pauses: Backoff::when_asked_to_wait(backoff.longest()),
            in_vain: InVain::new(),
            backoff,
            next_poll: now + start,
            paused_until: now,
            due: None,
            last_active: now,
            unreported: 0,
            unreported_since: None,
            stuck: false,
            slots,
            closed: None,
            asked_at: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), ending: Condvar::new(), limits, concurrency }
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

    /// Waits until it is this slot's turn; `None` where nothing more is to be claimed.
    pub(super) fn turn(&self) -> Option<Turn> {
        let mut state = self.lock();
        let (mut fresh, mut on_watch) = (true, false);
        loop {
            state.close_when_done(&self.limits);
            if state.closed.is_some() {
                self.tell(&state);
                return None;
            }
            let wake = state.may_ask_at(&self.limits, &self.concurrency);
            if state.flow != Flow::Tasks && state.watch == Watch::Nobody && wake.is_some() {
                (on_watch, state.watch) = (true, Watch::Kept);
            }
            let called = if state.flow == Flow::Tasks { fresh || state.called > 0 } else { on_watch };
            let called = called && !(state.alone && state.asking > 0);
            if called && wake.is_some_and(|wake| wake <= Instant::now()) {
                if !fresh {
                    state.called = state.called.saturating_sub(1);
                }
                return Some(state.take_turn(on_watch, &self.limits));
            }
            // Who is not called sleeps until somebody else has news; the watch too, while another asks for it.
            let until = if called { wake } else { None };
            fresh &= called || state.alone;
            wait(&self.changed, &mut state, until);
        }
    }

    /// Takes a place for a task of a type, before it is asked for.
    pub(super) fn reserve(&self, index: usize) -> Place {
        let mut state = self.lock();
        // A turn that was given before the end was asked for takes nothing more.
        if state.closed.is_some() {
            return Place::Full;
        }
        if state.in_flight[index] >= self.concurrency[index] {
            return if state.reserved[index] > 0 { Place::Reserved } else { Place::Full };
        }
        if !state.breakers[index].admit(Instant::now()) {
            return Place::Paused;
        }
        state.in_flight[index] += 1;
        state.reserved[index] += 1;
        Place::Taken
    }

    /// Gives back a place that was taken in vain.
    pub(super) fn release(&self, index: usize) {
        let mut state = self.lock();
        state.in_flight[index] -= 1;
        state.reserved[index] -= 1;
        state.breakers[index].withdraw();
    }

    /// Notes whether the server waits for a task where it is asked to.
    pub(super) fn note_server_waits(&self, waits: Waits) {
        self.lock().long_poll.note(waits);
    }

    /// Whether the server waits for a task of any type that it is asked for.
    pub(super) fn server_waits_for_any(&self) -> bool {
        self.lock().long_poll.is_for_any()
    }

    /// Ends a turn with what it found.
    pub(super) fn end_turn(&self, turn: &Turn, sweep: Sweep) {
        let mut state = self.lock();
        state.asking -= 1;
        if turn.on_watch {
            state.watch = Watch::Nobody;
        }
        state.unanswered = matches!(sweep, Sweep::Failed { .. });
        if !state.unanswered {
            state.pauses.reset();
        }
        state.alone = sweep == Sweep::Partial && !self.limits.is_patient();
        match sweep {
            Sweep::Task(index) => {
                state.claimed += 1;
                state.reserved[index] -= 1;
                state.first = (index + 1) % self.concurrency.len();
                (state.flow, state.called) = (Flow::Tasks, CALLED_BY_A_TASK);
                state.last_active = Instant::now();
                state.backoff.reset();
            }
            // A task that ended meanwhile has made room, or has gone back to the queue: ask again.
            Sweep::Empty { .. } if turn.finished_before != state.finished => {}
            // Who waits for the worker's end is only told of what is known of all types: ask again.
            Sweep::Partial if state.alone => {}
            Sweep::Partial | Sweep::Empty { .. } => {
                // Each type is the last in its turn, for which a server waits.
                state.first = (turn.first + 1) % self.concurrency.len();
                state.schedule(turn, None);
                state.last_in_vain = state.last_in_vain.max(Some(turn.start));
                if sweep == (Sweep::Empty { paused: false }) {
                    state.nothing_left_after = Some(turn.finished_before);
                }
            }
            // The next types come first next time: they may fare better.
            Sweep::Failed { index, pause } => {
                state.first = (index + 1) % self.concurrency.len();
                state.nothing_left_after = None;
                state.schedule(turn, pause);
            }
        }
        state.close_when_drained(&self.limits);
        state.close_when_idle(&self.limits);
        self.tell(&state);
    }

    /// Notes that a task of a type is no longer in flight, and what that says about the type's service.
    pub(super) fn finished(&self, index: usize, verdict: Verdict) -> Option<Change> {
        let mut state = self.lock();
        // Where the type was full, or failures go back to the queue, there may be more to claim at once.
        if state.in_flight[index] == self.concurrency[index] || self.limits.drain {
            state.flow = Flow::Tasks;
        }
        state.in_flight[index] -= 1;
        state.finished += 1;
        state.last_active = Instant::now();
        self.tell(&state);
        state.breakers[index].judge(verdict, Instant::now())
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

    /// How many tasks are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().working()
    }
}

impl State {
    /// How many tasks are in flight.
    fn working(&self) -> usize {
        self.in_flight.iter().sum::<usize>() - self.reserved.iter().sum::<usize>()
    }

    fn take_turn(&mut self, on_watch: bool, limits: &Limits) -> Turn {
        let start = Instant::now();
        self.asking += 1;
        self.due = None;
        self.last_turn = Some(start);
        let may_wait = on_watch && limits.is_patient() && !self.unanswered;
        let wait = if may_wait { self.long_poll.longest(self.backoff.clone().grow()) } else { Duration::ZERO };
        if !wait.is_zero() {
            self.watch = Watch::MayWait;
        }
        Turn { first: self.first, wait, start, on_watch, finished_before: self.finished }
    }

    /// Whether the server may be the place to wait at, after a turn without a task. Not where it was asked to wait and
    /// did not, or did not answer: it would be asked in a circle.
    fn may_wait_at_server(&self, turn: &Turn) -> bool {
        !self.unanswered && self.long_poll.may_wait(turn.start, !turn.wait.is_zero())
    }

    /// When a slot may next ask, `None` where that depends on what other slots do.
    fn may_ask_at(&self, limits: &Limits, concurrency: &[usize]) -> Option<Instant> {
        let enough = limits.max_tasks > 0 && self.claimed + self.asking >= limits.max_tasks;
        let full = self.in_flight.iter().zip(concurrency).all(|(in_flight, limit)| in_flight >= limit);
        if enough || full {
            return None;
        }
        Some(self.next_turn(limits))
    }

    /// Before the worker ends because it is idle, it asks once more, whenever the next poll would be.
    fn next_turn(&self, limits: &Limits) -> Instant {
        if self.flow == Flow::Tasks {
            return self.paused_until;
        }
        let last_poll = self.idle_end(limits).filter(|end| self.last_turn.is_none_or(|start| start < *end));
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
