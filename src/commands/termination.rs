//! Ends the program in time after signals, even if a call is not answered or a terminal is stopped. Interrupted work is
//! recovered from the results file at the next start, as after a crash.

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

/// Time after the second signal, to store the results of killed handlers.
const AFTER_SECOND: Duration = Duration::from_millis(750);
/// Time for calls after the first signal and after the last handler has ended, for claims and reports in flight.
const FOR_CALLS: Duration = Duration::from_secs(10);
/// Time after `grace_period` for everything: handlers are killed 5 s after SIGTERM, their descendants are waited for 2 s,
/// and then results are reported.
const AFTER_GRACE: Duration = Duration::from_secs(20);
/// How often to check whether handlers are running.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Maximum time for output at the end of the program.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// Ends the program soon after the second signal, whatever is in flight, with the code returned by `exit`. The first signal
/// counts as the second one as soon as `is_due`, called with its time, returns true.
pub(super) fn in_time(
    shutdown: &Arc<Shutdown>,
    is_due: impl Fn(Instant) -> bool + Send + 'static,
    exit: impl FnOnce() -> Exit + Send + 'static,
) -> std::io::Result<()> {
    let shutdown = Arc::clone(shutdown);
    let wait = move || {
        while !shutdown.wait_for(Phase::Draining, Duration::MAX) {}
        let first = Instant::now();
        while !shutdown.wait_for(Phase::Ending, CHECK_EVERY) && !is_due(first) {}
        let second = Instant::now();
        run_briefly(move || shutdown.raise(Phase::Ending));
        // A plain sleep is enough: if the main thread is done earlier, it ends the program.
        thread::sleep(AFTER_SECOND.saturating_sub(second.elapsed()));
        run_briefly(|| log::warn!(target: WORKER, "stopped without waiting for tasks in flight"));
        process::exit(exit() as i32)
    };
    thread::Builder::new().name("end".into()).spawn(wait).map(drop)
}

/// Runs work that may block forever, for example on a stopped terminal, and waits for it only briefly.
pub(super) fn run_briefly(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::sync_channel(1);
    let work = move || {
        work();
        // The receiver may have given up.
        let _ = done.send(());
    };
    // If no thread can be started, skip it.
    if thread::Builder::new().name("final-output".into()).spawn(work).is_ok() {
        let _ = is_done.recv_timeout(OUTPUT_TIMEOUT);
    }
}

/// Running tasks of a worker, tracked by its events.
pub(super) struct RunningTasks {
    state: Mutex<(HashSet<TaskId>, Instant)>,
}

impl RunningTasks {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new((HashSet::new(), Instant::now())) }
    }

    fn lock(&self) -> MutexGuard<'_, (HashSet<TaskId>, Instant)> {
        self.state.lock()
    }

    /// Updates the set when a task starts, or its result is stored or lost.
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

    /// Whether a worker that was signalled at `first` has waited too long, for calls or for anything else.
    pub(super) fn is_due(&self, first: Instant, grace_period: Duration) -> bool {
        let (tasks, changed) = &*self.lock();
        let only_calls = tasks.is_empty() && first.max(*changed).elapsed() >= FOR_CALLS;
        only_calls || first.elapsed() >= grace_period.saturating_add(AFTER_GRACE)
    }

    /// Whether the results of all tasks are stored.
    pub(super) fn is_over(&self) -> bool {
        self.lock().0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_tasks_delay_the_end_and_calls_do_not() {
        let running = RunningTasks::new();
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
