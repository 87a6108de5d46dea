//! Claims whose answers were lost: a call may have claimed a task, and nobody knows. They are looked for when a worker
//! starts, and after each call that may have claimed a task without saying so.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A server may carry out a call for so long after the caller has lost it: then is the last look for its task.
pub(super) const LATEST: Duration = Duration::from_secs(2);

/// What is known of earlier processes that may have lost claims which are this worker's to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// There was none.
    None,
    /// There were some, and all they called for has been carried out.
    Past,
    /// One may have died a moment ago.
    JustDied,
}

#[derive(Default)]
struct State {
    /// Calls of this process that may have claimed a task each that was not found yet.
    own: usize,
    /// An earlier process may have lost claims.
    earlier: bool,
    /// A look has been answered.
    has_looked: bool,
    /// Lost claims that were found so far.
    found: u64,
    /// A look that begins then or later settles all of them.
    settled_from: Option<Instant>,
    /// Since when looks are not answered, if they are not.
    failing_since: Option<Instant>,
}

/// What is not known of claims.
pub(super) struct Doubts(Mutex<State>);

impl Doubts {
    /// A look is to come if there were earlier processes; and one more if one of them may have just died, since its last
    /// call may not be carried out yet.
    pub(super) fn new(earlier: Earlier) -> Self {
        let settled_from = match earlier {
            Earlier::None => None,
            Earlier::Past => Some(Instant::now()),
            Earlier::JustDied => Instant::now().checked_add(LATEST),
        };
        Self(Mutex::new(State { earlier: settled_from.is_some(), settled_from, ..State::default() }))
    }

    /// A call may have claimed a task, and nobody knows.
    pub(super) fn add(&self) {
        let mut doubts = self.0.lock();
        doubts.own += 1;
        doubts.settled_from = Instant::now().checked_add(LATEST);
    }

    /// How long it is until the next look at what is in doubt; `None` if nothing is.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let doubts = self.0.lock();
        let from = doubts.settled_from.filter(|_| doubts.own > 0 || doubts.earlier)?;
        let is_first = doubts.earlier && !doubts.has_looked;
        Some(if is_first { Duration::ZERO } else { from.saturating_duration_since(Instant::now()) })
    }

    /// Whether a call of this process may have claimed a task, and nobody knows.
    pub(super) fn is_own_in_doubt(&self) -> bool {
        self.0.lock().own > 0
    }

    /// How long looks have not been answered.
    pub(super) fn not_answered_for(&self) -> Duration {
        self.0.lock().failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A look was not answered.
    pub(super) fn look_failed(&self) {
        self.0.lock().failing_since.get_or_insert_with(Instant::now);
    }

    /// A look that began at `start` has found so many tasks of this worker's own.
    pub(super) fn looked(&self, start: Instant, found: usize) {
        let mut doubts = self.0.lock();
        let all = doubts.settled_from.is_none_or(|from| from <= start);
        (doubts.failing_since, doubts.has_looked) = (None, true);
        doubts.own = if all { 0 } else { doubts.own.saturating_sub(found) };
        doubts.earlier &= !all;
    }

    /// How many lost claims were found so far.
    pub(super) fn found(&self) -> u64 {
        self.0.lock().found
    }

    /// Counts a task that was taken up.
    pub(super) fn count_found(&self) {
        self.0.lock().found += 1;
    }
}
