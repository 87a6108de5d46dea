//! A handler at the stand-in, with a ledger in a results file of its own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prismq::internals::handler::Listener;
use prismq::internals::youtube::{Ledger, YouTubeSettings, handler};
use prismq::internals::{CancelToken, Store, claim, run};
use prismq::{Failure, Handler, Outcome};
use serde_json::Value;
use tempfile::TempDir;

use super::standin::{KEY, YouTube};
use crate::support::FakeClock;

/// When the day of every ledger here ends. Its clock stands at 1970-01-01T00:00:00Z.
pub(crate) const MIDNIGHT: &str = "1970-01-01T08:00:00Z";

/// The stand-in, and the settings of a handler.
pub(crate) struct Bench {
    pub(crate) api: YouTube,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) _folder: TempDir,
    pub(crate) key: Option<&'static str>,
    pub(crate) timeout: Duration,
    pub(crate) stop: Arc<CancelToken>,
}

impl Bench {
    pub(crate) fn new(api: YouTube) -> Self {
        Self::with_units(api, 10_000)
    }

    /// Creates a bench with `limit` units a day.
    pub(crate) fn with_units(api: YouTube, limit: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("results.db")).unwrap());
        Self {
            api,
            ledger: Arc::new(Ledger::new(store, FakeClock::new(), limit, Duration::from_hours(1))),
            _folder: folder,
            key: Some(KEY),
            timeout: Duration::from_secs(60),
            stop: Arc::new(CancelToken::new(None)),
        }
    }

    pub(crate) fn handler(&self, name: &str) -> Arc<dyn Handler> {
        self.handler_at(name, self.api.url())
    }

    pub(crate) fn handler_at(&self, name: &str, url: String) -> Arc<dyn Handler> {
        let (key, ledger) = (self.key.map(str::to_owned), Some(Arc::clone(&self.ledger)));
        let settings = YouTubeSettings { url, key, ledger, subtitles: false };
        handler(name, settings).unwrap()
    }

    pub(crate) fn run(&self, name: &str, params: Value) -> Outcome {
        self.run_by(&*self.handler(name), params)
    }

    pub(crate) fn run_by(&self, handler: &dyn Handler, params: Value) -> Outcome {
        handler.run(&claim(12, "example.youtube", params), &run(self.timeout, &self.stop, &NullListener))
    }

    /// Runs a task that must succeed, and returns its data.
    #[track_caller]
    pub(crate) fn succeed(&self, name: &str, params: Value) -> Value {
        let outcome = self.run(name, params);
        assert_eq!(outcome.failure, None);
        outcome.data
    }

    /// Runs a task that must fail as `error_type` with a one-line error, and returns the failure.
    #[track_caller]
    pub(crate) fn fail(&self, name: &str, params: Value, error_type: &str) -> Failure {
        failure(&self.run(name, params), error_type)
    }

    /// Returns the used units.
    pub(crate) fn used(&self) -> u64 {
        self.ledger.budget().unwrap().used
    }
}

/// Returns the failure of `outcome`, which must be of type `error_type`.
#[track_caller]
pub(crate) fn failure(outcome: &Outcome, error_type: &str) -> Failure {
    let failure = outcome.failure.clone().unwrap_or_else(|| panic!("it succeeded: {outcome:?}"));
    assert_eq!(failure.error_type.as_str(), error_type, "{failure:?}");
    assert!(!failure.error.is_empty() && failure.error.lines().count() == 1, "{failure:?}");
    failure
}

/// Asserts that `time` is about `wait` from now.
#[track_caller]
pub(crate) fn assert_from_now(time: Option<Timestamp>, wait: Duration) {
    let away = time.expect("a time").duration_since(Timestamp::now()).unsigned_abs();
    assert!(away <= wait && away > wait.saturating_sub(Duration::from_secs(30)), "{away:?}");
}

struct NullListener;

impl Listener for NullListener {
    fn progress(&self, _: u8, _: Option<&str>) {}

    fn stderr_line(&self, _: &str) {}
}
