//! What a worker has to say. The worker knows no terminal and no log; whoever starts it listens.

use std::time::Duration;

use super::Summary;
use crate::clock::Timestamp;
use crate::handler::Orphan;
use crate::store::Status;
use crate::task::{Claim, Task, TaskId, TaskResult};
use crate::taskmanager::Delivery;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A setting will have an effect that its author may not expect.
    Warning(String),
    /// A type was registered with the TaskManager.
    Registered {
        /// Its name.
        task_type: &'a str,
        /// Its number.
        id: u64,
    },
    /// The worker is ready and starts to claim.
    Ready {
        /// The types it works, each with its number.
        task_types: Vec<(&'a str, u64)>,
        /// How many tasks it works at once.
        concurrency: usize,
    },
    /// A slot has polled, and was answered or not.
    Polled,
    /// A task was claimed.
    Claimed(&'a Claim),
    /// A task that an earlier process left in flight is taken up again.
    TakenUp(&'a Claim),
    /// A task is taken up whose claim was not answered, to this worker or to one that has died.
    LostClaimFound(&'a Claim),
    /// A process that a handler of a dead worker had left running was ended.
    OrphanKilled(Orphan),
    /// The claim of a task that runs here ran out, and the task was handed out to this worker again: the run goes on.
    ClaimRenewed {
        /// The new claim.
        claim: &'a Claim,
        /// Whether that has happened to the task before, and was told.
        again: bool,
    },
    /// A claim is not worked here after all.
    NotRun {
        /// The claim.
        claim: &'a Claim,
        /// Why.
        reason: &'static str,
    },
    /// Too many attempts of a type failed in a row in a way that may pass: none is claimed for a while.
    Paused {
        /// Its name.
        task_type: &'a str,
        /// How long.
        pause: Duration,
    },
    /// A type that was paused is claimed again as usual.
    Resumed(&'a str),
    /// A type is snoozed: its handler takes no tasks for a while.
    Snoozed {
        /// Its name.
        task_type: &'a str,
        /// Until when.
        until: Timestamp,
        /// Why, in the handler's words.
        reason: Option<&'a str>,
    },
    /// A type that was snoozed is claimed again.
    SnoozeEnded(&'a str),
    /// A handler said how far it is.
    Progress {
        /// The task.
        task_id: TaskId,
        /// From 0 to 100.
        percent: u8,
        /// Its own words.
        message: Option<&'a str>,
    },
    /// A handler printed a line on its standard error.
    HandlerLine(&'a Claim, &'a str),
    /// Something in a handler's answer makes no sense and is ignored: what, and why.
    Ignored(&'a Claim, &'a str),
    /// An attempt failed and is tried again inside the claim.
    Retry {
        /// The task.
        claim: &'a Claim,
        /// Why it failed.
        error: &'a str,
        /// How long from now.
        wait: Duration,
    },
    /// An attempt ended, and its result is on disk.
    Finished(&'a TaskResult),
    /// The fate of a result is known.
    Reported {
        /// The task.
        task_id: TaskId,
        /// The name of its type.
        task_type: &'a str,
        /// What the result was.
        status: Status,
        /// Whether it arrived.
        delivery: Delivery,
    },
    /// So many results wait to be reported.
    Unreported {
        /// How many.
        count: usize,
        /// How many of them the TaskManager refused when they were last sent.
        refused: usize,
        /// When the oldest of them was finished.
        oldest: Option<Timestamp>,
    },
    /// A report did not get through; the result is kept and sent later.
    ReportPostponed {
        /// The task.
        task_id: TaskId,
        /// Why.
        error: String,
    },
    /// The TaskManager refuses a result; it stays in the results file, and is sent again now and then.
    ReportRefused {
        /// The task.
        task_id: TaskId,
        /// The server's words.
        error: String,
        /// Whether a report of the task was refused before, and that was told.
        again: bool,
    },
    /// The TaskManager does not answer.
    OutageStarted(String),
    /// The TaskManager answers again.
    OutageEnded {
        /// How long it did not.
        length: Duration,
        /// How many calls failed.
        failed_calls: u64,
    },
    /// A type that was there is no longer in the TaskManager.
    TypeGone(&'a str),
    /// A type that was gone is there again.
    TypeFound {
        /// Its name.
        task_type: &'a str,
        /// Its number, which may be another than before.
        id: u64,
    },
    /// The TaskManager handed out a task of another type than was asked for.
    WrongType {
        /// The task.
        task: &'a Task,
        /// The type that was asked for.
        wanted: &'a str,
        /// Whether that has happened with the task before, and was told.
        again: bool,
    },
    /// The worker's loop is alive: its main thread is at work, and neither a slot nor a report hangs.
    Heartbeat {
        /// It is told again within this time. Who hears nothing for longer may take the worker for hanging.
        again: Duration,
    },
    /// The worker's loop hangs, and why that is thought.
    Hanging(String),
    /// Nothing more is claimed.
    Closing {
        /// Whether a signal asked for it.
        asked: bool,
        /// Tasks that still run.
        in_flight: usize,
    },
    /// The results file, or the database of ideas, is not there any more, or another one is in its place: the worker ends.
    FilesGone(String),
    /// All is done, or has failed: what the worker has done.
    Ended(&'a Summary),
    /// The ideas of a result could not be kept: nothing of it is stored or reported.
    IdeasNotKept {
        /// The task.
        task_id: TaskId,
        /// Why.
        error: String,
    },
    /// A task goes back to the queue, since its claim could not be noted, or its ideas could not be kept.
    GivenBack {
        /// The task.
        task_id: TaskId,
        /// Why.
        error: String,
        /// Whether the TaskManager has it back. Else it stays claimed until the claim is over.
        returned: bool,
    },
    /// What is to be written of a task waits, since another process holds the results file, say.
    StoreWaits {
        /// The task.
        task_id: TaskId,
        /// Why.
        error: String,
    },
    /// The results file, or the database of ideas, cannot be written for now: nothing is claimed until it can.
    StoreFailed {
        /// Why.
        error: String,
        /// How many bytes are to be free before anything is claimed again.
        room: u64,
    },
    /// It can be written again.
    StoreMended {
        /// How long it could not.
        length: Duration,
    },
    /// A task is claimed, and its claim cannot be noted yet.
    ClaimWaits {
        /// The claim.
        claim: &'a Claim,
        /// Why.
        error: String,
    },
    /// What waited to be written of a task has been.
    StoreWaited {
        /// The task.
        task_id: TaskId,
    },
    /// The results file was told of a poll, or why that could not be written.
    PollNoted(Option<String>),
    /// A result could not be stored.
    NotStored {
        /// The task.
        task_id: TaskId,
        /// Why.
        error: String,
        /// Whether the TaskManager has it all the same.
        reported: bool,
    },
}

/// Hears nothing.
impl Observer for () {
    fn event(&self, _: &Event<'_>) {}
}

/// Hears what happens in a worker, from any of its threads.
pub(crate) trait Observer: Sync {
    /// Something happened. Must return quickly: it holds up the slot.
    fn event(&self, event: &Event<'_>);
}
