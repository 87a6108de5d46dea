//! Fault injection, to test clients of the TaskManager. It wraps the calls, which are not aware of it.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use fastrand::Rng;
use tokio::{task, time};

use super::access::is_health;
use super::body::read;
use super::envelope::{CallError, NOT_QUITE_HTML, proxy_page, zoned_now};
use super::features::OfferedFeatures;
use super::published;
use crate::http::{Break, ConnectionHandle};

/// Faults to inject; none by default. A rate is the share of calls, from 0 (none) to 1 (all). At most one of `drop`,
/// `reset`, `deadlock`, `html` and `ratelimit` is injected into a call, so the sum of their rates should be at most 1.
/// `GET /health` is never affected.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// Process the call, then close the connection without an answer.
    pub drop: f64,
    /// Reset the connection without processing the call.
    pub reset: f64,
    /// Answer 500 with a database deadlock without processing the call.
    pub deadlock: f64,
    /// Answer 502 with a proxy's HTML page without processing the call.
    pub html: f64,
    /// Answer 429 with `Retry-After: 1` without processing the call.
    pub ratelimit: f64,
    /// Process every n-th claim, starting with the first, and reset its connection without an answer; 0: none. Does not
    /// depend on `seed`.
    pub claims: u64,
    /// Delay the answer until `delay` after the request. The call is processed before.
    pub latency: f64,
    /// The delay for `latency`.
    pub delay: Duration,
    /// Answer as the published TaskManager does instead of as documented.
    pub published: bool,
    /// The extensions of the API to offer; the published TaskManager has none.
    pub features: OfferedFeatures,
    /// Seed of the random generator: with the same faults and seed, the n-th call of two servers gets the same fault.
    pub seed: u64,
}

impl Faults {
    /// Maximum delay: shortly after that, the server itself closes the connection.
    pub const MAX_DELAY: Duration = Duration::from_secs(25);

    /// Returns the share of calls that fail.
    #[must_use]
    pub fn failing(&self) -> f64 {
        self.failures().iter().map(|(_, rate)| rate).sum()
    }

    /// Returns the extensions of the API that the server offers.
    pub(super) fn features(&self) -> OfferedFeatures {
        if self.published { OfferedFeatures::NONE } else { self.features }
    }

    /// Adds the faults to `router`.
    pub(super) fn wrap(&self, mut router: Router) -> Router {
        if self.published {
            router = published::wrap(router);
        }
        if self.failing() > 0.0 || self.latency > 0.0 || self.claims > 0 {
            let rng = Mutex::new(Rng::with_seed(self.seed));
            let injector = FaultInjector { faults: self.clone(), rng, claims: AtomicU64::new(0) };
            router = router.layer(middleware::from_fn_with_state(Arc::new(injector), inject));
        }
        router
    }

    fn failures(&self) -> [(InjectedFault, f64); 5] {
        [
            (InjectedFault::After(Break::Close), self.drop),
            (InjectedFault::Reset, self.reset),
            (InjectedFault::Instead(deadlock), self.deadlock),
            (InjectedFault::Instead(bad_gateway), self.html),
            (InjectedFault::Instead(too_many_requests), self.ratelimit),
        ]
    }
}

/// A fault of a call.
#[derive(Debug, Clone, Copy)]
enum InjectedFault {
    /// Breaks the connection after processing the call.
    After(Break),
    Reset,
    /// Answers without processing the call.
    Instead(fn() -> Response),
}

/// Decides which fault each call gets.
struct FaultInjector {
    faults: Faults,
    rng: Mutex<Rng>,
    /// Number of claims so far.
    claims: AtomicU64,
}

impl FaultInjector {
    /// Draws the fault and the delay of the next call. Both are drawn for every call, so that they are independent.
    fn draw(&self) -> (Option<InjectedFault>, Duration) {
        let (mut share, late) = {
            let mut rng = self.rng.lock();
            (rng.f64(), rng.f64())
        };
        let mut fault = None;
        for (candidate, rate) in self.faults.failures() {
            if share < rate {
                fault = Some(candidate);
                break;
            }
            share -= rate;
        }
        (fault, if late < self.faults.latency { self.faults.delay } else { Duration::ZERO })
    }

    /// Whether a request is a claim whose answer is dropped.
    fn drops_answer(&self, request: &Request) -> bool {
        let path = request.uri().path().trim_end_matches('/');
        let is_claim = self.faults.claims > 0 && request.method() == Method::POST && path == "/api/tasks/claim";
        is_claim && self.claims.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.faults.claims)
    }
}

async fn inject(
    State(injector): State<Arc<FaultInjector>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    if is_health(&request) {
        return next.run(request).await;
    }
    let (fault, delay) = injector.draw();
    let fault = fault.or_else(|| injector.drops_answer(&request).then_some(InjectedFault::After(Break::Reset)));
    let start = Instant::now();
    let answer = match fault {
        None => next.run(request).await,
        Some(InjectedFault::After(end)) => {
            let answer = next.run(request).await;
            connection.break_off(end);
            answer
        }
        Some(InjectedFault::Reset) => {
            connection.break_off(Break::Reset);
            StatusCode::NO_CONTENT.into_response()
        }
        Some(InjectedFault::Instead(answer)) => {
            // A client that is still sending would not see the answer.
            let _ = read(request.into_body()).await;
            answer()
        }
    };
    if !delay.is_zero() {
        sleep_until(start + delay).await;
    }
    answer
}

/// Sleeps more precisely than the runtime, whose timer is up to two milliseconds late, too much for benchmarks. The last
/// part is slept in a thread.
async fn sleep_until(end: Instant) {
    const LATE: Duration = Duration::from_millis(2);
    if let Some(early) = end.checked_sub(LATE) {
        time::sleep_until(early.into()).await;
    }
    let rest = move || thread::sleep(end.saturating_duration_since(Instant::now()));
    // Fails only if the server is stopping.
    let _ = task::spawn_blocking(rest).await;
}

/// Returns the published server's answer after a database deadlock.
fn deadlock() -> Response {
    let error = "SQLSTATE[40001]: Serialization failure: 1213 Deadlock found when trying to get lock; try restarting \
                 transaction";
    CallError::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
}

fn bad_gateway() -> Response {
    proxy_page(StatusCode::BAD_GATEWAY, "502 Bad Gateway")
}

/// Returns the published server's answer if its operator limits the rate of calls.
fn too_many_requests() -> Response {
    let body = format!(
        r#"{{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again in 1 seconds.","retry_after":1,"limit":100,"window":60,"timestamp":"{}"}}"#,
        zoned_now()
    );
    let retry_after = (header::RETRY_AFTER, "1");
    let limits = [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "0")];
    (StatusCode::TOO_MANY_REQUESTS, [NOT_QUITE_HTML, retry_after], limits, body).into_response()
}
