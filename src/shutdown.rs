//! Asking things to end: the whole program by signals, one running task by its [`Stop`].

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, Slept, Timestamp};

/// How far the program has been asked to end. It only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody asked.
    Running,
    /// The first signal: start nothing new, finish what runs.
    Draining,
    /// The second signal: end what runs now.
    Ending,
}

/// Why a running task is stopped before its handler is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// The worker shuts down: the handler is asked to end (SIGTERM), then killed.
    Shutdown,
    /// The worker shuts down now: the handler is killed.
    Kill,
    /// The TaskManager gave the task to another worker.
    ClaimLost,
}

/// The program's shutdown, shared by everything that waits.
pub type Shutdown = Watch<Phase>;

/// The stop of one running task; `None` while it may go on.
pub type Stop = Watch<Option<StopReason>>;

type Listener<T> = Box<dyn Fn(T) + Send>;

/// A value that only grows, which threads can wait on or be called about.
pub struct Watch<T> {
    value: Mutex<T>,
    changed: Condvar,
    listeners: Mutex<Vec<Listener<T>>>,
}

impl<T: Copy + Ord> Watch<T> {
    /// A watch that starts with `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new(), listeners: Mutex::default() }
    }

    /// The value now.
    pub fn get(&self) -> T {
        *self.value.lock()
    }

    /// Raises the value to `value`; a lower or equal one changes nothing.
    pub fn raise(&self, value: T) {
        {
            let mut current = self.value.lock();
            if value <= *current {
                return;
            }
            *current = value;
        }
        self.changed.notify_all();
        for listener in self.listeners.lock().iter() {
            listener(value);
        }
    }

    /// Calls `listener` with every later value, and at once where one was raised already above `than`.
    pub fn on_raise(&self, than: T, listener: impl Fn(T) + Send + 'static) {
        // The lock on the listeners is held while the value is read, so that no raise falls between the two.
        let mut listeners = self.listeners.lock();
        let current = self.get();
        if current > than {
            listener(current);
        }
        listeners.push(Box::new(listener));
    }

    /// Waits until the value is at least `value` or `timeout` has passed; true where it is.
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

/// The system's clock, whose sleeps end as soon as the program's shutdown reaches a phase.
pub struct SystemClock {
    shutdown: Arc<Shutdown>,
    wakes_at: Phase,
}

impl SystemClock {
    /// A clock whose sleeps end when `shutdown` reaches `wakes_at`.
    #[must_use]
    pub fn new(shutdown: Arc<Shutdown>, wakes_at: Phase) -> Self {
        Self { shutdown, wakes_at }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Milliseconds are what results, logs and envelopes show; finer times would only differ from what is stored.
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn sleep(&self, duration: Duration) -> Slept {
        if self.shutdown.wait_for(self.wakes_at, duration) { Slept::Interrupted } else { Slept::Whole }
    }
}
