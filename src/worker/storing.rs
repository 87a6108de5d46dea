//! Storing results. If the server takes batches, a slot that stores its result also stores those of the slots that come
//! meanwhile: one transaction and one sync for all. The others do not wait: they run the next claimed tasks.

use std::thread::Scope;

use parking_lot::Mutex;

use super::report_queue::{FirstReport, PendingReport};
use super::reporter::MARK_TIMEOUT;
use super::slots::{Slots, verdict};
use super::snooze::snooze;
use crate::clock::Moment;
use crate::failpoint;
use crate::store::{ResultId, StoreError, has_ideas};
use crate::task::TaskResult;

/// An attempt that has run, and whose result is to be stored.
pub(super) struct RanTask {
    /// Index of its type.
    pub(super) index: usize,
    pub(super) result: TaskResult,
    /// When its claim expires.
    pub(super) deadline: Moment,
    /// Whether an earlier process left it, or its claim was lost and found.
    pub(super) is_recovered: bool,
    /// What to note after its first report.
    pub(super) first: FirstReport,
}

impl RanTask {
    /// Returns the pending report of the stored result.
    pub(super) fn into_report(self, id: ResultId) -> PendingReport {
        PendingReport::new(id, self.result, self.is_recovered, self.first)
    }
}

#[derive(Default)]
struct StoreQueueState {
    /// Results for the slot that stores.
    waiting: Vec<RanTask>,
    /// Whether a slot is storing.
    is_storing: bool,
    /// Results that could not be stored together: each slot stores one of them by itself.
    returned: Vec<RanTask>,
}

/// Results to store.
#[derive(Default)]
pub(super) struct StoreQueue(Mutex<StoreQueueState>);

/// The right to store results. Dropping it lets another slot store.
pub(super) struct StorePermit<'q> {
    queue: &'q StoreQueue,
    is_over: bool,
}

impl StoreQueue {
    /// Adds a result. Returns a permit if no other slot is storing; otherwise that one stores it, and this one is free:
    /// `leave` notes that before the result can be stored.
    pub(super) fn add(&self, ran: RanTask, leave: impl FnOnce()) -> Option<StorePermit<'_>> {
        let mut state = self.0.lock();
        state.waiting.push(ran);
        if state.is_storing {
            leave();
            return None;
        }
        state.is_storing = true;
        Some(StorePermit { queue: self, is_over: false })
    }

    /// Takes a returned result.
    pub(super) fn take_returned(&self) -> Option<RanTask> {
        self.0.lock().returned.pop()
    }
}

impl StorePermit<'_> {
    /// Takes the results that wait. If there are none, the permit is over.
    pub(super) fn next(&mut self) -> Vec<RanTask> {
        let mut state = self.queue.0.lock();
        self.is_over = state.waiting.is_empty();
        state.is_storing = !self.is_over;
        std::mem::take(&mut state.waiting)
    }

    /// Returns results that could not be stored together.
    pub(super) fn give_back(&self, ran: Vec<RanTask>) {
        self.queue.0.lock().returned.extend(ran);
    }
}

/// Also after a panic, so that results do not wait forever.
impl Drop for StorePermit<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.queue.0.lock().is_storing = false;
        }
    }
}

/// Storing results.
impl Slots<'_> {
    /// Stores a result, and those that other slots leave to this one meanwhile; or leaves it to the slot that stores.
    pub(super) fn store_with_others<'scope>(
        &'scope self,
        ran: RanTask,
        number: usize,
        scope: &'scope Scope<'scope, '_>,
    ) {
        let schedule = &self.context.schedule;
        if !self.context.client().known_features().batch || has_ideas(&ran.result.outcome) {
            return self.store_alone(ran, scope);
        }
        let Some(mut permit) = self.store_queue.add(ran, || schedule.set_aside()) else { return };
        // The first is this slot's own.
        let (mut batch, mut own) = (permit.next(), 1);
        while !batch.is_empty() {
            self.watchdog.expect_within(number, MARK_TIMEOUT);
            let (count, set_aside) = (batch.len(), batch.len() - own);
            if let Ok(ids) = self.context.store().insert_all(batch.iter().map(|ran| &ran.result)) {
                self.sync(batch, ids, set_aside, scope);
            } else {
                // One of them may be the cause.
                permit.give_back(batch);
                schedule.hand_back(count, set_aside);
            }
            (batch, own) = (permit.next(), 0);
        }
    }

    /// Waits until inserted results are on disk, and hands them to the reporter.
    fn sync<'scope>(
        &'scope self,
        mut batch: Vec<RanTask>,
        ids: Vec<ResultId>,
        set_aside: usize,
        scope: &'scope Scope<'scope, '_>,
    ) {
        if let Err(error) = self.context.store().sync_results() {
            self.context.schedule.finish_runs(&[], set_aside);
            for ran in batch {
                self.fail_to_store(ran, error.clone());
            }
            return;
        }
        let completer = &self.context.executor.completer;
        for ran in &mut batch {
            completer.stored(&mut ran.result);
        }
        self.finish_stored(ids.into_iter().zip(batch).collect(), set_aside, scope);
    }

    /// Stores a result by itself, retrying while that can help.
    pub(super) fn store_alone<'scope>(&'scope self, mut ran: RanTask, scope: &'scope Scope<'scope, '_>) {
        match self.store(&mut ran.result, ran.deadline) {
            Ok(id) => self.finish_stored(vec![(id, ran)], 0, scope),
            Err(error) => self.fail_to_store(ran, error),
        }
    }

    /// Frees the room of tasks whose results are stored, and hands the results to the reporter.
    fn finish_stored<'scope>(
        &'scope self,
        stored: Vec<(ResultId, RanTask)>,
        set_aside: usize,
        scope: &'scope Scope<'scope, '_>,
    ) {
        let (mut runs, mut reports) = (Vec::new(), Vec::new());
        for (id, ran) in stored {
            self.context.in_flight.stored(ran.result.task_id);
            // Must come before the task can return to the queue.
            let is_snoozed = snooze(self.context, &self.context.types[ran.index], &ran.result.outcome);
            runs.push((ran.index, verdict(&ran.result, is_snoozed)));
            reports.push(ran.into_report(id));
        }
        failpoint::reach("stored");
        for (index, change) in self.context.schedule.finish_runs(&runs, set_aside) {
            self.emit_change(index, Some(change));
        }
        self.reporter.submit(reports, scope);
    }

    fn fail_to_store(&self, mut ran: RanTask, error: StoreError) {
        self.not_stored(&mut ran.result, &error);
        let FirstReport { attempt, polled_at, .. } = ran.first;
        self.not_finished(ran.index, (ran.result.task_id, attempt), polled_at, Some(error));
    }
}
