//! Waits for conditions, never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// Maximum time for a condition. Only a failing test waits this long. It is less than the ten minutes that tests choose
/// for waits of `prismq` that must not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// Waits before the next check: only briefly at first, later longer, so that the processor is free for what is waited
/// for.
pub(super) fn pause(start: Instant) {
    thread::sleep((start.elapsed() / 8).clamp(Duration::from_millis(1), Duration::from_millis(40)));
}

/// Calls `ask` until it returns a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "timed out: {what}");
        pause(start);
    }
}
