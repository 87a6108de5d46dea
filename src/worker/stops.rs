//! The stops of the tasks that run, so that the end of the worker reaches all of them.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

use crate::shutdown::{Stop, StopReason};

#[derive(Default)]
struct State {
    running: Vec<Arc<Stop>>,
    all: Option<StopReason>,
}

/// The stops of the tasks that run.
#[derive(Default)]
pub(super) struct Stops {
    state: Mutex<State>,
}

impl Stops {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The stop of a task that starts to run; raised at once where all tasks are being stopped.
    pub(super) fn add(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop::new(None));
        let mut state = self.lock();
        stop.raise(state.all);
        state.running.push(Arc::clone(&stop));
        stop
    }

    /// Forgets the stop of a task that has ended.
    pub(super) fn remove(&self, stop: &Arc<Stop>) {
        self.lock().running.retain(|other| !Arc::ptr_eq(other, stop));
    }

    /// Stops every task that runs, and every one that still starts.
    pub(super) fn stop_all(&self, reason: StopReason) {
        let running = {
            let mut state = self.lock();
            state.all = state.all.max(Some(reason));
            state.running.clone()
        };
        for stop in running {
            stop.raise(Some(reason));
        }
    }
}
