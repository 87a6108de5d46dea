//! A handler at the stand-in, with a ledger in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use prismq::internals::handler::Listener;
use prismq::internals::youtube::{Budget, Ledger, Settings, Spent, handler};
use prismq::internals::{CancelToken, claim, run};
use prismq::{Failure, Handler, Outcome};
use serde_json::Value;

use super::standin::{KEY, YouTube};

/// When the day of every ledger here ends.
pub(crate) const MIDNIGHT: &str = "2026-11-23T08:00:00Z";

/// A ledger in memory.
pub(crate) struct Memory {
    pub(crate) limit: u64,
    used: Mutex<u64>,
    videos: Mutex<HashMap<String, Value>>,
}

impl Ledger for Memory {
    fn budget(&self) -> Result<Budget, String> {
        let resets_at = MIDNIGHT.parse().unwrap();
        Ok(Budget { limit: self.limit, used: *self.used.lock().unwrap(), resets_at })
    }

    fn spend(&self, units: u64) -> Result<Spent, String> {
        let mut used = self.used.lock().unwrap();
        if *used + units > self.limit {
            return Ok(Spent::Exhausted);
        }
        *used += units;
        Ok(Spent::Counted)
    }

    fn give_back(&self, units: u64) -> Result<(), String> {
        *self.used.lock().unwrap() -= units;
        Ok(())
    }

    fn exhaust(&self) -> Result<(), String> {
        *self.used.lock().unwrap() = self.limit;
        Ok(())
    }

    fn cached(&self, ids: &[String]) -> Result<HashMap<String, Value>, String> {
        let videos = self.videos.lock().unwrap();
        Ok(ids.iter().filter_map(|id| Some((id.clone(), videos.get(id)?.clone()))).collect())
    }

    fn remember(&self, videos: &[(String, Value)]) -> Result<(), String> {
        self.videos.lock().unwrap().extend(videos.iter().cloned());
        Ok(())
    }
}

/// The stand-in, and what a handler works with.
pub(crate) struct Bench {
    pub(crate) api: YouTube,
    pub(crate) ledger: Arc<Memory>,
    pub(crate) key: Option<&'static str>,
    pub(crate) timeout: Duration,
    pub(crate) stop: Arc<CancelToken>,
}

impl Bench {
    pub(crate) fn new(api: YouTube) -> Self {
        Self::with_units(api, 10_000)
    }

    /// With so many units a day.
    pub(crate) fn with_units(api: YouTube, limit: u64) -> Self {
        Self {
            api,
            ledger: Arc::new(Memory { limit, used: Mutex::default(), videos: Mutex::default() }),
            key: Some(KEY),
            timeout: Duration::from_secs(60),
            stop: Arc::new(CancelToken::new(None)),
        }
    }

    pub(crate) fn handler(&self, name: &str) -> Arc<dyn Handler> {
        self.handler_at(name, self.api.url())
    }

    pub(crate) fn handler_at(&self, name: &str, url: String) -> Arc<dyn Handler> {
        let ledger: Arc<dyn Ledger> = self.ledger.clone();
        let settings = Settings { url, key: self.key.map(str::to_owned), ledger: Some(ledger), subtitles: false };
        handler(name, settings).unwrap()
    }

    pub(crate) fn run(&self, name: &str, params: Value) -> Outcome {
        self.run_by(&*self.handler(name), params)
    }

    pub(crate) fn run_by(&self, handler: &dyn Handler, params: Value) -> Outcome {
        handler.run(&claim(12, "example.youtube", params), &run(self.timeout, &self.stop, &Deaf))
    }

    /// The data of a task that succeeds.
    #[track_caller]
    pub(crate) fn succeed(&self, name: &str, params: Value) -> Value {
        let outcome = self.run(name, params);
        assert_eq!(outcome.failure, None);
        outcome.data
    }

    /// The failure of a task that fails as `error_type`, in one line.
    #[track_caller]
    pub(crate) fn fail(&self, name: &str, params: Value, error_type: &str) -> Failure {
        failure(&self.run(name, params), error_type)
    }

    /// The units that are used.
    pub(crate) fn used(&self) -> u64 {
        *self.ledger.used.lock().unwrap()
    }
}

/// The failure of `outcome`, which must have failed as `error_type`.
#[track_caller]
pub(crate) fn failure(outcome: &Outcome, error_type: &str) -> Failure {
    let failure = outcome.failure.clone().unwrap_or_else(|| panic!("it succeeded: {outcome:?}"));
    assert_eq!(failure.error_type.as_str(), error_type, "{failure:?}");
    assert!(!failure.error.is_empty() && failure.error.lines().count() == 1, "{failure:?}");
    failure
}

/// Asserts that `time` is about so long from now.
#[track_caller]
pub(crate) fn assert_from_now(time: Option<Timestamp>, wait: Duration) {
    let away = time.expect("a time").duration_since(Timestamp::now()).unsigned_abs();
    assert!(away <= wait && away > wait.saturating_sub(Duration::from_secs(30)), "{away:?}");
}

struct Deaf;

impl Listener for Deaf {
    fn progress(&self, _: u8, _: Option<&str>) {}

    fn stderr_line(&self, _: &str) {}
}
