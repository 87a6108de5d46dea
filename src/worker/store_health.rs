//! Whether what a worker keeps can be written: the results file, and the database of ideas. The disk may be full, say, or
//! another process hold the file for long. If somebody waits for the worker's end, that is its end. Any other worker claims
//! nothing more, says so, and goes on when the file can be written again: nobody needs to start it anew.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::report_queue::ReportQueue;
use super::{Context, Event, WorkerError};
use crate::clock::Moment;
use crate::shutdown::{StopReason, Watch};
use crate::store::StoreError;
use crate::task::TaskId;

/// How often it is looked whether the file can be written again, and whether it is still in its place: a lock that is gone
/// is back before another worker takes this one for dead.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause before a write is tried again that another process holds up, or want of memory, say.
const PAUSE: Duration = Duration::from_millis(250);
/// The results file is told of polls no more often than this.
const NOTE_POLLS_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    /// Since when the file cannot be written, if it cannot.
    since: Option<Instant>,
    last_look: Option<Instant>,
    /// Attempts that have ended, and whose claims are still in the file.
    ended: Vec<(TaskId, u32)>,
    last_noted_poll: Option<Instant>,
}

/// What is known of the files.
pub(super) struct StoreHealth<'w> {
    context: &'w Context<'w>,
    reports: &'w ReportQueue,
    state: Mutex<State>,
}

impl<'w> StoreHealth<'w> {
    pub(super) fn new(context: &'w Context<'w>, reports: &'w ReportQueue) -> Self {
        Self { context, reports, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether a write has failed since the last that did not.
    pub(super) fn is_failing(&self) -> bool {
        self.lock().since.is_some()
    }

    /// Whether the worker goes on though a write has failed so.
    pub(super) fn survives(&self, error: &StoreError) -> bool {
        self.context.exit_on_outage.is_none() && error.can_be_mended()
    }

    /// Sees to a write that has failed: nothing more is claimed until the file can be written, or at all.
    pub(super) fn failed(&self, error: StoreError) {
        if !self.survives(&error) {
            self.context.fail(WorkerError::Store(error));
        } else if self.begin() {
            let room = self.context.store().room_needed(&error);
            self.context.tell(&Event::StoreFailed { error: error.to_string(), room });
            // What is held open at the TaskManager could not be noted.
            self.context.withdraw_claims();
        }
    }

    /// Notes that a write has failed. True if that is news.
    fn begin(&self) -> bool {
        let mut state = self.lock();
        let is_new = state.since.is_none();
        state.last_look = Some(Instant::now());
        state.since.get_or_insert_with(Instant::now);
        is_new
    }

    /// What the file answers.
    pub(super) fn unless_it_fails(&self, answer: Result<bool, StoreError>) -> bool {
        answer.unwrap_or_else(|error| {
            self.failed(error);
            false
        })
    }

    /// Whether what is claimed now can be noted, as far as is known.
    pub(super) fn can_store(&self) -> bool {
        if !self.is_failing() {
            self.note_poll();
            return !self.is_failing();
        }
        self.may_look() && self.has_been_mended()
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

    /// Looks whether the file can be written again.
    fn has_been_mended(&self) -> bool {
        let is_mended = self.context.store().check_room().and_then(|()| self.tell_of_poll()).is_ok();
        if is_mended {
            self.recovered();
        }
        is_mended
    }

    /// Tells the results file now and then that the worker polls, for whoever looks at its health. If that fails, and does
    /// not pass by itself, nothing is to be claimed.
    fn note_poll(&self) {
        if self.lock().last_noted_poll.is_some_and(|last| last.elapsed() < NOTE_POLLS_EVERY) {
            return;
        }
        match self.tell_of_poll() {
            Err(error) if self.survives(&error) || !error.may_pass() => self.failed(error),
            noted => self.context.tell(&Event::PollNoted(noted.err().map(|error| error.to_string()))),
        }
    }

    fn tell_of_poll(&self) -> Result<(), StoreError> {
        self.lock().last_noted_poll = Some(Instant::now());
        let counters = *self.context.counters.lock();
        self.context.store().note_poll(&self.context.process, counters, self.context.clock().now())
    }

    /// Forgets the claim of an attempt whose result could not be stored, as soon as that can be written.
    pub(super) fn forget_unstored(&self, attempt: (TaskId, u32)) {
        let is_failing = {
            let mut state = self.lock();
            if state.since.is_some() {
                state.ended.push(attempt);
            }
            state.since.is_some()
        };
        if !is_failing {
            self.forget(attempt);
        }
    }

    /// The report of such a result may not have arrived: then its task is still this worker's, and a look finds it.
    fn forget(&self, (id, attempt): (TaskId, u32)) {
        // If this fails, the next write that matters says so.
        let _ = self.context.store().forget_attempt(id, attempt, self.context.client().url());
        self.context.in_flight.doubts.add();
    }

    /// The file has been written: if it could not be before, makes up for what was left out.
    pub(super) fn recovered(&self) {
        let (length, ended) = {
            let mut state = self.lock();
            let Some(since) = state.since.take() else { return };
            (since.elapsed(), std::mem::take(&mut state.ended))
        };
        for attempt in ended {
            self.forget(attempt);
        }
        self.context.tell(&Event::StoreMended { length });
        self.reports.wake();
    }

    /// Writes what is to be kept of a task. If that fails for a reason that passes by itself, as when another process holds
    /// the file, it is tried again until `deadline`, unless the task is stopped.
    pub(super) fn patiently<T>(
        &self,
        task_id: TaskId,
        deadline: Moment,
        mut write: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let error = match write() {
            Err(error) if error.may_pass() => error,
            other => return other,
        };
        self.context.tell(&Event::StoreWaits { task_id, error: error.to_string() });
        let written = self.until_written(deadline, || false, write, StoreError::may_pass);
        if written.is_ok() {
            self.context.tell(&Event::StoreWaited { task_id });
            self.recovered();
        }
        written
    }

    /// Tries a write that has failed again until `deadline`, unless `gives_up` says not to, the task is stopped, or it fails
    /// for a reason of another kind.
    pub(super) fn until_written<T>(
        &self,
        deadline: Moment,
        gives_up: impl Fn() -> bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
        may_pass: impl Fn(&StoreError) -> bool,
    ) -> Result<T, StoreError> {
        let stop = self.context.in_flight.cancel_token();
        let written = loop {
            let stopped = stop.wait_for(Some(StopReason::Shutdown), PAUSE);
            match write() {
                Err(error) if may_pass(&error) && !stopped && !gives_up() && !deadline.left().is_zero() => {}
                other => break other,
            }
        };
        self.context.in_flight.drop_token(&stop);
        written
    }

    /// Looks again and again whether the files stay where they are, until `ended` is raised. If the results file or the
    /// database of ideas is gone, nothing more is claimed, and the worker ends.
    pub(super) fn watch_files(&self, ended: &Watch<bool>) {
        while !ended.wait_for(true, LOOK_EVERY) {
            self.context.process.keep_lock();
            if let Err(error) = self.context.store().check_in_place() {
                let text = error.to_string();
                self.context.fail(WorkerError::Store(error));
                self.context.tell(&Event::FilesGone(text));
                return;
            }
        }
    }
}
