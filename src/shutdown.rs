//! Cancellation: of the program by signals, and of a running task by its [`CancelToken`].

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The phase of the program's shutdown. It only advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No signal yet.
    Running,
    /// After the first signal: start no tasks, finish running ones.
    Draining,
    /// After the second signal: kill running tasks.
    Ending,
}

/// Why a running task is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CancelReason {
    /// The worker shuts down: the handler gets SIGTERM, then SIGKILL.
    Shutdown,
    /// The worker shuts down now: the handler gets SIGKILL.
    Kill,
    /// The claim was lost.
    ClaimLost,
}

/// The program's shutdown phase, shared by everything that waits.
pub type Shutdown = Watch<Phase>;

/// The cancellation token of a running task; `None` while it may run.
pub type CancelToken = Watch<Option<CancelReason>>;

type Callback<T> = Box<dyn Fn(T) + Send>;

/// A value that only increases, with waiting and callbacks.
pub struct Watch<T> {
    value: Mutex<T>,
    changed: Condvar,
    callbacks: Mutex<Vec<Callback<T>>>,
}

impl<T: Copy + Ord> Watch<T> {
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new(), callbacks: Mutex::default() }
    }

    /// Returns the current value.
    pub fn get(&self) -> T {
        *self.value.lock()
    }

    /// Raises the value to `value`, if that is higher.
    pub fn raise(&self, value: T) {
        {
            let mut current = self.value.lock();
            if value <= *current {
                return;
            }
            *current = value;
        }
        self.changed.notify_all();
        for callback in self.callbacks.lock().iter() {
            callback(value);
        }
    }

    /// Calls `callback` for each later value, and now if the value is already above `than`.
    pub fn on_raise(&self, than: T, callback: impl Fn(T) + Send + 'static) {
        // The callbacks are locked before the value is read, so that no change is missed.
        let mut callbacks = self.callbacks.lock();
        let current = self.get();
        if current > than {
            callback(current);
        }
        callbacks.push(Box::new(callback));
    }

    /// Waits until the value is at least `value`, or `timeout` has passed. Returns whether it is.
    pub fn wait_for(&self, value: T, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut current = self.value.lock();
        while *current < value {
            let Some(deadline) = deadline else {
                self.changed.wait(&mut current);
                continue;
            };
            if Instant::now() >= deadline {
                return false;
            }
            self.changed.wait_until(&mut current, deadline);
        }
        true
    }
}
