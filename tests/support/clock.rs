//! A clock that records sleeps instead of sleeping.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prismq::Timestamp;
use prismq::internals::clock::{Clock, Slept, after};

pub(crate) struct FakeClock {
    sleeps: Mutex<Vec<Duration>>,
    ends_with: Slept,
}

impl FakeClock {
    /// A clock on which every sleep is over at once.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { sleeps: Mutex::default(), ends_with: Slept::Whole })
    }

    /// A clock on which every sleep is interrupted.
    pub(crate) fn interrupting() -> Arc<Self> {
        Arc::new(Self { sleeps: Mutex::default(), ends_with: Slept::Interrupted })
    }

    /// All requested sleeps so far.
    pub(crate) fn sleeps(&self) -> Vec<Duration> {
        self.sleeps.lock().unwrap().clone()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, self.sleeps().iter().sum())
    }

    fn sleep(&self, duration: Duration) -> Slept {
        self.sleeps.lock().unwrap().push(duration);
        self.ends_with
    }
}
