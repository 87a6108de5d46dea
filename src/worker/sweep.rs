//! Asking the TaskManager for a task: of each type in turn, and where there is none, in such a way that it may wait for
//! one of any of them.

use std::time::{Duration, Instant};

use super::contact::is_too_long;
use super::queue::{Place, Queue, Turn};
use super::told::News;
use super::{Event, Worker, WorkerError, WorkerType};
use crate::clock::Slept;
use crate::failpoint;
use crate::task::{Claim, Task, position_of_type};
use crate::taskmanager::{Claimed, Client, Error, Retries, Wait};

/// Where so many claims in a row are answered with what cannot be read, it is not a task that is broken but the
/// TaskManager.
const MAX_UNREADABLE: u32 = 10;

/// What asking for a task of each type led to.
pub(super) enum Found {
    /// A task of the type with this index; whether an earlier process left it.
    Task { index: usize, claim: Claim, left: bool },
    /// Nothing; whether a type was left out that may be claimed soon.
    Nothing { paused: bool },
    /// Nothing, but of a type for which other slots asked at the time nothing is known.
    Partial,
    /// No answer about the type with this index; the server asked to be left alone for so long.
    NoAnswer { index: usize, pause: Option<Duration> },
}

/// The types, by their index, that a place is taken of for a task that may come. The places go back at the end.
struct Open<'a> {
    queue: &'a Queue,
    types: Vec<usize>,
}

impl Open<'_> {
    /// Gives the place back that was taken last.
    fn give_back(&mut self) {
        self.types.pop().into_iter().for_each(|index| self.queue.release(index));
    }

    /// A task of this type has its place now.
    fn fill(&mut self, index: usize) {
        self.types.retain(|open| *open != index);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.types.iter().for_each(|index| self.queue.release(*index));
    }
}

