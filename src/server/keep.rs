//! Keeping the file from growing for ever: tasks that ended long ago are removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::database::Time;
use super::log::Log;
use super::queue::Shared;
use crate::clock::{Moment, Timestamp, surely_past};

/// Tasks that are removed at once, at most.
const STEP: usize = 200;

/// What is left to calls between two steps.
const PAUSE: Duration = Duration::from_millis(10);

/// How soon a task is removed that may be.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Removes tasks that ended longer ago than `keep`, for as long as the server runs. What is removed is in `log`.
pub(super) async fn remove_ended(queue: Shared, log: Arc<Log>, keep: Duration) {
    let start = Moment::from(Timestamp::now());
    loop {
        // Nobody listens to an error here. Whoever calls hears of it, and the next look is the next try.
        let more = queue
            .lock()
            .remove_ended(Time::from(surely_past(start, Timestamp::now())).earlier_by(keep), STEP)
            .unwrap_or(false);
        let _ = log.catch_up().await;
        sleep(if more { PAUSE } else { LOOK_EVERY.min(keep).max(PAUSE) }).await;
    }
}
