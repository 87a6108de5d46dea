//! Storing results. If the server takes batches, a slot leaves its result and runs the next claimed task; when there is
//! none, one slot stores all results that have gathered: one transaction and one sync for all.

use std::thread::Scope;

use super::breaker::{CircuitChange, Verdict};
use super::report_queue::FirstReport;
use super::schedule::RanTask;
use super::slots::{Slots, verdict};
use super::snooze::snooze;
use crate::failpoint;
use crate::store::{ResultId, StoreError, has_ideas};

impl Slots<'_> {
    /// Stores a result, or leaves it to be stored with others.
    pub(super) fn finish<'scope>(&'scope self, ran: RanTask, scope: &'scope Scope<'scope, '_>) {
        if self.context.client().known_features().batch && !has_ideas(&ran.result.outcome) {
            self.context.schedule.set_aside(ran);
        } else {
            self.store_alone(ran, scope);
        }
    }

    /// Stores results together. If that fails, one of them may be the cause: each is stored by a slot of its own.
    pub(super) fn store_all<'scope>(&'scope self, mut batch: Vec<RanTask>, scope: &'scope Scope<'scope, '_>) {
        let (store, schedule) = (self.context.store(), &self.context.schedule);
        let Ok(ids) = store.insert_all(batch.iter().map(|ran| &ran.result)) else {
            return schedule.hand_back(batch);
        };
        if let Err(error) = store.sync_results() {
            schedule.finish_stored(&[]);
            for ran in batch {
                self.fail_to_store(ran, error.clone());
            }
            return;
        }
        let completer = &self.context.executor.completer;
        for ran in &mut batch {
            completer.stored(&mut ran.result);
        }
        let stored = ids.into_iter().zip(batch).collect();
        self.report(stored, scope, |runs| schedule.finish_stored(runs));
    }

    /// Stores a result by itself, retrying while that can help.
    pub(super) fn store_alone<'scope>(&'scope self, mut ran: RanTask, scope: &'scope Scope<'scope, '_>) {
        match self.store(&mut ran.result, ran.deadline) {
            Ok(id) => self.report(vec![(id, ran)], scope, |runs| self.context.schedule.finish_runs(runs)),
            Err(error) => self.fail_to_store(ran, error),
        }
    }

    /// Frees the room of tasks whose results are stored, with `finish_runs`, and hands the results to the reporter.
    fn report<'scope>(
        &'scope self,
        stored: Vec<(ResultId, RanTask)>,
        scope: &'scope Scope<'scope, '_>,
        finish_runs: impl FnOnce(&[(usize, Verdict)]) -> Vec<(usize, CircuitChange)>,
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
        for (index, change) in finish_runs(&runs) {
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
