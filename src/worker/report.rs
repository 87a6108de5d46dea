//! Reporting stored results: at once by the slot that made them; where that does not get through, by the reporter, when
//! the TaskManager answers again, oldest first.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Closed;
use super::{Event, Worker};
use crate::clock::{Timestamp, after};
use crate::failpoint;
use crate::store::{ResultId, StoreError, StoredResult};
use crate::task::TaskResult;
use crate::taskmanager::{Backoff, Client, Delivery, Error, Report, Retries};

/// The longest wait between two tries: results arrive within a second of the TaskManager's return.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the end of the worker may be delayed by results that wait; they are safe in the results file.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// How long a confirmed result may wait for another process that holds the results file, to be marked. One that is not
/// marked is looked up by the next start.
const MARK_PATIENCE: Duration = Duration::from_secs(60);

/// A stored result whose fate is not known yet.
pub(super) struct Unsettled {
    pub(super) id: ResultId,
    pub(super) result: TaskResult,
    /// It may have arrived, or its claim may be another's by now: the task is looked up before anything is sent.
    pub(super) in_doubt: bool,
}

impl From<StoredResult> for Unsettled {
    fn from(stored: StoredResult) -> Self {
        Self { id: stored.id, result: stored.result, in_doubt: true }
    }
}

struct State {
    waiting: VecDeque<Unsettled>,
    /// When the one was finished that is being sent.
    in_hand: Option<Timestamp>,
    woken: bool,
    /// The TaskManager asked to be left alone with reports until then.
    paused_until: Instant,
    ended_at: Option<Instant>,
}

impl State {
    fn unreported(&self) -> usize {
        self.waiting.len() + usize::from(self.in_hand.is_some())
    }
}

/// The results that wait to be reported again.
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while somebody is told how many there are: of two threads, the one that counted last is heard last.
    telling: Mutex<()>,
}

impl Waiting {
    /// Starts with results that an earlier process left.
    pub(super) fn new(left: Vec<StoredResult>) -> Self {
        let waiting = left.into_iter().map(Unsettled::from).collect();
        let state = State { waiting, in_hand: None, woken: false, paused_until: Instant::now(), ended_at: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), telling: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many results the TaskManager has not confirmed.
    pub(super) fn unreported(&self) -> usize {
        self.lock().unreported()
    }

    /// Tells how many there are, and when the oldest was finished.
    fn tell(&self, listen: impl FnOnce(usize, Option<Timestamp>)) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        let oldest = state.in_hand.or_else(|| Some(state.waiting.front()?.result.finished_at));
        let count = state.unreported();
        drop(state);
        listen(count, oldest);
    }

    /// The TaskManager answers again: try at once.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// The TaskManager asked for no reports before `asked` is over.
    fn pause(&self, asked: Duration) {
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Instant::now() + asked);
    }

    fn is_paused(&self) -> bool {
        Instant::now() < self.lock().paused_until
    }

    /// Nothing more will come; what waits is tried once more.
    pub(super) fn end(&self) {
        self.lock().ended_at = Some(Instant::now());
        self.changed.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.lock().ended_at.is_some()
    }

    fn add(&self, unsettled: Unsettled) {
        let mut state = self.lock();
        state.waiting.push_back(unsettled);
        self.changed.notify_all();
    }

    /// Waits until something is to be sent, not before `due` unless woken; false where nothing will be. A pause that the
    /// TaskManager asked for is kept, woken or not.
    fn wait(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let due = if state.woken { state.paused_until } else { due.max(state.paused_until) };
            let early = due.saturating_duration_since(Instant::now());
            let ended = state.ended_at.is_some();
            if !state.waiting.is_empty() && (early.is_zero() || ended) {
                state.woken = false;
                return true;
            }
            if ended {
                return false;
            }
            state = if state.waiting.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn next(&self) -> Option<Unsettled> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        let next = if too_late { None } else { state.waiting.pop_front() };
        state.in_hand = next.as_ref().map(|unsettled| unsettled.result.finished_at);
        next
    }

    /// Puts back what could not be sent.
    fn put_back(&self, unsettled: Unsettled) {
        let mut state = self.lock();
        state.waiting.push_front(unsettled);
        state.in_hand = None;
    }

    /// The fate of what was in hand is known.
    fn let_go(&self) {
        self.lock().in_hand = None;
    }
}

