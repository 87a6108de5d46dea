//! Reports that the TaskManager refuses, though the claim may still hold. They are kept and sent again now and then: what
//! refused them may be mended, and once the claim is lost, a look at the task says so. They hold up no others.

use std::time::{Duration, Instant};

use super::unsettled::Unsettled;
use crate::clock::Timestamp;
use crate::task::TaskId;
use crate::taskmanager::Error;

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

struct Refused {
    unsettled: Unsettled,
    error: Error,
    due: Instant,
}

/// The refused reports of a worker.
pub(super) struct RefusedReports {
    reports: Vec<Refused>,
    /// How long the first of its tries waits for the second; each further one waits twice as long.
    first_wait: Duration,
}

impl RefusedReports {
    pub(super) fn new(first_wait: Duration) -> Self {
        Self { reports: Vec::new(), first_wait: first_wait.min(LONGEST_WAIT) }
    }

    pub(super) fn len(&self) -> usize {
        self.reports.len()
    }

    /// Keeps one. It waits longer each time.
    pub(super) fn add(&mut self, mut unsettled: Unsettled, error: Error) {
        let wait = unsettled.refused_for.map_or(self.first_wait, |wait| wait.saturating_mul(2).min(LONGEST_WAIT));
        unsettled.refused_for = Some(wait);
        self.reports.push(Refused { unsettled, error, due: Instant::now() + wait });
    }

    /// When the first of them is to be sent again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.reports.iter().map(|it| it.due).min()
    }

    /// Takes one that is to be sent again now.
    pub(super) fn take_due(&mut self) -> Option<Unsettled> {
        let now = Instant::now();
        let index = self.reports.iter().position(|it| it.due <= now)?;
        Some(self.reports.remove(index).unsettled)
    }

    /// When the oldest of them was finished.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.reports.iter().map(|it| it.unsettled.result.finished_at).min()
    }

    /// The task of each, and why its report was refused.
    pub(super) fn reasons(&self) -> Vec<(TaskId, Error)> {
        self.reports.iter().map(|it| (it.unsettled.result.task_id, it.error.clone())).collect()
    }
}
