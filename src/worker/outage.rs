//! Tracks whether the TaskManager answers. An outage is two events, however many calls fail in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{Event, Observer};
use crate::taskmanager::Error;

/// This many failed calls in a row are an outage. Each call counted here was retried several times, so a server that
/// fails some of its calls rarely gets here.
const OUTAGE_CALLS: u64 = 3;
/// Two failed calls are an outage if no call was answered for this long.
const OUTAGE_TIME: Duration = Duration::from_secs(1);
/// One failed call is an outage if its Retry-After is longer than this: nobody calls the TaskManager meanwhile.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// This many failed claims of a type in a row are no accident, even if other calls are answered.
const MOST_FAILED_CLAIMS: u32 = 12;

struct Outage {
    since: Instant,
    failed_calls: u64,
    is_told: bool,
}

/// Failed claims of a type since the last that was answered.
struct FailedClaims {
    since: Instant,
    count: u32,
}

/// Tracks outages of the TaskManager from the outcome of all calls.
pub(super) struct OutageTracker<'a> {
    outage: Mutex<Option<Outage>>,
    /// By index of the type.
    failed_claims: Mutex<HashMap<usize, FailedClaims>>,
    answers: AtomicU64,
    observer: &'a dyn Observer,
}

impl<'a> OutageTracker<'a> {
    /// Starts without knowing the TaskManager: its first failed call is an outage.
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self { outage: Mutex::new(None), failed_claims: Mutex::default(), answers: AtomicU64::new(0), observer }
    }

    /// Starts with a TaskManager that has answered before.
    pub(super) fn answering(observer: &'a dyn Observer) -> Self {
        Self { answers: AtomicU64::new(1), ..Self::new(observer) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock()
    }

    fn failed_claims(&self) -> MutexGuard<'_, HashMap<usize, FailedClaims>> {
        self.failed_claims.lock()
    }

    /// Records an answered call. True if others had failed before.
    pub(super) fn answered(&self) -> bool {
        self.answers.fetch_add(1, Relaxed);
        let Some(Outage { since, failed_calls, is_told }) = self.lock().take() else { return false };
        if is_told {
            self.observer.event(&Event::OutageEnded { length: since.elapsed(), failed_calls });
        }
        true
    }

    /// Records an answered claim of a type. True if calls had failed before.
    pub(super) fn claim_answered(&self, index: usize) -> bool {
        self.failed_claims().remove(&index);
        self.answered()
    }

    /// Whether calls have failed since the last one answered.
    pub(super) fn is_failing(&self) -> bool {
        self.lock().is_some()
    }

    /// Returns the time since the first of the current failed calls.
    fn silence(&self) -> Duration {
        self.lock().as_ref().map_or(Duration::ZERO, |outage| outage.since.elapsed())
    }

    /// Returns the number of answered calls.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// Records a failed call.
    pub(super) fn failed(&self, error: &Error) {
        let mut outage = self.lock();
        let it = outage.get_or_insert_with(|| Outage { since: Instant::now(), failed_calls: 0, is_told: false });
        it.failed_calls += 1;
        let is_long = it.failed_calls > 1 && it.since.elapsed() >= OUTAGE_TIME;
        let is_silent = self.answers() == 0 || error.retry_after() > Some(LONG_WAIT);
        let is_outage = is_silent || it.failed_calls >= OUTAGE_CALLS || is_long;
        if !std::mem::replace(&mut it.is_told, is_outage) && is_outage {
            drop(outage);
            self.observer.event(&Event::OutageStarted(error.to_string()));
        }
    }

    /// Records a failed claim of a type.
    pub(super) fn claim_failed(&self, index: usize, error: &Error) {
        let mut failed_claims = self.failed_claims();
        failed_claims.entry(index).or_insert_with(|| FailedClaims { since: Instant::now(), count: 0 }).count += 1;
        drop(failed_claims);
        self.failed(error);
    }

    /// Whether the worker should give up after a failed call: no call was answered for longer than `limit`, or none
    /// will be by the time the TaskManager asks to wait for.
    pub(super) fn is_given_up(&self, error: &Error, limit: Option<Duration>) -> bool {
        is_too_long(self.silence(), error, limit)
    }

    /// Like [`OutageTracker::is_given_up`] for a claim of a type, which may fail while other calls are answered.
    pub(super) fn is_claim_given_up(&self, index: usize, error: &Error, limit: Option<Duration>) -> bool {
        let broken_for = |it: &FailedClaims| (it.count >= MOST_FAILED_CLAIMS).then(|| it.since.elapsed());
        let time = self.failed_claims().get(&index).and_then(broken_for).unwrap_or_default();
        is_too_long(time.max(self.silence()), error, limit)
    }
}

