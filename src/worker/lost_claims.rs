//! Lost claims: a call may have claimed a task although its answer was lost. They are searched for when a worker
//! starts, and after each call that may have claimed a task without an answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a server may take to carry out a call after the caller has lost it. The last search for its task starts
/// then.
pub(super) const LATEST: Duration = Duration::from_secs(2);

/// Whether earlier processes may have lost claims that this worker must recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EarlierWorkers {
    /// There was no earlier process.
    None,
    /// There were some, and all their calls have been carried out.
    Ended,
    /// One of them may have died a moment ago.
    JustDied,
}

#[derive(Default)]
struct LostClaimsState {
    /// Tasks that calls of this process may have claimed, at most, and that were not found yet.
    own: usize,
    /// Whether an earlier process may have lost claims.
    earlier: bool,
    /// Whether a search has succeeded.
    has_searched: bool,
    /// Number of lost claims found so far.
    found: u64,
    /// A search that begins at this time or later finds all of them.
    complete_from: Option<Instant>,
    /// Since when searches have failed, if they do.
    failing_since: Option<Instant>,
}

/// Tracks claims that may be lost, and when to search for them.
pub(super) struct LostClaims(Mutex<LostClaimsState>);

impl LostClaims {
    /// Plans a search if there were earlier processes, and one more if one of them may have just died, since its last
    /// call may not be carried out yet.
    pub(super) fn new(earlier: EarlierWorkers) -> Self {
        let complete_from = match earlier {
            EarlierWorkers::None => None,
            EarlierWorkers::Ended => Some(Instant::now()),
            EarlierWorkers::JustDied => Instant::now().checked_add(LATEST),
        };
        Self(Mutex::new(LostClaimsState {
            earlier: complete_from.is_some(),
            complete_from,
            ..LostClaimsState::default()
        }))
    }

    /// Records a call that may have claimed up to `most` tasks without an answer.
    pub(super) fn add(&self, most: usize) {
        let mut lost_claims = self.0.lock();
        lost_claims.own += most;
        lost_claims.complete_from = Instant::now().checked_add(LATEST);
    }

    /// Returns the time until the next search; `None` if no claim may be missing.
    pub(super) fn next_search(&self) -> Option<Duration> {
        let lost_claims = self.0.lock();
        let from = lost_claims.complete_from.filter(|_| lost_claims.own > 0 || lost_claims.earlier)?;
        let is_first = lost_claims.earlier && !lost_claims.has_searched;
        Some(if is_first { Duration::ZERO } else { from.saturating_duration_since(Instant::now()) })
    }

    /// Whether a call of this process may have claimed a task that was not found yet.
    pub(super) fn has_own_missing(&self) -> bool {
        self.0.lock().own > 0
    }

    /// Returns for how long searches have failed.
    pub(super) fn failing_for(&self) -> Duration {
        self.0.lock().failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Records a failed search.
    pub(super) fn search_failed(&self) {
        self.0.lock().failing_since.get_or_insert_with(Instant::now);
    }

    /// Records a search that began at `start` and found this number of this worker's own tasks.
    pub(super) fn searched(&self, start: Instant, found: usize) {
        let mut lost_claims = self.0.lock();
        let all = lost_claims.complete_from.is_none_or(|from| from <= start);
        (lost_claims.failing_since, lost_claims.has_searched) = (None, true);
        lost_claims.own = if all { 0 } else { lost_claims.own.saturating_sub(found) };
        lost_claims.earlier &= !all;
    }

    /// Returns the number of lost claims found so far.
    pub(super) fn found(&self) -> u64 {
        self.0.lock().found
    }

    /// Counts a recovered task.
    pub(super) fn count_found(&self) {
        self.0.lock().found += 1;
    }
}
