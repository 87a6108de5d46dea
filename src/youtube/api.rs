//! Makes single calls to the API, with limits on time and size.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderValue, Uri};
use ureq::{Agent, RequestBuilder};

use super::failure::{ApiFailure, ApiReply, FailureKind};
use crate::os_error;
use crate::shutdown::CancelToken;
use crate::web::{self, Proxy, ServerAgent, refusal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Extra time before the waiting thread gives up on a call.
const GRACE: Duration = Duration::from_secs(5);
/// Maximum size of an answer: 16 MiB.
const MAX_ANSWER: u64 = 16 << 20;

/// Parameters of a query.
pub(super) type Query = Vec<(&'static str, String)>;

/// Makes calls with pooled connections.
pub(super) struct Api {
    /// The agent, or why it could not be created.
    agent: Result<ServerAgent, String>,
    key: Option<HeaderValue>,
    url: String,
}

/// Why a call failed.
pub(super) enum ApiError {
    /// The task was stopped.
    Stopped,
    /// The API did not answer, or answered with an error.
    Refused(ApiFailure),
}

impl Api {
    /// Creates a client for the API at `url`. A key that is not a valid header value is ignored.
    pub(super) fn new(url: &str, key: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // a redirect would carry the key to another host
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("prismq/", env!("CARGO_PKG_VERSION")));
        let uri = url.parse::<Uri>().map_err(|error| format!("{url:?} is not a valid URL: {error}"));
        let agent = uri.and_then(|uri| ServerAgent::new(&uri, Proxy::for_target(&uri)?, config, None));
        let key = key.and_then(|key| HeaderValue::from_str(key).ok()).map(|mut key| {
            key.set_sensitive(true);
            key
        });
        Self { agent, key, url: url.trim_end_matches('/').to_owned() }
    }

    /// Whether a key is set.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Lists `resource`. The call runs in another thread, so that `stop` interrupts the wait at once.
    pub(super) fn list(
        &self,
        resource: &str,
        query: &Query,
        timeout: Duration,
        stop: &CancelToken,
    ) -> Result<Value, ApiError> {
        let timeout = timeout.min(CALL_TIMEOUT);
        let setup_error =
            |reason: &String| ApiError::Refused(ApiFailure { kind: FailureKind::Other, reason: reason.clone() });
        let ServerAgent { agent, proxy } = self.agent.as_ref().map_err(setup_error)?;
        let request = self.request(agent, resource, query, timeout);
        let through = proxy.as_ref().map(|proxy| format!(" (through {proxy})"));
        let (answered, result) = mpsc::channel();
        let stopped = answered.clone();
        // If the receiver is gone, the message is not needed.
        stop.on_raise(None, move |_| drop(stopped.send(None)));
        let call = move || drop(answered.send(Some(send(request))));
        thread::Builder::new().name("youtube".into()).spawn(call).map_err(|error| {
            ApiError::Refused(not_received(format!(
                "cannot start a thread for the call: {}",
                os_error::message(&error)
            )))
        })?;
        match result.recv_timeout(timeout + GRACE) {
            Ok(None) => Err(ApiError::Stopped),
            Ok(Some(Ok(reply))) => reply.read().map_err(ApiError::Refused),
            Ok(Some(Err(mut failure))) => {
                failure.reason.extend(through);
                Err(ApiError::Refused(failure))
            }
            Err(_) => Err(ApiError::Refused(maybe_received("no answer in time"))),
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

fn send(request: RequestBuilder<ureq::typestate::WithoutBody>) -> Result<ApiReply, ApiFailure> {
    let mut answer = request.call().map_err(|error| call_error(&error))?;
    let retry_after =
        answer.headers().get("Retry-After").and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok());
    let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    Ok(ApiReply {
        status: answer.status().as_u16(),
        retry_after: retry_after.map(Duration::from_secs),
        body: body.map_err(|error| maybe_received(format!("the answer was cut short: {}", web::message(&error))))?,
    })
}

fn call_error(error: &ureq::Error) -> ApiFailure {
    if let Some(reason) = refusal(error) {
        return ApiFailure { kind: FailureKind::Other, reason: format!("YouTube could not be reached: {reason}") };
    }
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => not_received("no connection in time"),
        ureq::Error::Timeout(_) => maybe_received("no answer in time"),
        ureq::Error::Io(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {
            not_received(os_error::message(error))
        }
        ureq::Error::Io(error) => maybe_received(os_error::message(error)),
        other => maybe_received(other.to_string()),
    }
}

/// Returns the error for a call that did not reach the API.
fn not_received(reason: impl AsRef<str>) -> ApiFailure {
    unreachable(reason.as_ref(), false)
}

/// Returns the error for a call that the API may have received.
fn maybe_received(reason: impl AsRef<str>) -> ApiFailure {
    unreachable(reason.as_ref(), true)
}

fn unreachable(reason: &str, counted: bool) -> ApiFailure {
    let kind = FailureKind::Retryable { after: None, counted };
    ApiFailure { kind, reason: format!("YouTube could not be reached: {reason}") }
}
