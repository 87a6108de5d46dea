//! The ledger against a clock that is set by hand.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::clock::{Slept, Timestamp};

struct SetClock(Mutex<Timestamp>);

impl SetClock {
    fn set(&self, now: &str) {
        *self.0.lock() = time(now);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn sleep(&self, _: Duration) -> Slept {
        Slept::Whole
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A ledger of 10,000 units that caches videos for an hour, and its events.
struct Rig {
    folder: TempDir,
    clock: Arc<SetClock>,
    ledger: Ledger,
    events: Arc<Mutex<Vec<QuotaEvent>>>,
}

impl Rig {
    fn at(now: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock(Mutex::new(time(now))));
        let events: Arc<Mutex<Vec<_>>> = Arc::default();
        let sent = Arc::clone(&events);
        let listener: QuotaListener = Box::new(move |event| sent.lock().push(event.clone()));
        let ledger = ledger(folder.path(), &clock, 10_000).with_listener(listener);
        Self { folder, clock, ledger, events }
    }

    /// Returns the ledger of another process with the same file.
    fn another(&self, limit: u64) -> Ledger {
        ledger(self.folder.path(), &self.clock, limit)
    }

    fn used(&self) -> u64 {
        self.ledger.budget().unwrap().used
    }

    /// Returns the events since the last call.
    fn events(&self) -> Vec<QuotaEvent> {
        std::mem::take(&mut self.events.lock())
    }
}

fn ledger(folder: &Path, clock: &Arc<SetClock>, limit: u64) -> Ledger {
    let store = Arc::new(Store::open(&folder.join("results.db")).unwrap());
    Ledger::new(store, clock.clone(), limit, Duration::from_hours(1))
}

fn video(id: &str) -> (String, Value) {
    (id.to_owned(), json!({"kind": "youtube#video", "id": id}))
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn a_day_ends_at_midnight_in_los_angeles_in_every_season() {
    for (now, day, end) in [
        ("2026-01-15T07:59:59.999Z", "2026-01-14", "2026-01-15T08:00:00Z"),
        ("2026-01-15T08:00:00Z", "2026-01-15", "2026-01-16T08:00:00Z"),
        ("2026-07-15T06:59:59.999Z", "2026-07-14", "2026-07-15T07:00:00Z"),
        ("2026-07-15T07:00:00Z", "2026-07-15", "2026-07-16T07:00:00Z"),
        // 23 hours, then 25.
        ("2026-03-08T08:00:00Z", "2026-03-08", "2026-03-09T07:00:00Z"),
        ("2026-03-09T06:59:59Z", "2026-03-08", "2026-03-09T07:00:00Z"),
        ("2026-11-01T07:00:00Z", "2026-11-01", "2026-11-02T08:00:00Z"),
        ("2026-11-02T07:59:59Z", "2026-11-01", "2026-11-02T08:00:00Z"),
        // The rules apply after the last listed year, too.
        ("2050-07-15T12:00:00Z", "2050-07-15", "2050-07-16T07:00:00Z"),
        ("2050-12-15T12:00:00Z", "2050-12-15", "2050-12-16T08:00:00Z"),
    ] {
        assert_eq!(day_at(time(now)), (day.parse().unwrap(), time(end)), "{now}");
    }
    assert_eq!(day_at(Timestamp::MAX).1, Timestamp::MAX);
}

#[test]
fn used_units_count_until_midnight_for_every_process() {
    for (before, after) in [
        ("2026-01-15T07:59:59Z", "2026-01-15T08:00:00Z"),
        ("2026-07-15T06:59:59Z", "2026-07-15T07:00:00Z"),
        ("2026-11-02T07:59:59Z", "2026-11-02T08:00:00Z"),
    ] {
        let rig = Rig::at(before);
        assert_eq!(rig.used(), 0);
        assert_eq!(rig.ledger.spend(9900), Ok(Spent::Counted));
        assert_eq!(rig.ledger.spend(101), Ok(Spent::Exhausted));
        assert_eq!(rig.another(10_000).spend(100), Ok(Spent::Counted));
        assert_eq!(rig.ledger.spend(1), Ok(Spent::Exhausted));
        let resets_at = time(after);
        assert_eq!(rig.ledger.budget(), Ok(Budget { limit: 10_000, used: 10_000, resets_at }));
        rig.clock.set(after);
        assert_eq!((rig.used(), rig.another(10_000).spend(100)), (0, Ok(Spent::Counted)));
        assert_eq!(rig.used(), 100);
        rig.clock.set(before);
        assert_eq!(rig.used(), 10_000);
    }
}

#[test]
fn nothing_is_counted_beyond_the_limit_though_all_spend_at_once() {
    const LIMIT: u64 = 100;
    let rig = Rig::at("2026-07-15T12:00:00Z");
    let ledgers: Vec<_> = (0..8).map(|_| rig.another(LIMIT)).collect();
    let start = Barrier::new(ledgers.len());
    let spend = |ledger: &Ledger| {
        start.wait();
        (0..20).filter(|_| ledger.spend(3).unwrap() == Spent::Counted).count()
    };
    let counted: usize = thread::scope(|scope| {
        let spenders: Vec<_> = ledgers.iter().map(|ledger| scope.spawn(|| spend(ledger))).collect();
        spenders.into_iter().map(|spender| spender.join().unwrap()).sum()
    });
    assert_eq!((counted, rig.used()), (33, 99));
}

#[test]
fn a_first_wish_beyond_the_limit_is_not_granted_either() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    assert_eq!(rig.another(99).spend(100), Ok(Spent::Exhausted));
    assert_eq!(rig.used(), 0);
}

#[test]
fn a_day_is_used_up_when_the_api_says_so() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    rig.ledger.exhaust().unwrap();
    assert_eq!(rig.ledger.budget().unwrap().left(), 0);
    assert_eq!(rig.another(10_000).spend(1), Ok(Spent::Exhausted));
    rig.another(500).exhaust().unwrap();
    assert_eq!(rig.used(), 10_000, "a lower limit takes nothing back");
    rig.clock.set("2026-07-16T12:00:00Z");
    assert_eq!(rig.ledger.spend(1), Ok(Spent::Counted));
}

#[test]
fn that_the_quota_is_low_is_told_once_a_day_from_four_fifths_on() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    let low = |used| {
        let events = rig.events();
        matches!(events.as_slice(), [QuotaEvent::Low(it)] if (it.used, it.left()) == (used, 10_000 - used))
    };
    rig.ledger.spend(7999).unwrap();
    assert_eq!(rig.events(), []);
    rig.ledger.spend(1).unwrap();
    assert!(low(8000));
    rig.ledger.spend(1).unwrap();
    assert_eq!(rig.events(), []);
    rig.clock.set("2026-07-16T12:00:00Z");
    rig.ledger.spend(9000).unwrap();
    assert!(low(9000));
}

