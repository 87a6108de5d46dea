//! Waiting for what a test expects: for a condition, never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Only a test that fails waits so long. It is less than the ten minutes that tests
/// choose for waits of `prismq` that must not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// Waits before the next look at something: not for long at first, and then without taking the processor from those that
/// are waited for.
pub(super) fn pause(start: Instant) {
    thread::sleep((start.elapsed() / 8).clamp(Duration::from_millis(1), Duration::from_millis(15)));
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        pause(start);
    }
}
