//! What takes the place of the supervision of children where the system has no means for it.

use std::io;
use std::time::Instant;

use rustix::process::Pid;

use crate::task::TaskId;

pub(super) const MARK: &str = "PRISMQ_TASK_MARK";

/// Makes this process answer for what its handlers start outside of their process groups. This system has no means for
/// that: nothing is done.
pub fn supervise(_token: &str) -> io::Result<()> {
    Ok(())
}

/// A process that outlived its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// Its number.
    pub pid: i32,
    /// The task it was started for.
    pub task_id: Option<TaskId>,
}

/// Ends what the handlers of dead worker processes left behind. This system has no means for that: nothing is found.
pub fn end_leftovers(_is_dead: impl Fn(&str) -> bool) -> Vec<Leftover> {
    Vec::new()
}

/// All that one run of a handler starts: there is none.
pub(super) enum Descendants {}

impl Descendants {
    pub(super) fn expect(_: TaskId) -> Option<Self> {
        None
    }

    pub(super) fn mark(&self) -> &str {
        match *self {}
    }

    pub(super) fn started(&self, _leader: Pid) {
        match *self {}
    }

    pub(super) fn reap(&self) {
        match *self {}
    }

    pub(super) fn end(&self, _deadline: Instant) -> usize {
        match *self {}
    }
}
