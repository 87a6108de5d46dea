//! A stored result on its way to the TaskManager.

use std::time::Duration;

use crate::store::{ResultId, StoredResult};
use crate::task::TaskResult;
use crate::taskmanager::Error;

/// A report that could not be sent so often, while other calls were answered, is what is wrong itself.
const MOST_FAILED_ALONE: u32 = 12;

/// A stored result whose fate is not known yet.
pub(super) struct Unsettled {
    pub(super) id: ResultId,
    pub(super) result: TaskResult,
    /// It may have arrived, or its claim may be another's by now: the task is looked up before anything is sent.
    pub(super) in_doubt: bool,
    /// How many calls had been answered when it last could not be sent.
    failed_after: Option<u64>,
    /// How often it could not be sent although other calls were answered since the time before.
    pub(super) failed_alone: u32,
    /// How long it waited the last time that the TaskManager refused it.
    pub(super) refused_for: Option<Duration>,
}

impl Unsettled {
    pub(super) fn new(id: ResultId, result: TaskResult, in_doubt: bool) -> Self {
        Self { id, result, in_doubt, failed_after: None, failed_alone: 0, refused_for: None }
    }

    /// Notes that it could not be sent when so many calls had been answered. True where that has happened so often, while
    /// others were answered, that it counts as refused.
    pub(super) fn fails_alone(&mut self, error: &Error, answers: u64) -> bool {
        let others_get_through = self.failed_after.replace(answers).is_some_and(|before| before < answers);
        if others_get_through && error.retry_after().is_none() {
            self.failed_alone += 1;
        }
        self.failed_alone >= MOST_FAILED_ALONE
    }

    /// Whether it is not in flight any more, since the TaskManager has refused it: a later claim of its task is run anew.
    pub(super) fn is_let_go(&self) -> bool {
        self.refused_for.is_some()
    }
}

impl From<StoredResult> for Unsettled {
    fn from(stored: StoredResult) -> Self {
        Self::new(stored.id, stored.result, true)
    }
}
