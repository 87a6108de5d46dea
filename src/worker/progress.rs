//! Sends progress to the TaskManager: at most one report a second, always the last one, and without delaying the
//! handler.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::shutdown::{CancelReason, CancelToken};
use crate::task::{Claim, TaskId};
use crate::taskmanager::Client;

/// Minimum time between two progress reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a result waits, before it is stored, for the last progress report to be answered.
const LAST_REPORT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    latest: Option<(u8, Option<String>)>,
    ended: bool,
    /// Number of sending threads.
    senders: usize,
    /// Whether to stop waiting for the answer.
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

    /// Notes the handler's progress, replacing an earlier note that was not sent yet.
    pub(super) fn note(&self, percent: u8, message: Option<&str>) {
        self.lock().latest = Some((percent, message.map(str::to_owned)));
        self.changed.notify_all();
    }

    /// Waits for the last report to be sent, unless the task is killed.
    pub(super) fn end(self: &Arc<Self>, stop: &CancelToken) {
        self.lock().ended = true;
        self.changed.notify_all();
        if self.lock().senders == 0 {
            return;
        }
        let progress = Arc::clone(self);
        stop.on_raise(Some(CancelReason::Shutdown), move |_| {
            progress.lock().is_given_up = true;
            progress.changed.notify_all();
        });
        let waits = |state: &mut State| state.senders > 0 && !state.is_given_up;
        self.changed.wait_while_for(&mut self.lock(), waits, LAST_REPORT);
    }

    /// Sends progress from a thread of its own until [`Progress::end`], so that a slow call can be given up. False if
    /// the system refuses a thread.
    pub(super) fn start_sending(self: &Arc<Self>, client: Client, claim: &Claim, stop: &Arc<CancelToken>) -> bool {
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

    /// Sends progress until the end. A failed report is not repeated: the next one is newer. If the task is claimed by
    /// another worker by now, it is cancelled.
    fn send(&self, client: &Client, id: TaskId, worker_id: &str, stop: &CancelToken) {
        let mut next = Instant::now();
        while let Some((percent, message)) = self.wait(next) {
            let sent = client.progress(id, worker_id, percent, message.as_deref());
            if sent.is_err_and(|error| error.says_not_claimed()) {
                stop.raise(Some(CancelReason::ClaimLost));
            }
            next = Instant::now() + INTERVAL;
        }
        self.lock().senders -= 1;
        self.changed.notify_all();
    }

    /// Waits for a note, not before `next` unless the end has come; `None` if nothing is left to send.
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
