//! Progress on its way to the TaskManager: at most one report a second, the last one always, none of them in the
//! handler's way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shutdown::{Stop, StopReason};
use crate::task::Claim;
use crate::taskmanager::Client;

/// The TaskManager is told of progress no more often than this.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    latest: Option<(u8, Option<String>)>,
    ended: bool,
}

/// The progress of one running task.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

/// The end of a task's progress, when it is dropped.
pub(super) struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how far the handler is. An earlier note that was not sent yet is forgotten.
    pub(super) fn note(&self, percent: u8, message: Option<&str>) {
        self.lock().latest = Some((percent, message.map(str::to_owned)));
        self.changed.notify_one();
    }

    /// When what is returned is dropped, no more will come.
    pub(super) fn end_on_drop(&self) -> End<'_> {
        End(self)
    }

    /// Sends what is noted until the end. Reports that fail are not repeated: the next one says more. A task that is
    /// another worker's by now is stopped.
    pub(super) fn send(&self, client: &Client, claim: &Claim, stop: &Stop) {
        let mut next = Instant::now();
        while let Some((percent, message)) = self.wait(next) {
            let sent = client.progress(claim.task.id, &claim.worker_id, percent, message.as_deref());
            if sent.is_err_and(|error| error.says_not_claimed()) {
                stop.raise(Some(StopReason::ClaimLost));
            }
            next = Instant::now() + INTERVAL;
        }
    }

    /// Waits for a note, not before `next` unless the end has come; `None` where nothing is left to send.
    fn wait(&self, next: Instant) -> Option<(u8, Option<String>)> {
        let mut state = self.lock();
        loop {
            let early = next.saturating_duration_since(Instant::now());
            if state.ended || (state.latest.is_some() && early.is_zero()) {
                return state.latest.take();
            }
            state = if state.latest.is_some() {
                self.changed.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}
