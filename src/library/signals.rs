//! SIGTERM and SIGINT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shutdown::{Phase, Shutdown};

/// Who signals a process and then its group, as GNU `timeout` does, means it once.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// From now on the first signal drains, and the second ends what runs. `on_each` hears of every one.
pub(crate) fn heed(shutdown: &Arc<Shutdown>, on_each: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    let shutdown = Arc::clone(shutdown);
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(move || {
        on_each();
        let first = *first.get_or_insert_with(Instant::now);
        match shutdown.get() {
            Phase::Running => shutdown.raise(Phase::Draining),
            _ if first.elapsed() < ONE_SIGNAL => {}
            _ => shutdown.raise(Phase::Ending),
        }
    })
}
