//! One call of the API: a request out, a whole answer back, bounded in time and size.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderValue, Uri};
use ureq::{Agent, RequestBuilder};

use super::refusal::{Refusal, RefusalKind, Reply};
use crate::os_error;
use crate::shutdown::Stop;
use crate::web::{self, Proxy, Way, refusal};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a whole call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much later than that it is given up for lost.
const LATE: Duration = Duration::from_secs(5);
/// The most that is read of an answer: 16 MiB.
const MAX_ANSWER: u64 = 16 << 20;

/// A query by its parameters.
pub(super) type Query = Vec<(&'static str, String)>;

/// A pooled agent that makes single calls.
pub(super) struct Api {
    /// Or why there is none.
    way: Result<Way, String>,
    key: Option<HeaderValue>,
    url: String,
}

/// A call without the object that was asked for.
pub(super) enum ApiError {
    /// Somebody raised the stop.
    Stopped,
    /// The API did not answer, or said no.
    Refused(Refusal),
}

impl Api {
    /// An agent for the API below `url`. A key that no header can carry is none.
    pub(super) fn new(url: &str, key: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // a redirect would carry the key to another host
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("prismq/", env!("CARGO_PKG_VERSION")));
        let uri = url.parse::<Uri>().map_err(|error| format!("{url:?} is not a valid URL: {error}"));
        let way = uri.and_then(|uri| Way::to(&uri, Proxy::for_target(&uri)?, config, None));
        let key = key.and_then(|key| HeaderValue::from_str(key).ok()).map(|mut key| {
            key.set_sensitive(true);
            key
        });
        Self { way, key, url: url.trim_end_matches('/').to_owned() }
    }

    /// Whether there is a key to call with.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Asks for what `resource` lists by `query`. The call runs in a thread of its own, so that `stop` ends the wait for
    /// it at once.
    pub(super) fn list(
        &self,
        resource: &str,
        query: &Query,
        timeout: Duration,
        stop: &Stop,
    ) -> Result<Value, ApiError> {
        let timeout = timeout.min(CALL_TIMEOUT);
        let no_way = |reason: &String| ApiError::Refused(Refusal { kind: RefusalKind::Other, reason: reason.clone() });
        let way = self.way.as_ref().map_err(no_way)?;
        let request = self.request(&way.agent, resource, query, timeout);
        let through = way.proxy.as_ref().map(|proxy| format!(" (through {proxy})"));
        let (answered, told) = mpsc::channel();
        let stopped = answered.clone();
        // Whoever waited may have gone: then nobody needs to be told.
        stop.on_raise(None, move |_| drop(stopped.send(None)));
        let call = move || drop(answered.send(Some(send(request))));
        thread::Builder::new().name("youtube".into()).spawn(call).map_err(|error| {
            ApiError::Refused(not_reached(format!("no thread for a call: {}", os_error::words(&error))))
        })?;
        match told.recv_timeout(timeout + LATE) {
            Ok(None) => Err(ApiError::Stopped),
            Ok(Some(Ok(reply))) => reply.read().map_err(ApiError::Refused),
            Ok(Some(Err(mut refusal))) => {
                refusal.reason.extend(through);
                Err(ApiError::Refused(refusal))
            }
            Err(_) => Err(ApiError::Refused(lost("no answer in time"))),
        }
    }

    fn request(
        &self,
        agent: &Agent,
        resource: &str,
        query: &Query,
        timeout: Duration,
    ) -> RequestBuilder<ureq::typestate::WithoutBody> {
        let pairs = query.iter().map(|(name, value)| (name, value));
        let request = agent.get(format!("{}/{resource}", self.url)).query_pairs(pairs);
        let request = request.config().timeout_global(Some(timeout)).build();
        match &self.key {
            Some(key) => request.header("X-Goog-Api-Key", key),
            None => request,
        }
    }
}

fn send(request: RequestBuilder<ureq::typestate::WithoutBody>) -> Result<Reply, Refusal> {
    let mut answer = request.call().map_err(|error| no_answer(&error))?;
    let retry_after =
        answer.headers().get("Retry-After").and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok());
    let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    Ok(Reply {
        status: answer.status().as_u16(),
        retry_after: retry_after.map(Duration::from_secs),
        body: body.map_err(|error| lost(format!("the answer was cut short: {}", web::words(&error))))?,
    })
}

fn no_answer(error: &ureq::Error) -> Refusal {
    if let Some(reason) = refusal(error) {
        return Refusal { kind: RefusalKind::Other, reason: format!("YouTube could not be reached: {reason}") };
    }
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => not_reached("no connection in time"),
        ureq::Error::Timeout(_) => lost("no answer in time"),
        ureq::Error::Io(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {
            not_reached(os_error::words(error))
        }
        ureq::Error::Io(error) => lost(os_error::words(error)),
        other => lost(other.to_string()),
    }
}

/// A call that has not got as far as to the API.
fn not_reached(reason: impl AsRef<str>) -> Refusal {
    unreachable(reason.as_ref(), false)
}

/// A call that the API may have got.
fn lost(reason: impl AsRef<str>) -> Refusal {
    unreachable(reason.as_ref(), true)
}

fn unreachable(reason: &str, counted: bool) -> Refusal {
    let kind = RefusalKind::Again { after: None, counted };
    Refusal { kind, reason: format!("YouTube could not be reached: {reason}") }
}
