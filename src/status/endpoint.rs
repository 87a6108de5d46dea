//! The status endpoint of a worker.
//!
//! It shows types, counts, and the progress and errors of handlers, but no params, results or keys, and requires no key.
//! Answers are cached, so they are computed at most a few times a second.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::metrics::Metrics;
use super::page;
use crate::http::page::{HTML, headers};
use crate::http::{self, ConnectionLimits, HttpListener, RunningServer, StartError, names_this_machine};

/// Low limits, since connections use file descriptors that handlers need.
const LIMITS: ConnectionLimits = ConnectionLimits {
    client_timeout: Duration::from_secs(5),
    stop_timeout: Duration::from_millis(500),
    max_connections: 64,
};
/// How long an answer is cached.
const CACHE_TIME: Duration = Duration::from_millis(200);

/// Starts serving on `listener`, in a new thread.
pub(crate) fn serve(listener: HttpListener, metrics: Arc<Metrics>) -> Result<RunningServer, StartError> {
    let mut router = router(metrics);
    if listener.address().ip().to_canonical().is_loopback() {
        router = router.layer(middleware::from_fn(require_local_host));
    }
    listener.start("status", |listener, stopped| http::serve(listener, router, LIMITS, stopped))
}

/// Routes GET and HEAD; all other methods are rejected.
fn router(metrics: Arc<Metrics>) -> Router {
    let page = move |render: fn(&CachedPath) -> CachedResponse| {
        let path = Arc::new(CachedPath::new(Arc::clone(&metrics), render));
        get(|State(path): State<Arc<CachedPath>>| async move { path.answer() }).with_state(path)
    };
    Router::new()
        .route("/", page(html_page))
        .route("/health", page(health))
        .route("/ready", page(ready))
        .route("/metrics", page(prometheus_text))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; try /, /health, /ready or /metrics\n") })
}

/// Rejects requests whose `Host` is not this machine, against DNS rebinding.
async fn require_local_host(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "only available as localhost, 127.0.0.1 or [::1]\n").into_response()
}

#[derive(Clone)]
struct CachedResponse {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl CachedResponse {
    fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into() }
    }
}

impl IntoResponse for CachedResponse {
    fn into_response(self) -> Response {
        (self.status, headers(self.content_type), self.body).into_response()
    }
}

/// A path whose answers are cached.
struct CachedPath {
    metrics: Arc<Metrics>,
    render: fn(&Self) -> CachedResponse,
    last: Mutex<Option<(Instant, CachedResponse)>>,
    cpu: Mutex<CpuMeter>,
}

impl CachedPath {
    fn new(metrics: Arc<Metrics>, render: fn(&Self) -> CachedResponse) -> Self {
        Self { metrics, render, last: Mutex::default(), cpu: Mutex::new(CpuMeter::now()) }
    }

    fn answer(&self) -> CachedResponse {
        let mut last = self.last.lock();
        if let Some((_, answer)) = last.as_ref().filter(|(made, _)| made.elapsed() < CACHE_TIME) {
            return answer.clone();
        }
        let answer = (self.render)(self);
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

fn html_page(path: &CachedPath) -> CachedResponse {
    CachedResponse::new(StatusCode::OK, HTML, page::page(&path.metrics.view()).document())
}

fn health(path: &CachedPath) -> CachedResponse {
    let health = path.metrics.health();
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!(health);
    body["cpu_percent"] = json!(path.cpu.lock().percent());
    json_response(status, &body)
}

fn ready(path: &CachedPath) -> CachedResponse {
    match path.metrics.not_ready() {
        None => json_response(StatusCode::OK, &json!({"ready": true})),
        Some(reason) => json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({"ready": false, "reason": reason})),
    }
}

fn prometheus_text(path: &CachedPath) -> CachedResponse {
    match path.metrics.text() {
        Ok(text) => CachedResponse::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error.to_string()})),
    }
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> CachedResponse {
    CachedResponse::new(status, "application/json", format!("{body}\n"))
}

/// Measures the CPU usage of this process between two calls.
struct CpuMeter {
    measured_at: Instant,
    used: Duration,
}

impl CpuMeter {
    fn now() -> Self {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Self { measured_at: Instant::now(), used: Duration::try_from(used).unwrap_or_default() }
    }

    /// Returns the CPU usage since the last call, in percent of one processor.
    fn percent(&mut self) -> f64 {
        let now = Self::now();
        let used = now.used.saturating_sub(self.used).as_secs_f64();
        let passed = now.measured_at.duration_since(self.measured_at).as_secs_f64().max(0.001);
        *self = now;
        (used / passed * 1000.0).round() / 10.0
    }
}
