//! Whether the files that the worker relies on stay where they are.

use std::time::Duration;

use super::{Event, Worker, WorkerError};
use crate::shutdown::Watch;

/// How often it is looked. A lock that is gone is back before another worker takes this one for dead.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Worker<'_> {
    /// Looks again and again, until `ended` is raised. Where the results file or the database of ideas is gone, nothing
    /// more is claimed, and the worker ends.
    pub(super) fn watch_files(&self, ended: &Watch<bool>) {
        while !ended.wait_for(true, LOOK_EVERY) {
            self.process.keep_lock();
            if let Err(error) = self.executor.store.check_in_place() {
                let text = error.to_string();
                self.fail(WorkerError::Store(error));
                self.executor.observer.event(&Event::FilesGone(text));
                return;
            }
        }
    }
}
