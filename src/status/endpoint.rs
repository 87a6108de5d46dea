//! The status endpoint of a worker: how it is, for programs and for people.
//!
//! It shows types, counts and what handlers say of their progress and errors, never params, results or keys as such, and
//! asks for no key. Answers are made at most a few times a second, however often they are asked for.

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
use crate::http::{self, Limits, Listener, RunningServer, StartError, names_this_machine};

/// Few clients, and none for long: what they hold open are file descriptors that handlers need.
const LIMITS: Limits =
    Limits { client_timeout: Duration::from_secs(5), stop_timeout: Duration::from_millis(500), max_connections: 64 };
/// An answer is given again for so long.
const FRESH: Duration = Duration::from_millis(200);

/// Answers on `listener` from now on, in a thread of its own.
pub(crate) fn serve(listener: Listener, metrics: Arc<Metrics>) -> Result<RunningServer, StartError> {
    let mut router = router(metrics);
    if listener.address().ip().to_canonical().is_loopback() {
        router = router.layer(middleware::from_fn(from_here));
    }
    listener.start("status", |listener, stopped| http::serve(listener, router, LIMITS, stopped))
}

/// Only GET and, with it, HEAD: the router refuses the rest.
fn router(metrics: Arc<Metrics>) -> Router {
    let page = move |make: fn(&Shown) -> Answer| {
        let shown = Arc::new(Shown::new(Arc::clone(&metrics), make));
        get(|State(shown): State<Arc<Shown>>| async move { shown.answer() }).with_state(shown)
    };
    Router::new()
        .route("/", page(for_people))
        .route("/health", page(health))
        .route("/ready", page(ready))
        .route("/metrics", page(figures))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /, /health, /ready and /metrics\n") })
}

/// Turns away who calls this machine by a name that is not its own: a web page whose name was made to lead here.
async fn from_here(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "this is shown only to who calls it localhost, 127.0.0.1 or [::1]\n").into_response()
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, headers(self.content_type), self.body).into_response()
    }
}

/// What is shown under one path.
struct Shown {
    metrics: Arc<Metrics>,
    make: fn(&Self) -> Answer,
    last: Mutex<Option<(Instant, Answer)>>,
    processor: Mutex<Processor>,
}

impl Shown {
    fn new(metrics: Arc<Metrics>, make: fn(&Self) -> Answer) -> Self {
        Self { metrics, make, last: Mutex::default(), processor: Mutex::new(Processor::now()) }
    }

    fn answer(&self) -> Answer {
        let mut last = self.last.lock();
        if let Some((_, answer)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return answer.clone();
        }
        let answer = (self.make)(self);
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

fn for_people(shown: &Shown) -> Answer {
    Answer::new(StatusCode::OK, HTML, page::page(&shown.metrics.view()).document())
}

fn health(shown: &Shown) -> Answer {
    let health = shown.metrics.health();
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!(health);
    body["cpu_percent"] = json!(shown.processor.lock().percent());
    in_json(status, &body)
}

fn ready(shown: &Shown) -> Answer {
    match shown.metrics.not_ready() {
        None => in_json(StatusCode::OK, &json!({"ready": true})),
        Some(reason) => in_json(StatusCode::SERVICE_UNAVAILABLE, &json!({"ready": false, "reason": reason})),
    }
}

fn figures(shown: &Shown) -> Answer {
    match shown.metrics.text() {
        Ok(text) => Answer::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => in_json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error.to_string()})),
    }
}

fn in_json(status: StatusCode, body: &serde_json::Value) -> Answer {
    Answer::new(status, "application/json", format!("{body}\n"))
}

/// How busy the process is between two looks.
struct Processor {
    looked: Instant,
    used: Duration,
}

impl Processor {
    fn now() -> Self {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Self { looked: Instant::now(), used: Duration::try_from(used).unwrap_or_default() }
    }

    /// The share of one processor that was used since the last look, in percent.
    fn percent(&mut self) -> f64 {
        let now = Self::now();
        let used = now.used.saturating_sub(self.used).as_secs_f64();
        let passed = now.looked.duration_since(self.looked).as_secs_f64().max(0.001);
        *self = now;
        (used / passed * 1000.0).round() / 10.0
    }
}
