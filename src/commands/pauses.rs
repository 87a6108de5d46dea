//! Records in the results file which types a worker does not claim, for `explain`.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp, after};
use crate::shutdown::SystemClock;
use crate::store::{Cause, Store, StoreError};
use crate::worker::{Event, Observer};

/// Records the pauses of a worker.
pub(super) struct Pauses {
    pub(super) store: Arc<Store>,
    pub(super) worker_id: String,
    pub(super) clock: SystemClock,
}

impl Pauses {
    fn begin(&self, task_type: &str, cause: Cause, until: Timestamp, reason: &str) -> Result<(), StoreError> {
        self.store.note_unclaimed(&self.worker_id, task_type, cause, (until, reason))
    }

    fn end(&self, task_type: &str, cause: Cause) -> Result<(), StoreError> {
        self.store.note_claimable(&self.worker_id, task_type, cause)
    }
}

impl Observer for Pauses {
    fn event(&self, event: &Event<'_>) {
        let noted = match event {
            Event::Paused { task_type, pause } => {
                let until = after(self.clock.now(), *pause);
                self.begin(task_type, Cause::Paused, until, "circuit open: too many retryable failures")
            }
            Event::Resumed(task_type) => self.end(task_type, Cause::Paused),
            Event::Snoozed { task_type, until, reason } => {
                self.begin(task_type, Cause::Snoozed, *until, reason.unwrap_or("requested by the handler"))
            }
            Event::SnoozeEnded(task_type) => self.end(task_type, Cause::Snoozed),
            _ => return,
        };
        if let Err(error) = noted {
            // The worker itself does not depend on this record.
            log::debug!("cannot record that claiming is paused: {error}");
        }
    }
}
