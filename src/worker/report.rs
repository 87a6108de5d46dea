//! Reporting stored results: at once by the slot that made them; where that does not get through, by the reporter, when
//! the TaskManager answers again, oldest first.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::contact::is_too_long;
use super::queue::Closed;
use super::refused::RefusedReports;
use super::told::News;
use super::trouble::LOOK_EVERY;
use super::unsettled::Unsettled;
use super::{Completer, Event, Worker};
use crate::clock::Timestamp;
use crate::failpoint;
use crate::store::{StoreError, StoredResult};
use crate::task::TaskId;
use crate::taskmanager::{Backoff, Delivery, Error, Retries};

/// The longest wait between two tries: results arrive within a second of the TaskManager's return.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the end of the worker may be delayed by results that wait; they are safe in the results file.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// How long a confirmed result may wait for another process that holds the results file, to be marked. One that is not
/// marked is looked up by the next start.
pub(super) const MARK_PATIENCE: Duration = Duration::from_secs(60);

/// A look at the task and the report each need an answer. Of a server that fails a share of its calls, the reporter is not
/// to take a few such tries for the report's own fault.
const REPORTER_TRIES: Retries = Retries { tries: 3, patience: Duration::ZERO, ..Retries::STANDARD };

struct State {
    waiting: VecDeque<Unsettled>,
    refused: RefusedReports,
    /// When the one was finished that is being sent.
    in_hand: Option<Timestamp>,
    woken: bool,
    /// The TaskManager asked to be left alone with reports until then.
    paused_until: Instant,
    ended_at: Option<Instant>,
}

impl State {
    /// Those that are sent as soon as the TaskManager answers.
    fn pending(&self) -> usize {
        self.waiting.len() + usize::from(self.in_hand.is_some())
    }

    fn unreported(&self) -> usize {
        self.pending() + self.refused.len()
    }

    /// When the oldest of them all was finished.
    fn oldest(&self) -> Option<Timestamp> {
        let waiting = self.waiting.iter().map(|unsettled| unsettled.result.finished_at);
        waiting.chain(self.in_hand).chain(self.refused.oldest()).min()
    }

    /// When something is to be sent: what waits at `due`, what was refused at a time of its own.
    fn next_due(&self, due: Instant) -> Option<Instant> {
        let waiting = (!self.waiting.is_empty()).then_some(due);
        waiting.into_iter().chain(self.refused.due().map(|due| due.max(self.paused_until))).min()
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
    /// Starts with results that an earlier process left. One that is refused waits for `refused_wait` at first.
    pub(super) fn new(left: Vec<StoredResult>, refused_wait: Duration) -> Self {
        let waiting = left.into_iter().map(Unsettled::from).collect();
        let refused = RefusedReports::new(refused_wait);
        let paused_until = Instant::now();
        let state = State { waiting, refused, in_hand: None, woken: false, paused_until, ended_at: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), telling: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How many results the TaskManager has not confirmed.
    pub(super) fn unreported(&self) -> usize {
        self.lock().unreported()
    }

    /// How many of them are to be sent as soon as the TaskManager answers.
    fn pending(&self) -> usize {
        self.lock().pending()
    }

    /// Those that the TaskManager refuses, and why.
    pub(super) fn refused(&self) -> Vec<(TaskId, Error)> {
        self.lock().refused.reasons()
    }

    /// Tells how many there are, how many of them are refused, and when the oldest was finished.
    fn tell(&self, listen: impl FnOnce(usize, usize, Option<Timestamp>)) {
        let _telling = self.telling.lock();
        let state = self.lock();
        let (count, refused, oldest) = (state.unreported(), state.refused.len(), state.oldest());
        drop(state);
        listen(count, refused, oldest);
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

    /// Keeps one that the TaskManager refuses.
    fn set_aside(&self, unsettled: Unsettled, error: Error) {
        self.lock().refused.add(unsettled, error);
        self.changed.notify_all();
    }

    /// Waits until something is to be sent, not before `due` unless woken; false where nothing will be. A pause that the
    /// TaskManager asked for is kept, woken or not.
    fn wait(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let due = if state.woken { state.paused_until } else { due.max(state.paused_until) };
            let early = state.next_due(due).map(|due| due.saturating_duration_since(Instant::now()));
            let ended = state.ended_at.is_some();
            if ended && !state.waiting.is_empty() || !ended && early == Some(Duration::ZERO) {
                state.woken = false;
                return true;
            }
            if ended {
                return false;
            }
            match early {
                None => self.changed.wait(&mut state),
                Some(early) => drop(self.changed.wait_for(&mut state, early)),
            }
        }
    }

    fn next(&self) -> Option<Unsettled> {
        let mut state = self.lock();
        let too_late = state.ended_at.is_some_and(|ended_at| ended_at.elapsed() > LAST_TRIES);
        let next = if too_late { None } else { state.waiting.pop_front() };
        let next = next.or_else(|| if state.ended_at.is_none() { state.refused.take_due() } else { None });
        state.in_hand = next.as_ref().map(|unsettled| unsettled.result.finished_at);
        next
    }

    /// Puts back what could not be sent: in front, unless this one alone may be what is wrong.
    fn put_back(&self, unsettled: Unsettled) {
        let mut state = self.lock();
        if unsettled.failed_alone > 0 {
            state.waiting.push_back(unsettled);
        } else {
            state.waiting.push_front(unsettled);
        }
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
        self.queue.note_unreported(|| self.waiting.pending());
        self.waiting.tell(|count, refused, oldest| {
            self.executor.observer.event(&Event::Unreported { count, refused, oldest });
        });
    }

    /// Reports a result that was just stored; keeps it for later where that does not get through. False where the
    /// TaskManager does not take it.
    pub(super) fn report(&self, mut unsettled: Unsettled) -> Result<bool, StoreError> {
        failpoint::reach("stored");
        if self.waiting.is_paused() {
            self.waiting.add(unsettled);
            self.note_unreported();
            return Ok(true);
        }
        match self.deliver(&self.completer, &mut unsettled) {
            Err(error) if !error.refuses_report() => {
                self.contact.failed(&error);
                self.waiting.pause(error.retry_after().unwrap_or_default());
                let (task_id, error) = (unsettled.result.task_id, error.to_string());
                self.executor.observer.event(&Event::ReportPostponed { task_id, error });
                self.waiting.add(unsettled);
                self.note_unreported();
                Ok(true)
            }
            answer => self.settle(unsettled, answer),
        }
    }

    /// Sends what waits, until the end.
    pub(super) fn run_reporter(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), 2.0, LONGEST_WAIT);
        let (mut due, mut stuck_since) = (Instant::now(), None);
        while self.waiting.wait(due) {
            let is_last = self.waiting.has_ended();
            let tried = Cell::new(0);
            let answer = self.send_waiting(REPORTER_TRIES, || tried.set(tried.get() + 1));
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
            if is_last {
                return;
            }
        }
    }