/// Whether something that has failed for `time`, most recently with `error`, has failed for longer than `limit`.
pub(super) fn is_too_long(time: Duration, error: &Error, limit: Option<Duration>) -> bool {
    let asked = error.retry_after().unwrap_or_default();
    limit.is_some_and(|limit| time.saturating_add(asked) > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observer for Told {
        fn event(&self, event: &Event<'_>) {
            let word = match event {
                Event::OutageStarted(_) => "started".to_owned(),
                Event::OutageEnded { failed_calls, .. } => format!("ended after {failed_calls}"),
                other => format!("{other:?}"),
            };
            self.0.lock().push(word);
        }
    }

    fn error(retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Unavailable { url: String::new(), status: 503, reason: String::new(), retry_after }
    }

    #[test]
    fn several_failed_calls_in_a_row_are_an_outage() {
        let told = Told::default();
        let outage = OutageTracker::answering(&told);
        for _ in 0..10 {
            outage.failed(&error(None));
            outage.failed(&error(None));
            assert!(outage.is_failing());
            assert!(outage.answered(), "what waits for an answer hears of it all the same");
        }
        assert_eq!(*told.0.lock(), [] as [&str; 0]);
        (0..5).for_each(|_| outage.failed(&error(None)));
        assert!(outage.answered() && !outage.answered() && !outage.is_failing());
        assert_eq!(*told.0.lock(), ["started", "ended after 5"]);
    }

    #[test]
    fn before_its_first_answer_one_failed_call_is_an_outage() {
        let told = Told::default();
        OutageTracker::new(&told).failed(&error(None));
        assert_eq!(*told.0.lock(), ["started"]);
    }

    #[test]
    fn one_failed_call_is_an_outage_where_none_is_made_for_long() {
        for (asked, expected) in [(1, &[][..]), (60, &["started"])] {
            let told = Told::default();
            OutageTracker::answering(&told).failed(&error(Some(asked)));
            assert_eq!(*told.0.lock(), expected, "{asked}");
        }
    }

    #[test]
    fn patience_ends_where_nothing_was_answered_or_will_be_in_time() {
        let told = Told::default();
        let (outage, minute) = (OutageTracker::answering(&told), Some(Duration::from_mins(1)));
        outage.failed(&error(None));
        assert!(!outage.is_given_up(&error(None), minute));
        assert!(!outage.is_given_up(&error(Some(59)), minute));
        assert!(outage.is_given_up(&error(Some(60)), minute));
        assert!(!outage.is_given_up(&error(Some(60)), None));
        assert!(outage.is_given_up(&error(None), Some(Duration::ZERO)));
    }

    #[test]
    fn claims_of_a_type_that_always_fail_are_given_up_though_other_calls_are_answered() {
        let told = Told::default();
        let (outage, short) = (OutageTracker::answering(&told), Some(Duration::ZERO));
        for _ in 1..MOST_FAILED_CLAIMS {
            outage.claim_failed(7, &error(None));
            outage.claim_answered(8);
            assert!(!outage.is_claim_given_up(7, &error(None), short));
        }
        outage.claim_failed(7, &error(None));
        outage.claim_answered(8);
        assert!(outage.is_claim_given_up(7, &error(None), short) && !outage.is_claim_given_up(8, &error(None), short));
        outage.claim_answered(7);
        assert!(!outage.is_claim_given_up(7, &error(None), short));
    }
}
