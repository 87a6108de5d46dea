//! What slots and the queue tell each other.

use std::time::{Duration, Instant};

/// When the worker claims nothing more.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::worker) struct Limits {
    /// At most so many tasks in all; 0: no limit.
    pub(in crate::worker) max_tasks: u64,
    /// Once nothing is left to do.
    pub(in crate::worker) drain: bool,
    /// Once it was idle for so long.
    pub(in crate::worker) exit_after_idle: Option<Duration>,
}

impl Limits {
    /// Whether the worker goes on until it is told to end.
    pub(super) fn is_patient(&self) -> bool {
        self.max_tasks == 0 && !self.drain && self.exit_after_idle.is_none()
    }
}

/// Why nothing more is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::worker) enum Closed {
    /// All that was asked for is done.
    Done,
    /// The program was asked to end.
    Asked,
    /// Something went wrong that waiting cannot mend.
    Failed,
}

/// What a slot found when it asked for a task of each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Polled {
    /// A task of the type with this index.
    Task(usize),
    /// Nothing; whether a type was left out that may be claimed soon.
    Empty { left_out: bool },
    /// Nothing, but a type was left out for whose last places other slots asked at the time.
    Partial,
    /// No answer about the type with this index; the server asked to be left alone for so long.
    Failed { index: usize, pause: Option<Duration> },
}

/// What is known of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nobody has asked yet: one slot looks first, and wakes the others where there is work.
    Unknown,
    /// Tasks come.
    Tasks,
    /// The last poll found nothing.
    Empty,
}

/// Who polls while the queue is dry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdlePoll {
    Nobody,
    /// One slot may poll, or polls.
    Polling,
    /// It asks in such a way that the server may let it wait.
    Held,
}

/// Whether a task of a type may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Reservation {
    /// It may; there is room for it.
    Made,
    /// As many as may be are in flight, or nothing more is to be claimed.
    Full,
    /// So many may be in flight, and other slots are asking for the last of them.
    Contested,
    /// The service behind the type seems to be away.
    Paused,
}

/// The right to ask once for a task of each type.
pub(in crate::worker) struct PollPermit {
    /// The type to ask first.
    pub(in crate::worker) first: usize,
    /// How long the server may be asked to wait for a task of the last type.
    pub(in crate::worker) wait: Duration,
    pub(super) start: Instant,
    pub(super) is_idle: bool,
    pub(super) finished_before: u64,
}

impl PollPermit {
    /// When it began.
    pub(in crate::worker) fn start(&self) -> Instant {
        self.start
    }
}
