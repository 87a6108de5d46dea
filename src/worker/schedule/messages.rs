//! Types that slots, the poller and the schedule exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::report_queue::{FirstReport, PendingReport};
use crate::clock::Moment;
use crate::shutdown::CancelToken;
use crate::store::ResultId;
use crate::task::{Claim, TaskResult};

/// When the worker is done by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::worker) struct ExitLimits {
    /// Maximum number of tasks; 0 = no limit.
    pub(in crate::worker) max_tasks: u64,
    /// When the queue is empty and everything is reported.
    pub(in crate::worker) drain: bool,
    /// After being idle this long.
    pub(in crate::worker) exit_after_idle: Option<Duration>,
}

impl ExitLimits {
    /// Whether the worker runs until stopped.
    pub(super) fn runs_until_stopped(&self) -> bool {
        self.max_tasks == 0 && !self.drain && self.exit_after_idle.is_none()
    }
}

/// Why the schedule was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Closed {
    /// A limit was reached: see [`ExitLimits`].
    Done,
    /// Reports have failed for too long, and somebody waits for the worker's exit.
    GaveUp,
    /// The program was stopped.
    Asked,
    /// An error occurred that waiting cannot fix.
    Failed,
}

/// A claimed task, for a slot.
#[derive(Clone)]
pub(in crate::worker) struct ClaimedTask {
    /// Index of its type.
    pub(in crate::worker) index: usize,
    pub(in crate::worker) claim: Claim,
    /// What stops it. As long as [`InFlight`](super::super::in_flight::InFlight) knows it, the claim is renewed.
    pub(in crate::worker) stop: Arc<CancelToken>,
    /// Whether an earlier process left it, or its claim was lost and found.
    pub(in crate::worker) is_recovered: bool,
    /// When the poll began.
    pub(in crate::worker) polled_at: Instant,
    /// The task's crash count, if the claim was noted together with others.
    pub(in crate::worker) noted: Option<u32>,
}

/// An attempt that has run, and whose result is to be stored.
pub(in crate::worker) struct RanTask {
    /// Index of its type.
    pub(in crate::worker) index: usize,
    pub(in crate::worker) result: TaskResult,
    /// When its claim expires.
    pub(in crate::worker) deadline: Moment,
    /// Whether an earlier process left it, or its claim was lost and found.
    pub(in crate::worker) is_recovered: bool,
    /// What to note after its first report.
    pub(in crate::worker) first: FirstReport,
}

impl RanTask {
    /// Returns the pending report of the stored result.
    pub(in crate::worker) fn into_report(self, id: ResultId) -> PendingReport {
        PendingReport::new(id, self.result, self.is_recovered, self.first)
    }
}

/// What a slot does next.
pub(in crate::worker) enum NextStep {
    Poll(PollPermit),
    /// Runs a task that another slot has claimed.
    Run(ClaimedTask),
    /// Stores the results that have gathered.
    StoreAll(Vec<RanTask>),
    /// Stores a result that could not be stored together with others.
    Store(Box<RanTask>),
}

/// The outcome of a poll.
#[derive(Clone)]
pub(in crate::worker) enum Polled {
    /// Tasks, at least one and at most as many as the permit is for.
    Tasks(Vec<ClaimedTask>),
    /// No task. `left_out`: a type was skipped that may be claimed soon.
    Empty { left_out: bool },
    /// No task, but a type was skipped since other slots were polling for its last room.
    Partial,
    /// No answer for the type at this index; `pause` is the server's Retry-After.
    Failed { index: usize, pause: Option<Duration> },
}

/// What is known of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// No poll yet: one slot polls first, and wakes the others if there are tasks.
    Unknown,
    /// Tasks come.
    Tasks,
    /// The last poll found nothing.
    Empty,
}

/// The one poll of an empty queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdlePoll {
    Nobody,
    /// One slot may poll, or polls.
    Polling,
    /// One slot long-polls.
    LongPoll,
}

/// The answer to a request for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Reservation {
    /// This many tasks may be claimed; room is reserved for them.
    Made(usize),
    /// The type's limit is reached, or the schedule is closed.
    Full,
    /// Other slots are polling for the last room.
    Contested,
    /// The circuit is open.
    CircuitOpen,
}

/// The right to poll once, for all types.
pub(in crate::worker) struct PollPermit {
    /// Index of the type to claim first.
    pub(in crate::worker) first: usize,
    /// How long the server may hold the last claim open.
    pub(in crate::worker) wait: Duration,
    /// Maximum number of tasks: as many as slots are free, and those to claim ahead.
    pub(in crate::worker) limit: usize,
    /// Whether one call may claim several tasks.
    pub(in crate::worker) is_batch: bool,
    pub(super) start: Instant,
    pub(super) is_idle: bool,
    /// For how many slots that wait it may bring a task.
    pub(super) promised: usize,
    pub(super) finished_before: u64,
}

impl PollPermit {
    /// Returns when the poll began.
    pub(in crate::worker) fn start(&self) -> Instant {
        self.start
    }
}
