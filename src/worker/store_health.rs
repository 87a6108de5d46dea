//! Tracks whether the results file and the database of ideas can be written. The disk may be full, for example, or
//! another process may hold the file for long. If somebody waits for the worker's exit, a failed write stops it. Any
//! other worker stops claiming, says so, and continues when the file can be written again, without a restart.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::report_queue::ReportQueue;
use super::{Context, Event, WorkerError};
use crate::clock::Moment;
use crate::file_changes::check_places;
use crate::shutdown::{CancelReason, Watch};
use crate::store::StoreError;
use crate::task::TaskId;

/// How often to check whether the file can be written again.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before a write is retried, for example after another process held the file.
const PAUSE: Duration = Duration::from_millis(250);
/// Minimum time between two writes of the last poll's time.
const NOTE_POLLS_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct HealthState {
    /// Since when the file cannot be written; `None` if it can.
    since: Option<Instant>,
    last_look: Option<Instant>,
    /// Ended attempts whose claims could not be removed from the file yet.
    ended: Vec<(TaskId, u32)>,
    last_noted_poll: Option<Instant>,
}

/// Tracks the state of the worker's files.
pub(super) struct StoreHealth<'w> {
    context: &'w Context<'w>,
    reports: &'w ReportQueue,
    state: Mutex<HealthState>,
}

impl<'w> StoreHealth<'w> {
    pub(super) fn new(context: &'w Context<'w>, reports: &'w ReportQueue) -> Self {
        Self { context, reports, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock()
    }

    /// Whether the last write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.lock().since.is_some()
    }

    /// Whether the worker continues after this error.
    pub(super) fn survives(&self, error: &StoreError) -> bool {
        !self.context.is_exit_awaited() && error.can_be_mended()
    }

    /// Handles a failed write: stops claiming until the file can be written, or stops the worker.
    pub(super) fn failed(&self, error: StoreError) {
        if !self.survives(&error) {
            self.context.fail(WorkerError::Store(error));
        } else if self.record_failure() {
            let room = self.context.store().room_needed(&error);
            self.context.emit(&Event::StoreFailed { error: error.to_string(), room });
            // A claim from an open long poll could not be noted.
            self.context.withdraw_claims();
        }
    }

    /// Records a failed write. True if the one before succeeded.
    fn record_failure(&self) -> bool {
        let mut state = self.lock();
        let is_new = state.since.is_none();
        state.last_look = Some(Instant::now());
        state.since.get_or_insert_with(Instant::now);
        is_new
    }

    /// Returns the answer of a read; false if it failed.
    pub(super) fn or_false(&self, answer: Result<bool, StoreError>) -> bool {
        answer.unwrap_or_else(|error| {
            self.failed(error);
            false
        })
    }

    /// Records that a poll begins, and checks whether the file can be written again if it could not. True if a new claim
    /// could be noted, as far as is known.
    pub(super) fn ensure_writable(&self) -> bool {
        if !self.is_failing() {
            self.note_poll();
            return !self.is_failing();
        }
        self.may_look() && self.try_recover()
    }

    /// Whether a check is due; true for one of the callers.
    fn may_look(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.last_look.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        if is_due {
            state.last_look = Some(Instant::now());
        }
        is_due
    }

    /// Checks whether the file can be written again, and resumes claiming if it can.
    fn try_recover(&self) -> bool {
        let is_mended = self.context.store().check_room().and_then(|()| self.write_poll_time()).is_ok();
        if is_mended {
            self.recovered();
        }
        is_mended
    }

    /// Writes the time of the last poll now and then, for health checks. If that fails for a reason that does not pass
    /// by itself, claiming stops.
    fn note_poll(&self) {
        if self.lock().last_noted_poll.is_some_and(|last| last.elapsed() < NOTE_POLLS_EVERY) {
            return;
        }
        match self.write_poll_time() {
            Err(error) if self.survives(&error) || !error.may_pass() => self.failed(error),
            noted => self.context.emit(&Event::PollRecorded(noted.err().map(|error| error.to_string()))),
        }
    }

    /// Writes the time of the last poll.
    fn write_poll_time(&self) -> Result<(), StoreError> {
        self.lock().last_noted_poll = Some(Instant::now());
        let counters = *self.context.counters.lock();
        self.context.store().note_poll(&self.context.process, counters, self.context.clock().now())
    }

    /// Removes the claim of an attempt whose result could not be stored, as soon as the file can be written.
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

    /// Removes such a claim. If the report did not arrive, the task is still this worker's, and a search finds it.
    fn forget(&self, (id, attempt): (TaskId, u32)) {
        // If this fails, the next required write reports a failure.
        let _ = self.context.store().forget_attempt(id, attempt, self.context.client().url());
        self.context.in_flight.lost_claims.add(1);
    }

    /// Records a successful write: if writes failed before, makes up for what was skipped.
    pub(super) fn recovered(&self) {
        let (length, ended) = {
            let mut state = self.lock();
            let Some(since) = state.since.take() else { return };
            (since.elapsed(), std::mem::take(&mut state.ended))
        };
        for attempt in ended {
            self.forget(attempt);
        }
        self.context.emit(&Event::StorageRecovered { length });
        self.reports.wake();
    }

    /// Writes something about a task. If that fails for a reason that passes by itself, for example because another
    /// process holds the file, retries until `deadline` unless the task is cancelled.
    pub(super) fn write_with_retries<T>(
        &self,
        task_id: TaskId,
        deadline: Moment,
        mut write: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let error = match write() {
            Err(error) if error.may_pass() => error,
            other => return other,
        };
        self.context.emit(&Event::WriteRetrying { task_id, error: error.to_string() });
        let written = self.until_written(deadline, || false, write, StoreError::may_pass);
        if written.is_ok() {
            self.context.emit(&Event::WriteSucceeded { task_id });
            self.recovered();
        }
        written
    }

    /// Retries a failed write until `deadline`, unless `gives_up` returns true, the task is cancelled, or it fails for
    /// a reason of another kind.
    pub(super) fn until_written<T>(
        &self,
        deadline: Moment,
        gives_up: impl Fn() -> bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
        may_pass: impl Fn(&StoreError) -> bool,
    ) -> Result<T, StoreError> {
        let stop = self.context.in_flight.cancel_token(None);
        let written = loop {
            let stopped = stop.wait_for(Some(CancelReason::Shutdown), PAUSE);
            match write() {
                Err(error) if may_pass(&error) && !stopped && !gives_up() && !deadline.left().is_zero() => {}
                other => break other,
            }
        };
        self.context.in_flight.drop_token(&stop);
        written
    }

    /// Checks the files' places until `ended` is raised. If the results file or the database of ideas is gone, stops
    /// claiming and ends the worker.
    pub(super) fn watch_files(&self, ended: &Watch<bool>) {
        let (store, process) = (self.context.store(), &self.context.process);
        let files: Vec<_> = store.files().into_iter().chain([process.lock_file()]).collect();
        let check = || {
            let is_lock_kept = process.keep_lock();
            store.check_in_place().map(|()| is_lock_kept)
        };
        if let Err(error) = check_places(&files, ended, true, check) {
            let text = error.to_string();
            self.context.fail(WorkerError::Store(error));
            self.context.emit(&Event::FilesGone(text));
        }
    }
}
