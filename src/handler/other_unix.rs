//! Stubs of `supervision` for systems other than Linux, where a process cannot adopt orphans.

use std::io;
use std::time::Instant;

use rustix::process::Pid;

use crate::task::TaskId;

pub(super) const MARK: &str = "PRISMQ_TASK_MARK";

/// Does nothing on this system.
pub fn supervise(_token: &str) -> io::Result<()> {
    Ok(())
}

/// A process that outlived its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The process id.
    pub pid: i32,
    /// The task it was started for.
    pub task_id: Option<TaskId>,
}

/// Finds nothing on this system.
pub fn kill_orphans(_is_dead: impl Fn(&str) -> bool) -> Vec<Orphan> {
    Vec::new()
}

/// Never constructed on this system.
pub(super) enum Descendants {}

impl Descendants {
    pub(super) fn register(_: TaskId) -> Option<Self> {
        None
    }

    pub(super) fn mark(&self) -> &str {
        match *self {}
    }

    pub(super) fn set_leader(&self, _leader: Pid) {
        match *self {}
    }

    pub(super) fn reap(&self) {
        match *self {}
    }

    pub(super) fn end(&self, _deadline: Instant) -> usize {
        match *self {}
    }
}
