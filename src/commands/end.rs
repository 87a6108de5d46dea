//! The end of the program after signals, which nothing may hold up: no call that is not answered, no terminal that is
//! stopped. What is cut off is in the results file as after a crash, and the next start takes it up.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::process;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::exit::Exit;
use crate::library::WORKER;
use crate::shutdown::{Phase, Shutdown};
use crate::task::TaskId;
use crate::worker::Event;

/// How long what is in flight has after the second signal: the results of handlers that were killed are stored meanwhile.
const AFTER_SECOND: Duration = Duration::from_millis(750);
/// How long calls have after the first signal, and after the last handler has ended: who works a whole queue has claims
/// or reports of its results in flight.
const FOR_CALLS: Duration = Duration::from_secs(10);
/// How long after `grace_period` everything has ended: a handler is killed 5 s after it was asked to end, 2 s later nobody
/// waits for what it leaves, and then there are calls.
const AFTER_GRACE: Duration = Duration::from_secs(20);
/// How often it is looked whether handlers run.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long anybody waits for what is drawn or printed on the way out.
const MOMENT: Duration = Duration::from_millis(200);

/// Ends the program soon after its second signal, whatever is in flight, with the exit code that `exit` says. The first
/// one counts as a second as soon as `is_due` says so, which is told when the first came.
pub(super) fn in_time(
    shutdown: &Arc<Shutdown>,
    is_due: impl Fn(Instant) -> bool + Send + 'static,
    exit: impl FnOnce() -> Exit + Send + 'static,
) -> std::io::Result<()> {
    let shutdown = Arc::clone(shutdown);
    let wait = move || {
        while !shutdown.wait_for(Phase::Draining, Duration::MAX) {}
        let first = Instant::now();
        while !shutdown.wait_for(Phase::Ending, LOOK_EVERY) && !is_due(first) {}
        let second = Instant::now();
        for_a_moment(move || shutdown.raise(Phase::Ending));
        // There is nothing to wait on: who is done first ends the program.
        thread::sleep(AFTER_SECOND.saturating_sub(second.elapsed()));
        for_a_moment(|| log::warn!(target: WORKER, "stopped without waiting for tasks in flight"));
        process::exit(exit() as i32)
    };
    thread::Builder::new().name("end".into()).spawn(wait).map(drop)
}

/// Does what may block for ever, as on a terminal that is stopped or a pipe that nobody reads, and goes on without it.
pub(super) fn for_a_moment(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel(1);
    let work = move || {
        work();
        // Whoever waited may have gone on.
        let _ = done.send(());
    };
    // Where there is no thread for it, it is left out.
    if thread::Builder::new().name("last words".into()).spawn(work).is_ok() {
        let _ = is_done.recv_timeout(MOMENT);
    }
}

/// The tasks that run in a worker, as its events say.
pub(super) struct Running {
    state: Mutex<(HashSet<TaskId>, Instant)>,
}

impl Running {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new((HashSet::new(), Instant::now())) }
    }

    fn lock(&self) -> MutexGuard<'_, (HashSet<TaskId>, Instant)> {
        self.state.lock()
    }

    /// Hears of a task that starts, or whose result is stored or given up.
    pub(super) fn event(&self, event: &Event<'_>) {
        let (tasks, changed) = &mut *self.lock();
        let has_changed = match event {
            Event::Claimed(claim) => tasks.insert(claim.task.id),
            Event::Finished(result) => tasks.remove(&result.task_id),
            Event::IdeasNotKept { task_id, .. } | Event::NotStored { task_id, .. } => tasks.remove(task_id),
            _ => false,
        };
        if has_changed {
            *changed = Instant::now();
        }
    }

    /// Whether a worker that was asked to end at `first` waits for nothing but calls for too long, or for whatever.
    pub(super) fn is_due(&self, first: Instant, grace_period: Duration) -> bool {
        let (tasks, changed) = &*self.lock();
        let only_calls = tasks.is_empty() && first.max(*changed).elapsed() >= FOR_CALLS;
        only_calls || first.elapsed() >= grace_period.saturating_add(AFTER_GRACE)
    }

    /// Whether all that ran is in the results file.
    pub(super) fn is_over(&self) -> bool {
        self.lock().0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_waited_for_and_what_is_asked_is_not() {
        let running = Running::new();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let grace = Duration::from_secs(30);
        running.lock().1 = ago(100);
        assert!(!running.is_due(ago(9), grace) && running.is_due(ago(11), grace));
        running.lock().0.insert(TaskId(1));
        assert!(!running.is_over() && !running.is_due(ago(49), grace) && running.is_due(ago(51), grace));
        assert!(!running.is_due(ago(3600), Duration::MAX));
        *running.lock() = (HashSet::new(), ago(5));
        assert!(running.is_over() && !running.is_due(ago(40), grace), "its report may be under way");
    }
}
