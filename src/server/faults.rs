//! What goes wrong on purpose, so that programs which call a TaskManager can be tried. It lies over the calls, which
//! know nothing of it.

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
use super::envelope::{Failure, NOT_QUITE_HTML, proxy_page, zoned_now};
use super::published;
use crate::http::{Break, ConnectionHandle};

/// What goes wrong on purpose, and how often: nothing by default. A rate is a share of the calls, from 0 (none) to 1
/// (all). At most one of `drop`, `reset`, `deadlock`, `html` and `ratelimit` befalls a call, so their rates should
/// make no more than 1 together. `GET /health` is spared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// The work is done; then the connection is closed without an answer.
    pub drop: f64,
    /// The connection is reset, and the work is not done.
    pub reset: f64,
    /// The answer is 500 and tells of a deadlock in the database; the work is not done.
    pub deadlock: f64,
    /// The answer is 502 and a proxy's HTML page; the work is not done.
    pub html: f64,
    /// The answer is 429, with `Retry-After: 1`; the work is not done.
    pub ratelimit: f64,
    /// Of so many claims one after the other, the first is done, and then the connection is reset; 0: of none. Neither
    /// chance nor `seed` has a say in it.
    pub claims: u64,
    /// Whatever becomes of the call, its end comes no sooner than `delay` after it; the work is done before.
    pub latency: f64,
    /// How late it then is.
    pub delay: Duration,
    /// Whether it answers as the published TaskManager does, not as the documents say.
    pub published: bool,
    /// What chance follows: the n-th call of two servers with the same faults and the same seed fares alike.
    pub seed: u64,
}

impl Faults {
    /// The longest delay that makes sense: soon after, the server itself gives the connection up.
    pub const LONGEST_DELAY: Duration = Duration::from_secs(25);

    /// The share of the calls that fail.
    #[must_use]
    pub fn failing(&self) -> f64 {
        self.failures().iter().map(|(_, rate)| rate).sum()
    }

    /// The calls of `router`, with these faults.
    pub(super) fn over(&self, mut router: Router) -> Router {
        if self.published {
            router = published::over(router);
        }
        if self.failing() > 0.0 || self.latency > 0.0 || self.claims > 0 {
            let rng = Mutex::new(Rng::with_seed(self.seed));
            let chance = Chance { faults: self.clone(), rng, claims: AtomicU64::new(0) };
            router = router.layer(middleware::from_fn_with_state(Arc::new(chance), befall));
        }
        router
    }

    fn failures(&self) -> [(Fault, f64); 5] {
        [
            (Fault::After(Break::Close), self.drop),
            (Fault::Reset, self.reset),
            (Fault::Instead(deadlock), self.deadlock),
            (Fault::Instead(bad_gateway), self.html),
            (Fault::Instead(too_many_requests), self.ratelimit),
        ]
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The end of the connection after the work.
    After(Break),
    Reset,
    /// An answer without the work.
    Instead(fn() -> Response),
}

/// What decides over each call.
struct Chance {
    faults: Faults,
    rng: Mutex<Rng>,
    /// How many there were.
    claims: AtomicU64,
}

impl Chance {
    /// What befalls the next call, and how late its end comes. Both are drawn for every call, so that the one does
    /// not change the other.
    fn draw(&self) -> (Option<Fault>, Duration) {
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

    /// Whether a call is a claim whose answer is to be lost.
    fn loses(&self, request: &Request) -> bool {
        let path = request.uri().path().trim_end_matches('/');
        let is_claim = self.faults.claims > 0 && request.method() == Method::POST && path == "/api/tasks/claim";
        is_claim && self.claims.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.faults.claims)
    }
}

async fn befall(
    State(chance): State<Arc<Chance>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    if is_health(&request) {
        return next.run(request).await;
    }
    let (fault, delay) = chance.draw();
    let fault = fault.or_else(|| chance.loses(&request).then_some(Fault::After(Break::Reset)));
    let start = Instant::now();
    let answer = match fault {
        None => next.run(request).await,
        Some(Fault::After(end)) => {
            let answer = next.run(request).await;
            connection.break_off(end);
            answer
        }
        Some(Fault::Reset) => {
            connection.break_off(Break::Reset);
            StatusCode::NO_CONTENT.into_response()
        }
        Some(Fault::Instead(answer)) => {
            // Whoever is still sending would not see the answer.
            let _ = read(request.into_body()).await;
            answer()
        }
    };
    if !delay.is_zero() {
        sleep_until(start + delay).await;
    }
    answer
}

/// Sleeps more exactly than the runtime, whose timer is up to two milliseconds late: too much to try the speed of
/// clients by. The rest is slept in a thread.
async fn sleep_until(end: Instant) {
    const LATE: Duration = Duration::from_millis(2);
    if let Some(early) = end.checked_sub(LATE) {
        time::sleep_until(early.into()).await;
    }
    let rest = move || thread::sleep(end.saturating_duration_since(Instant::now()));
    // It fails only where the server ends.
    let _ = task::spawn_blocking(rest).await;
}

/// As the published server tells of a deadlock in its database.
fn deadlock() -> Response {
    let error = "SQLSTATE[40001]: Serialization failure: 1213 Deadlock found when trying to get lock; try restarting \
                 transaction";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
}

fn bad_gateway() -> Response {
    proxy_page(StatusCode::BAD_GATEWAY, "502 Bad Gateway")
}

/// As the published server answers where its operator limits calls.
fn too_many_requests() -> Response {
    let body = format!(
        r#"{{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again in 1 seconds.","retry_after":1,"limit":100,"window":60,"timestamp":"{}"}}"#,
        zoned_now()
    );
    let retry_after = (header::RETRY_AFTER, "1");
    let limits = [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "0")];
    (StatusCode::TOO_MANY_REQUESTS, [NOT_QUITE_HTML, retry_after], limits, body).into_response()
}