impl Worker<'_> {
    /// Tells how many results wait.
    pub(super) fn note_unreported(&self) {
        self.queue.note_unreported(|| self.waiting.unreported());
        self.waiting.tell(|count, oldest| self.executor.observer.event(&Event::Unreported { count, oldest }));
    }

    /// Reports a result that was just stored; keeps it for later where that does not get through.
    pub(super) fn report(&self, mut unsettled: Unsettled) -> Result<(), StoreError> {
        failpoint::reach("stored");
        if self.waiting.is_paused() {
            self.waiting.add(unsettled);
            self.note_unreported();
            return Ok(());
        }
        match self.deliver(&self.executor.client, &mut unsettled) {
            Err(error) if !error.is_refusal() => {
                self.contact.failed(&error);
                self.waiting.pause(error.retry_after().unwrap_or_default());
                let (task_id, error) = (unsettled.result.task_id, error.to_string());
                self.executor.observer.event(&Event::ReportPostponed { task_id, error });
                self.waiting.add(unsettled);
                self.note_unreported();
                Ok(())
            }
            answer => self.settle(&unsettled, answer),
        }
    }

    /// Sends what waits, until the end.
    pub(super) fn run_reporter(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), 2.0, LONGEST_WAIT);
        let (mut due, mut stuck_since) = (Instant::now(), None);
        while self.waiting.wait(due) {
            let tried = Cell::new(0);
            let answer = self.send_waiting(|| tried.set(tried.get() + 1));
            due = Instant::now();
            if tried.get() > 1 || answer.is_ok() {
                stuck_since = None;
            }
            if let Err(error) = answer {
                self.stuck(&error, *stuck_since.get_or_insert(due));
                due += backoff.jittered();
            } else {
                backoff.reset();
                self.queue.note_stuck(false);
            }
            if self.waiting.has_ended() {
                return;
            }
        }
    }

    /// Sees to reports none of which has got through `since` then. Who waits for the end of the work does not wait for ever.
    fn stuck(&self, error: &Error, since: Instant) {
        let asked = error.retry_after();
        self.waiting.pause(asked.unwrap_or_default());
        let is_too_long = self.patience.is_some_and(|patience| since.elapsed() > patience);
        if is_too_long {
            self.queue.close(Closed::Done);
        }
        self.queue.note_stuck(is_too_long || asked.is_none());
    }

    /// Sends what waits, oldest first, until nothing does or the TaskManager does not answer. Calls `each` before each.
    pub(super) fn send_waiting(&self, each: impl Fn()) -> Result<(), Error> {
        let client = self.executor.client.with_retries(Retries::NONE);
        while let Some(mut unsettled) = self.waiting.next() {
            each();
            let answer = self.deliver(&client, &mut unsettled);
            if let Err(error) = &answer
                && !error.is_refusal()
            {
                self.contact.failed(error);
                self.waiting.put_back(unsettled);
                return answer.map(drop);
            }
            if let Err(error) = self.settle(&unsettled, answer) {
                let (task_id, error) = (unsettled.result.task_id, error.to_string());
                self.executor.observer.event(&Event::NotStored { task_id, error, reported: true });
            }
            self.waiting.let_go();
            self.note_unreported();
        }
        Ok(())
    }

    /// Delivers a result, under a later claim of its task where there is one by now.
    fn deliver(&self, client: &Client, unsettled: &mut Unsettled) -> Result<Delivery, Error> {
        loop {
            unsettled.in_doubt |= self.in_flight.report(&mut unsettled.result);
            let report = Report::from(&unsettled.result);
            let answer = if unsettled.in_doubt { client.deliver_again(&report) } else { client.deliver(&report) };
            unsettled.in_doubt = true;
            if answer != Ok(Delivery::ClaimLost) || !self.in_flight.renew(&mut unsettled.result) {
                return answer;
            }
        }
    }

    /// Marks what became of a result.
    fn settle(&self, unsettled: &Unsettled, answer: Result<Delivery, Error>) -> Result<(), StoreError> {
        failpoint::reach("reported");
        let Unsettled { id, result, .. } = unsettled;
        if self.contact.answered() {
            self.waiting.wake();
        }
        let settled = match answer {
            Ok(delivery) => {
                let until = after(self.executor.clock.now(), MARK_PATIENCE);
                let mark = || self.executor.settle(*id, result, delivery);
                self.patiently(result.task_id, until, || false, mark)
            }
            Err(error) => {
                let (task_id, error) = (result.task_id, error.to_string());
                self.executor.observer.event(&Event::ReportRefused { task_id, error });
                Ok(())
            }
        };
        self.in_flight.leave(result.task_id);
        failpoint::reach("marked");
        settled
    }
}
