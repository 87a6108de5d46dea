//! Progress on its way to the TaskManager: at most one report a second, the last one always, none of them in the
//! handler's way.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::shutdown::{Stop, StopReason};
use crate::task::{Claim, TaskId};
use crate::taskmanager::Client;

/// The TaskManager is told of progress no more often than this.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a result waits for the last report of progress to be answered, before it is stored.
const LAST_REPORT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    latest: Option<(u8, Option<String>)>,
    ended: bool,
    /// Threads that send.
    senders: usize,
    /// What is not answered yet is not waited for.
    is_given_up: bool,
}

/// The progress of one running task.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes how far the handler is. An earlier note that was not sent yet is forgotten.
    pub(super) fn note(&self, percent: u8, message: Option<&str>) {
        self.lock().latest = Some((percent, message.map(str::to_owned)));
        self.changed.notify_all();
    }

    /// No more will come: waits for what is being sent, unless the task is killed.
    pub(super) fn end(self: &Arc<Self>, stop: &Stop) {
        self.lock().ended = true;
        self.changed.notify_all();
        if self.lock().senders == 0 {
            return;
        }
        let progress = Arc::clone(self);
        stop.on_raise(Some(StopReason::Shutdown), move |_| {
            progress.lock().is_given_up = true;
            progress.changed.notify_all();
        });
        let waits = |state: &mut State| state.senders > 0 && !state.is_given_up;
        self.changed.wait_while_for(&mut self.lock(), waits, LAST_REPORT);
    }

    /// Sends what is noted, in a thread of its own, until the end: nobody can wait for longer for a call than he wants to.
    /// False where the system has no thread left.
    pub(super) fn start_sending(self: &Arc<Self>, client: Client, claim: &Claim, stop: &Arc<Stop>) -> bool {
        let (progress, stop) = (Arc::clone(self), Arc::clone(stop));
        let (id, worker_id) = (claim.task.id, claim.worker_id.clone());
        self.lock().senders += 1;
        let send = move || progress.send(&client, id, &worker_id, &stop);
        let is_sent = thread::Builder::new().name("progress".into()).spawn(send).is_ok();
        if !is_sent {
            self.lock().senders -= 1;
        }
        is_sent
    }

    /// Reports that fail are not repeated: the next one says more. A task that is another worker's by now is stopped.
    fn send(&self, client: &Client, id: TaskId, worker_id: &str, stop: &Stop) {
        let mut next = Instant::now();
        while let Some((percent, message)) = self.wait(next) {
            let sent = client.progress(id, worker_id, percent, message.as_deref());
            if sent.is_err_and(|error| error.says_not_claimed()) {
                stop.raise(Some(StopReason::ClaimLost));
            }
            next = Instant::now() + INTERVAL;
        }
        self.lock().senders -= 1;
        self.changed.notify_all();
    }

    /// Waits for a note, not before `next` unless the end has come; `None` where nothing is left to send.
    fn wait(&self, next: Instant) -> Option<(u8, Option<String>)> {
        let mut state = self.lock();
        loop {
            let early = next.saturating_duration_since(Instant::now());
            if state.ended || (state.latest.is_some() && early.is_zero()) {
                return state.latest.take();
            }
            if state.latest.is_some() {
                self.changed.wait_for(&mut state, early);
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}
