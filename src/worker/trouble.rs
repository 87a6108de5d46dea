//! A results file, or a database of ideas, that cannot be written for now: the disk is full, say, or another process holds
//! the file for long. Where
//! somebody waits for the worker's end, that is its end. Any other worker claims nothing more, says so, and goes on when the
//! file can be written again: nobody needs to start it anew.

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Event, Worker, WorkerError};
use crate::store::StoreError;
use crate::task::TaskId;

/// How often it is looked whether the file can be written again.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    /// Since when the file cannot be written, where that is so.
    since: Option<Instant>,
    last_look: Option<Instant>,
    /// Attempts that have ended, and whose claims are still in the file.
    ended: Vec<(TaskId, u32)>,
}

/// What is wrong with writing to the results file.
#[derive(Default)]
pub(super) struct StoreTrouble(Mutex<State>);

impl StoreTrouble {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Whether there is any.
    pub(super) fn is_there(&self) -> bool {
        self.lock().since.is_some()
    }

    /// Notes that a write has failed. True where that is news.
    fn begin(&self) -> bool {
        let mut state = self.lock();
        let is_new = state.since.is_none();
        state.last_look = Some(Instant::now());
        state.since.get_or_insert_with(Instant::now);
        is_new
    }

    /// Whether it is time to look, for one of those who ask.
    fn may_look(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.last_look.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        if is_due {
            state.last_look = Some(Instant::now());
        }
        is_due
    }

    /// Keeps an attempt whose claim is to be forgotten when that can be written; false where it can be.
    fn keep(&self, attempt: (TaskId, u32)) -> bool {
        let mut state = self.lock();
        let is_kept = state.since.is_some();
        if is_kept {
            state.ended.push(attempt);
        }
        is_kept
    }

    /// It is over, if there was any. Returns how long it took, and what is to be forgotten now.
    fn end(&self) -> Option<(Duration, Vec<(TaskId, u32)>)> {
        let mut state = self.lock();
        let length = state.since.take()?.elapsed();
        Some((length, std::mem::take(&mut state.ended)))
    }
}

impl Worker<'_> {
    /// Whether the worker goes on though writing to the results file has failed so.
    pub(super) fn survives(&self, error: &StoreError) -> bool {
        self.patience.is_none() && error.can_be_mended()
    }

    /// Sees to a write that has failed: nothing more is claimed until the file can be written, or at all.
    pub(super) fn store_failed(&self, error: StoreError) {
        if !self.survives(&error) {
            self.fail(WorkerError::Store(error));
        } else if self.trouble.begin() {
            let room = self.executor.store.room_needed(&error);
            self.executor.observer.event(&Event::StoreFailed { error: error.to_string(), room });
            // What waits at the TaskManager could not be noted.
            self.withdraw_claims();
        }
    }

    /// Whether what is claimed now can be noted, as far as is known.
    pub(super) fn can_store(&self) -> bool {
        if !self.trouble.is_there() {
            self.note_poll();
            return !self.trouble.is_there();
        }
        self.trouble.may_look() && self.has_been_mended()
    }

    /// Looks whether the file can be written again.
    fn has_been_mended(&self) -> bool {
        let is_mended = self.executor.store.check_room().and_then(|()| self.tell_of_poll()).is_ok();
        if is_mended {
            self.end_trouble();
        }
        is_mended
    }

    /// Forgets the claim of an attempt whose result could not be stored, as soon as that can be written.
    pub(super) fn forget_unstored(&self, attempt: (TaskId, u32)) {
        if !self.trouble.keep(attempt) {
            self.forget(attempt);
        }
    }

    /// The report of such a result may not have arrived: then its task is still this worker's, and a look finds it.
    fn forget(&self, (id, attempt): (TaskId, u32)) {
        // Where this fails, the next write that matters says so.
        let _ = self.executor.store.forget_attempt(id, attempt, self.executor.client.url());
        self.lost.doubt();
    }

    /// The file has been written: if it could not be before, makes up for what was left out.
    pub(super) fn end_trouble(&self) {
        let Some((length, ended)) = self.trouble.end() else { return };
        for attempt in ended {
            self.forget(attempt);
        }
        self.executor.observer.event(&Event::StoreMended { length });
        self.waiting.wake();
    }
}