#[test]
fn the_remaining_budget_is_emitted_as_an_event() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    rig.ledger.spend(7).unwrap();
    let budget = rig.ledger.budget().unwrap();
    assert_eq!((budget.used, rig.events()), (7, vec![QuotaEvent::Seen(budget)]));
}

#[test]
fn days_long_past_are_forgotten() {
    let rig = Rig::at("2026-11-14T12:00:00Z");
    rig.ledger.spend(1).unwrap();
    rig.clock.set("2026-11-21T12:00:00Z");
    rig.ledger.spend(2).unwrap();
    rig.clock.set("2026-12-15T00:00:00Z");
    assert_eq!(rig.ledger.prune(), Ok(false));
    rig.clock.set("2026-11-14T12:00:00Z");
    assert_eq!(rig.used(), 0);
    rig.clock.set("2026-11-21T12:00:00Z");
    assert_eq!(rig.used(), 2);
}

#[test]
fn videos_are_used_again_for_an_hour_by_every_process() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    rig.ledger.remember(&[video("one"), video("two")]).unwrap();
    rig.clock.set("2026-07-15T12:30:00Z");
    rig.ledger.remember(&[video("two"), ("it's".to_owned(), json!(null))]).unwrap();
    let found = rig.another(1).cached(&ids(&["one", "two", "it's", "three"])).unwrap();
    assert_eq!(found, HashMap::from([video("one"), video("two"), ("it's".to_owned(), json!(null))]));
    rig.clock.set("2026-07-15T13:00:00Z");
    assert_eq!(rig.ledger.cached(&ids(&["one", "two"])).unwrap(), HashMap::from([video("two")]));
    assert_eq!(rig.ledger.prune(), Ok(false));
    rig.clock.set("2026-07-15T12:00:00Z");
    assert_eq!(
        rig.ledger.cached(&ids(&["one", "two"])).unwrap().len(),
        2,
        "what is an hour old is not used, but there"
    );
    rig.clock.set("2026-07-15T13:30:01Z");
    rig.ledger.prune().unwrap();
    rig.clock.set("2026-07-15T12:00:00Z");
    assert_eq!(rig.ledger.cached(&ids(&["one", "two", "it's"])).unwrap().len(), 0);
}

#[test]
fn old_videos_are_pruned_in_steps() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    rig.ledger.remember(&(0..450).map(|number| video(&number.to_string())).collect::<Vec<_>>()).unwrap();
    rig.clock.set("2026-07-15T13:00:00Z");
    rig.ledger.remember(&[video("new")]).unwrap();
    rig.clock.set("2026-07-15T13:00:01Z");
    let count = || {
        let count = |it: &mut Connection| it.query_row("SELECT count(*) FROM youtube_videos", [], |row| row.get(0));
        rig.ledger.with(count).unwrap()
    };
    let mut left: Vec<u64> = Vec::new();
    while rig.ledger.prune().unwrap() {
        left.push(count());
    }
    assert_eq!((left, count()), (vec![251, 51], 1));
}

#[test]
fn no_video_is_kept_where_the_cache_is_off() {
    let rig = Rig::at("2026-07-15T12:00:00Z");
    let off = Ledger { keep: Duration::ZERO, ..rig.another(1) };
    off.remember(&[video("one")]).unwrap();
    assert_eq!(rig.ledger.cached(&ids(&["one"])).unwrap(), HashMap::new());
    rig.ledger.remember(&[video("one")]).unwrap();
    assert_eq!(off.cached(&ids(&["one"])).unwrap(), HashMap::new());
}