impl Worker<'_> {
    /// Looks for lost claims where that is due, and asks for a task of each type. That there is none is only said when no
    /// claim is in doubt. This slot asks nothing more until then: the next answer could be lost as well, and the doubt
    /// never end. What ends in other slots meanwhile is seen at the end of the turn.
    pub(super) fn sweep(&self, turn: &Turn) -> Found {
        // Where this fails, so will the claims, or it is tried again after them.
        let _ = self.settle_lost_claims();
        loop {
            let known = self.lost.found();
            let found = self.ask_for_each(turn);
            if !matches!(found, Found::Nothing { .. }) || self.queue.is_closed() {
                return found;
            }
            match self.wait_until_settled(known) {
                // What was found has no time to lose.
                Ok(()) if self.lost.found() > known && !self.queue.is_closed() => {}
                Ok(()) => return found,
                Err(error) => return Found::NoAnswer { index: turn.first, pause: self.not_settled(error) },
            }
        }
    }

    /// Looks for lost claims until none is in doubt, more than `known` were found, or nothing more is to be claimed.
    fn wait_until_settled(&self, known: u64) -> Result<(), Error> {
        while self.lost.found() == known
            && let Some(wait) = self.settle_lost_claims()?
        {
            if self.queue.is_closed() || self.executor.clock.sleep(wait) == Slept::Interrupted {
                break;
            }
        }
        Ok(())
    }

    /// Asks for a task of each type in turn, until there is one. The type's place is taken when there is. Tasks that
    /// an earlier process left come first.
    fn ask_for_each(&self, turn: &Turn) -> Found {
        let snoozed = self.snoozed_types();
        let (mut paused, mut partial) = (snoozed.is_soon(), false);
        let mut open = Open { queue: &self.queue, types: Vec::new() };
        let count = self.types.len();
        for index in (turn.first..turn.first + count).map(|index| index % count) {
            if snoozed.contains(index) && !self.is_any_left(index) {
                continue;
            }
            match self.queue.reserve(index) {
                Place::Taken => open.types.push(index),
                Place::Full => continue,
                Place::Reserved => {
                    partial = true;
                    continue;
                }
                Place::Paused => {
                    paused = true;
                    continue;
                }
            }
            if let Some(claim) = self.take_left(index) {
                open.fill(index);
                return Found::Task { index, claim, left: true };
            }
            if snoozed.contains(index) {
                open.give_back();
            } else if turn.wait.is_zero() {
                if let Some(found) = self.ask(&mut open, index, Wait::default()) {
                    return found;
                }
                open.give_back();
            }
        }
        let due = [snoozed.first_due(), self.lost.settled_in()].into_iter().flatten().min();
        let time = due.map_or(turn.wait, |due| due.min(turn.wait));
        let nothing = if partial { Found::Partial } else { Found::Nothing { paused } };
        self.wait_for_any(&mut open, time).unwrap_or(nothing)
    }

    /// Asks for a task of each type that is open, and of the last in such a way that the server may wait for one of any
    /// of them. One that does need not be asked of each first.
    fn wait_for_any(&self, open: &mut Open<'_>, time: Duration) -> Option<Found> {
        let (mut gone, known): (Vec<_>, Vec<_>) = open.types.iter().partition(|index| self.types[**index].is_gone());
        let last = known.last().or(gone.last()).copied()?;
        if !self.queue.server_waits_for_any() {
            gone.extend(&known);
        }
        for index in gone.into_iter().filter(|index| *index != last) {
            let found = self.ask(open, index, Wait::default());
            if found.is_some() {
                return found;
            }
        }
        let others: Vec<u64> =
            known.iter().filter(|index| **index != last).map(|index| self.types[*index].id()).collect();
        self.ask(open, last, Wait { time, others: &others })
    }

    /// Asks for a task of a type, or not any more; `None` where there is none. A task that cannot be read stays claimed,
    /// and holds up no other.
    fn ask(&self, open: &mut Open<'_>, index: usize, wait: Wait<'_>) -> Option<Found> {
        for unread in 1.. {
            if self.queue.is_closed() {
                return None;
            }
            match self.claim(open, index, wait) {
                Ok(None) => return None,
                Ok(Some((index, claim))) => {
                    open.fill(index);
                    return Some(Found::Task { index, claim, left: false });
                }
                Err(error @ Error::BadAnswer { .. }) if unread < MAX_UNREADABLE => self.skip_unreadable(error),
                Err(error) => return Some(Found::NoAnswer { index, pause: self.no_answer(index, error) }),
            }
        }
        None
    }

    /// Goes on after a claim whose answer cannot be read. A worker that is to end when all is done has not done all.
    fn skip_unreadable(&self, error: Error) {
        self.contact.failed(&error);
        self.not_done(error);
    }

    /// Something may be left that the worker cannot see to: who waits until all is done is told so at the end.
    pub(super) fn not_done(&self, error: Error) {
        if self.patience.is_some() {
            self.note_failure(WorkerError::TaskManager(error));
        }
    }

    fn claim(&self, open: &Open<'_>, index: usize, wait: Wait<'_>) -> Result<Option<(usize, Claim)>, Error> {
        loop {
            let asked_at = Instant::now();
            let claimed = self.claim_by_number(&self.types[index], wait)?;
            if self.contact.claim_answered(index) {
                self.waiting.wake();
            }
            // Instead of an answer, there may be lost claims now.
            let Some(claimed) = claimed else { return Ok(None) };
            if wait.is_asked_for() {
                self.queue.note_server_waits(claimed.waits);
            }
            let Some(task) = claimed.task else { return Ok(None) };
            let Some(index) = self.open_type(open, &task) else {
                let (wanted, again) = (&self.types[index].name, self.told.again(task.id, News::WrongType));
                self.executor.observer.event(&Event::WrongType { task: &task, wanted, again });
                return self.look_up(&self.types[index]).map(|_| None);
            };
            failpoint::reach("answered");
            if self.lost.admit(&task, asked_at) {
                return Ok(Some((index, self.executor.claim(task, &self.types[index], claimed.claimed_at))));
            }
        }
    }

    /// The type of a task, if one was wanted. Names tell, not numbers: these may be another type's by now. A task that
    /// nobody wanted goes back to the queue when its claim runs out; no handler is given another type's task.
    fn open_type(&self, open: &Open<'_>, task: &Task) -> Option<usize> {
        let names = open.types.iter().map(|index| self.types[*index].name.as_str());
        position_of_type(names, &task.task_type).map(|at| open.types[at])
    }

    /// While a type is gone, its old number is not used. `None` where an answer was lost, and claims were found.
    fn claim_by_number(&self, worker_type: &WorkerType, wait: Wait<'_>) -> Result<Option<Claimed>, Error> {
        if worker_type.is_gone() && !self.look_up(worker_type)? {
            return Ok(Some(self.nothing()));
        }
        let worker_id = &self.executor.config.worker_id.value;
        let claim = |client: &Client| {
            let answer = client.claim_or_wait(worker_id, worker_type.id(), self.order, wait);
            if answer.as_ref().is_err_and(Error::may_have_taken_effect) {
                self.lost.doubt();
            }
            answer.map(Some)
        };
        match self.claimer.claim_once(claim, || {
            Ok((self.look_for_lost_claims(&self.claimer.with_retries(Retries::NONE))? > 0).then_some(None))
        }) {
            Err(error) if error.says_unknown_type() => self.look_up(worker_type).map(|_| Some(self.nothing())),
            other => other,
        }
    }

    fn nothing(&self) -> Claimed {
        Claimed::nothing(self.executor.clock.moment())
    }

    /// Whether the TaskManager knows a type, by whatever number. Tells where that is new.
    fn look_up(&self, worker_type: &WorkerType) -> Result<bool, Error> {
        let was_gone = worker_type.is_gone();
        let is_found = worker_type.look_up(&self.claimer)?;
        let task_type = worker_type.name.as_str();
        match (was_gone, is_found) {
            (false, false) => self.executor.observer.event(&Event::TypeGone(task_type)),
            (true, true) => {
                self.executor.observer.event(&Event::TypeFound { task_type, id: worker_type.id() });
            }
            _ => {}
        }
        Ok(is_found)
    }

    /// Sees to claims that are still in doubt; returns how long the server asked to be left alone. Who waits for the
    /// worker's end is not told that nothing is left.
    pub(super) fn not_settled(&self, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        self.contact.failed(&error);
        let is_too_long = is_too_long(self.lost.not_answered_for(), &error, self.patience);
        if is_too_long || self.contact.is_given_up(&error, self.patience) || self.is_decided(&error) {
            self.fail(WorkerError::TaskManager(error));
        }
        pause
    }

    /// Sees to a claim that was not answered as it should be; returns how long the server asked to be left alone.
    fn no_answer(&self, index: usize, error: Error) -> Option<Duration> {
        let pause = error.retry_after();
        if error == Error::Interrupted {
            return None;
        }
        self.contact.claim_failed(index, &error);
        if self.contact.is_claim_given_up(index, &error, self.patience) || self.is_decided(&error) {
            self.fail(WorkerError::TaskManager(error));
        }
        pause
    }

    /// Whether waiting cannot mend what has failed: the key is refused, or, for who waits for the worker's end, the call.
    fn is_decided(&self, error: &Error) -> bool {
        match error {
            Error::KeyRefused { .. } => true,
            Error::NotATaskManager { .. } | Error::Interrupted => false,
            other => self.patience.is_some() && !other.is_retryable(),
        }
    }
}
