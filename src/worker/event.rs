//! The events of a worker. The worker itself writes to no terminal and no log; its caller passes an observer.

use std::time::Duration;

use super::Summary;
use crate::clock::Timestamp;
use crate::handler::Orphan;
use crate::store::ResultStatus;
use crate::task::{Claim, Task, TaskId, TaskResult};
use crate::taskmanager::Delivery;

/// An event of a worker.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A setting has an effect that its author may not expect.
    Warning(String),
    /// A type was registered with the TaskManager.
    Registered {
        /// Name of the type.
        task_type: &'a str,
        /// Id of the type.
        id: u64,
    },
    /// The worker is ready and starts to claim.
    Ready {
        /// Its types, each with its id.
        task_types: Vec<(&'a str, u64)>,
        /// Number of slots.
        concurrency: usize,
    },
    /// A poll ended, whether or not it was answered.
    Polled,
    /// A task was claimed.
    Claimed(&'a Claim),
    /// A task was recovered that an earlier process left in flight.
    Recovered(&'a Claim),
    /// A task was found whose claim was not answered, to this worker or to one that has died.
    LostClaimFound(&'a Claim),
    /// An orphan of a dead worker was killed.
    OrphanKilled(Orphan),
    /// A claim expired while its task was in flight here, and this worker claimed the task again: the attempt
    /// continues.
    ClaimRenewed {
        /// The new claim.
        claim: &'a Claim,
        /// Whether this was already emitted for the task.
        is_repeated: bool,
    },
    /// A claimed task is not run.
    NotRun { claim: &'a Claim, reason: &'static str },
    /// The circuit opened: too many retryable failures of a type; claiming is paused.
    CircuitOpened {
        /// Name of the type.
        task_type: &'a str,
        /// For how long.
        pause: Duration,
    },
    /// The circuit closed: the type is claimed again.
    CircuitClosed(&'a str),
    /// A type was snoozed by its handler.
    Snoozed {
        /// Name of the type.
        task_type: &'a str,
        /// Until when.
        until: Timestamp,
        /// The handler's reason.
        reason: Option<&'a str>,
    },
    /// A snooze ended: the type is claimed again.
    SnoozeEnded(&'a str),
    /// A handler reported progress.
    Progress {
        task_id: TaskId,
        /// From 0 to 100.
        percent: u8,
        /// The handler's message.
        message: Option<&'a str>,
    },
    /// A handler wrote a line to standard error.
    HandlerLine(&'a Claim, &'a str),
    /// Part of a handler's answer was invalid and is ignored: what, and why.
    Ignored(&'a Claim, &'a str),
    /// An attempt failed and is retried inside the claim.
    Retry {
        claim: &'a Claim,
        /// The failure.
        error: &'a str,
        /// Time until the retry.
        wait: Duration,
    },
    /// An attempt ended, and its result is stored.
    Finished(&'a TaskResult),
    /// A result was settled.
    Reported {
        task_id: TaskId,
        /// Name of its type.
        task_type: &'a str,
        /// Status of the result.
        status: ResultStatus,
        /// Whether the report was confirmed.
        delivery: Delivery,
    },
    /// The number of unreported results changed.
    Unreported {
        count: usize,
        /// How many of them the TaskManager refused when they were last sent.
        refused: usize,
        /// When the oldest of them was finished.
        oldest: Option<Timestamp>,
    },
    /// A report failed; it is sent again later.
    ReportPostponed { task_id: TaskId, error: String },
    /// The TaskManager refused a report; it is sent again now and then.
    ReportRefused {
        task_id: TaskId,
        /// The server's message.
        error: String,
        /// Whether this was already emitted for the task.
        is_repeated: bool,
    },
    /// An outage of the TaskManager began.
    OutageStarted(String),
    /// The outage ended.
    OutageEnded {
        /// How long it lasted.
        length: Duration,
        /// Number of failed calls.
        failed_calls: u64,
    },
    /// A type was removed from the TaskManager.
    TypeGone(&'a str),
    /// A removed type is in the TaskManager again.
    TypeFound {
        /// Name of the type.
        task_type: &'a str,
        /// Its id, which may be a new one.
        id: u64,
    },
    /// The TaskManager answered a claim with a task of another type.
    WrongType {
        task: &'a Task,
        /// The requested type.
        wanted: &'a str,
        /// Whether this was already emitted for the task.
        is_repeated: bool,
    },
    /// The worker's loop is alive: its main thread runs, and no slot or report hangs.
    Heartbeat {
        /// Time until the next heartbeat at the latest. If none comes, the worker may be considered hung.
        timeout: Duration,
    },
    /// The worker's loop hangs, and what shows that.
    Hung(String),
    /// The worker stopped claiming.
    Closing {
        /// Whether a signal stopped it.
        asked: bool,
        /// Number of running tasks.
        in_flight: usize,
    },
    /// The results file or the database of ideas was removed or replaced: the worker exits.
    FilesGone(String),
    /// The worker ended.
    Ended(&'a Summary),
    /// The ideas of a result could not be stored: nothing of it is stored or reported.
    IdeasNotKept { task_id: TaskId, error: String },
    /// A task was returned, since its claim could not be recorded, or its ideas could not be stored.
    Returned {
        task_id: TaskId,
        error: String,
        /// Whether the TaskManager confirmed that. Otherwise it stays claimed until the claim expires.
        is_confirmed: bool,
    },
    /// A write about a task is being retried, for example because another process holds the results file.
    WriteRetrying { task_id: TaskId, error: String },
    /// The results file or the database of ideas cannot be written: claiming is paused.
    StoreFailed {
        error: String,
        /// Free space, in bytes, needed before claiming resumes.
        room: u64,
    },
    /// The file can be written again.
    StorageRecovered {
        /// How long it could not be written.
        length: Duration,
    },
    /// A task is claimed, but its claim cannot be noted yet.
    ClaimNoteRetrying { claim: &'a Claim, error: String },
    /// The retried write about a task succeeded.
    WriteSucceeded { task_id: TaskId },
    /// The time of a poll was written to the results file, or why it could not be.
    PollRecorded(Option<String>),
    /// A result could not be stored.
    NotStored {
        task_id: TaskId,
        error: String,
        /// Whether the TaskManager confirmed it all the same.
        reported: bool,
    },
}

/// Ignores all events.
impl Observer for () {
    fn event(&self, _: &Event<'_>) {}
}

/// Receives the events of a worker, from any of its threads.
pub(crate) trait Observer: Sync {
    /// Handles an event. Must return quickly: the slot waits for it.
    fn event(&self, event: &Event<'_>);
}
