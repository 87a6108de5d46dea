//! A stored result on its way to the TaskManager.

use std::time::{Duration, Instant};

use crate::store::{ResultId, StoredResult};
use crate::task::TaskResult;
use crate::taskmanager::Error;

/// A report that fails this often while other calls are answered is itself the problem.
const MOST_FAILED_ALONE: u32 = 12;

/// A stored result that is not settled.
pub(in crate::worker) struct PendingReport {
    pub(in crate::worker) id: ResultId,
    pub(in crate::worker) result: TaskResult,
    /// Whether it may have arrived, or its claim may have been lost: the task is looked up before anything is sent.
    pub(in crate::worker) in_doubt: bool,
    /// What to note after its first report, until that was sent.
    pub(in crate::worker) first: Option<FirstReport>,
    /// Number of answered calls when it last failed.
    failed_after: Option<u64>,
    /// How often it failed although other calls had been answered since the failure before.
    pub(super) failed_alone: u32,
    /// Its last wait after a refusal by the TaskManager.
    pub(super) refused_for: Option<Duration>,
}

/// What to note after the first report of a result.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct FirstReport {
    /// Number of the attempt when it was claimed.
    pub(in crate::worker) attempt: u32,
    /// When the poll that claimed it began.
    pub(in crate::worker) polled_at: Instant,
    /// Whether another attempt would fail as quickly.
    pub(in crate::worker) is_quick_failure: bool,
}

impl PendingReport {
    /// Creates the pending report of a newly stored result.
    pub(in crate::worker) fn new(id: ResultId, result: TaskResult, in_doubt: bool, first: FirstReport) -> Self {
        let first = Some(first);
        Self { id, result, in_doubt, first, failed_after: None, failed_alone: 0, refused_for: None }
    }

    /// Notes a failure after `answers` answered calls. True if it has failed so often while others were answered that
    /// it counts as refused.
    pub(in crate::worker) fn record_failure(&mut self, error: &Error, answers: u64) -> bool {
        let others_get_through = self.failed_after.replace(answers).is_some_and(|before| before < answers);
        if others_get_through && error.retry_after().is_none() {
            self.failed_alone += 1;
        }
        self.failed_alone >= MOST_FAILED_ALONE
    }

    /// Whether the TaskManager has refused it. Then its task is no longer in flight, and a later claim of the task runs
    /// anew.
    pub(in crate::worker) fn was_refused(&self) -> bool {
        self.refused_for.is_some()
    }
}

impl From<StoredResult> for PendingReport {
    fn from(stored: StoredResult) -> Self {
        let StoredResult { id, result, .. } = stored;
        Self { id, result, in_doubt: true, first: None, failed_after: None, failed_alone: 0, refused_for: None }
    }
}