    /// Sees to reports none of which has got through `since` then. Who waits for the end of the work does not wait for ever.
    fn stuck(&self, error: &Error, since: Instant) {
        self.waiting.pause(error.retry_after().unwrap_or_default());
        let is_too_long =
            is_too_long(since.elapsed(), error, self.patience) || self.contact.is_given_up(error, self.patience);
        if is_too_long {
            self.queue.close(Closed::Done);
            self.in_flight.end();
        }
        self.queue.note_stuck(is_too_long);
    }

    /// Sends what waits, then what was refused and is due, until nothing is left or the TaskManager does not answer. Calls
    /// `each` before each.
    pub(super) fn send_waiting(&self, retries: Retries, each: impl Fn()) -> Result<(), Error> {
        let completer = self.completer.with_retries(retries);
        while let Some(mut unsettled) = self.waiting.next() {
            each();
            let answer = self.deliver(&completer, &mut unsettled);
            if let Err(error) = &answer
                && !error.refuses_report()
            {
                self.contact.failed(error);
                if !unsettled.fails_alone(error, self.contact.answers()) {
                    self.waiting.put_back(unsettled);
                    return answer.map(drop);
                }
            }
            let task_id = unsettled.result.task_id;
            if let Err(error) = self.settle(unsettled, answer) {
                let error = error.to_string();
                self.executor.observer.event(&Event::NotStored { task_id, error, reported: true });
            }
            self.waiting.let_go();
            self.note_unreported();
            if self.trouble.is_there() {
                // What could not be marked waits with all others.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Delivers a result, under a later claim of its task where there is one by now.
    fn deliver(&self, completer: &Completer<'_>, unsettled: &mut Unsettled) -> Result<Delivery, Error> {
        if unsettled.is_let_go() {
            return completer.report(&unsettled.result, true);
        }
        loop {
            unsettled.in_doubt |= self.in_flight.report(&mut unsettled.result);
            let answer = completer.report(&unsettled.result, unsettled.in_doubt);
            unsettled.in_doubt = true;
            if answer != Ok(Delivery::ClaimLost) || !self.in_flight.renew(&mut unsettled.result) {
                return answer;
            }
        }
    }

    /// Marks what became of a result. One that is refused is kept. Returns whether the TaskManager has taken it.
    fn settle(&self, unsettled: Unsettled, answer: Result<Delivery, Error>) -> Result<bool, StoreError> {
        failpoint::reach("reported");
        let is_let_go = unsettled.is_let_go();
        let Unsettled { id, result, .. } = &unsettled;
        let task_id = result.task_id;
        if self.contact.answered() {
            self.waiting.wake();
        }
        let settled = match answer {
            Ok(delivery) => {
                let until = self.executor.clock.moment().later(MARK_PATIENCE);
                let mark = || self.completer.settle(*id, result, delivery);
                if delivery == Delivery::Confirmed {
                    self.told.forget(task_id);
                }
                match self.patiently(task_id, until, || false, mark) {
                    Err(error) if self.survives(&error) => {
                        self.mark_later(unsettled, error);
                        return Ok(delivery == Delivery::Confirmed);
                    }
                    marked => marked.map(|()| delivery == Delivery::Confirmed),
                }
            }
            Err(error) => {
                let words = error.to_string();
                // Where this fails, the next write that matters says so.
                let _ = self.executor.store.refused(*id, &words);
                let again = self.told.again(task_id, News::ReportRefused);
                self.executor.observer.event(&Event::ReportRefused { task_id, error: words, again });
                self.waiting.set_aside(unsettled, error);
                self.note_unreported();
                Ok(false)
            }
        };
        if !is_let_go {
            self.in_flight.leave(task_id);
        }
        failpoint::reach("marked");
        settled
    }
    /// Keeps a result whose fate is known and could not be noted. It is looked up again when the results file can be written.
    fn mark_later(&self, unsettled: Unsettled, error: StoreError) {
        self.store_failed(error);
        self.waiting.pause(LOOK_EVERY);
        self.waiting.add(unsettled);
        self.note_unreported();
    }
}
