//! Sends single HTTP requests and reads the whole answer, with limits on time and size.

use parking_lot::Mutex;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::Error;
use super::long_poll::{LongPollRequest, LongPollSupport};
use crate::json::MAX_BYTES;
use crate::os_error;
use crate::resources::is_shortage;
use crate::retry_after;
use crate::web::{self, Proxy, ServerAgent, WANTS_CREDENTIALS, is_loopback, refusal};

/// Maximum size of an answer, in bytes: the longest params, the longest result, and the rest of the task.
pub(super) const MAX_ANSWER: u64 = (2 * MAX_BYTES as u64) + (1 << 20);

/// Maximum length of a request's address, and of the key, in bytes: many servers accept no more, and both must fit into the
/// buffer of a connection.
const MAX_HEAD_PART: usize = 8 << 10;

/// Time-out of `DELETE`, which only ends long polls early.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

/// Status with which a server or proxy closes an idle connection. A request that was on its way was not processed (RFC
/// 9110, 15.5.9).
pub(super) const TIMED_OUT: u16 = 408;

/// How long calls use new connections after one has broken. If a server or balancer closes reused connections, the same
/// call in a series, such as a report after its look-up, would otherwise fail every time.
const NEW_CONNECTIONS_FOR: Duration = Duration::from_secs(10);

/// Separates the URL of a TaskManager from that of its proxy in errors.
pub(super) const THROUGH: &str = " through ";

/// Settings of the connection to a TaskManager.
#[derive(Clone)]
pub struct Connection {
    /// The base URL, which ends in `/api`.
    pub api_url: String,
    /// Sent as `X-API-Key`, never shown.
    pub api_key: Option<String>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Time-out for connecting.
    pub connect_timeout: Duration,
    /// Time-out for a whole call.
    pub call_timeout: Duration,
    /// Whether to ignore proxies in the environment, because this program has started the TaskManager.
    pub is_own: bool,
    /// Whether connections are reused. A reused connection may break, so clients without retries should not.
    pub keep_alive: bool,
}

impl Connection {
    /// Creates settings with the default time-outs: 5 s to connect, 30 s for a whole call.
    #[must_use]
    pub fn new(api_url: impl Into<String>, api_key: Option<String>) -> Self {
        Self {
            api_url: api_url.into(),
            api_key,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            is_own: false,
            keep_alive: true,
        }
    }

    /// Whether the key would be sent to another machine unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let uri: Option<Uri> = self.api_url.parse().ok();
        uri.is_some_and(|uri| uri.scheme_str() == Some("http") && !is_loopback(&uri))
    }

    /// The proxy on the way, for a person, if the address is one of this machine: nobody may have meant that.
    pub(crate) fn proxy_before_loopback(&self) -> Option<String> {
        let uri = self.api_url.parse().ok().filter(is_loopback)?;
        Some(self.proxy(&uri).ok()??.to_string())
    }

    /// The proxy on the way. The error is a line for a person.
    fn proxy(&self, uri: &Uri) -> Result<Option<Proxy>, String> {
        if self.is_own { Ok(None) } else { Proxy::for_target(uri) }
    }
}

/// Omits the key.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// A request and its result, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The name of the call, one of a fixed set.
    pub call: &'static str,
    /// The HTTP status, if a complete answer arrived.
    pub status: Option<u16>,
    /// The time from the first byte sent to the last byte read.
    pub took: Duration,
    /// Whether it was a long poll.
    pub held: bool,
}

/// A callback for each exchange, called by the thread that made it.
pub(crate) type Meter = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A request; its path is relative to the base URL.
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) method: Method<'a>,
}

impl Request<'_> {
    /// Returns the name of the call for a [`Meter`].
    fn call(&self) -> &'static str {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').split('/');
        match (&self.method, parts.next(), parts.next(), parts.next()) {
            (Method::Get, Some("health"), None, None) => "health",
            (Method::Get, Some("tasks"), None, None) => "list_tasks",
            (Method::Get, Some("tasks"), Some(_), None) => "show_task",
            (Method::Get, Some("task-types"), None, None) => "list_types",
            (Method::Get, Some("task-types"), Some(_), None) => "show_type",
            (Method::Post { .. }, Some("tasks"), None, None) => "create_task",
            (Method::Post { .. }, Some("task-types"), Some("register"), None) => "register_type",
            (Method::Post { .. }, Some("tasks"), Some("claim"), None) if self.is_long_poll() => "claim_wait",
            (Method::Post { .. }, Some("tasks"), Some("claim"), None) => "claim",
            (Method::Delete, Some("tasks"), Some("claim"), None) => "withdraw_claims",
            (Method::Post { .. }, Some("tasks"), Some("complete"), None)
            | (Method::Post { .. }, Some("tasks"), Some(_), Some("complete")) => "complete",
            (Method::Post { .. }, Some("tasks"), Some("renew"), None) => "renew",
            (Method::Post { .. }, Some("tasks"), Some(_), Some("progress")) => "progress",
            _ => "other",
        }
    }

    /// Returns what the applied preferences of an answer say about the server.
    fn long_polling(&self, preferences: &str) -> LongPollSupport {
        match &self.method {
            Method::Post { wait, .. } if wait.is_requested() => LongPollSupport::applied(preferences, wait),
            _ => LongPollSupport::No,
        }
    }

    fn is_long_poll(&self) -> bool {
        matches!(self.method, Method::Post { wait, .. } if wait.is_requested())
    }
}

pub(super) enum Method<'a> {
    Get,
    Post { body: &'a Value, wait: LongPollRequest<'a> },
    Delete,
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// Whether the server applied `Prefer: wait`.
    pub(super) long_polling: LongPollSupport,
    pub(super) body: Vec<u8>,
    /// Whether the body is longer than the limit and was truncated.
    pub(super) is_cut: bool,
}

/// Sends single requests with pooled connections.
#[derive(Clone)]
pub(super) struct Http {
    agent: ureq::Agent,
    key: Option<HeaderValue>,
    pub(super) url: Arc<str>,
    /// The base URL for messages, with the proxy if there is one.
    pub(super) shown_url: Arc<str>,
    meter: Option<Meter>,
    /// When a connection last broke.
    broken_at: Arc<Mutex<Option<Instant>>>,
}

impl Http {
    /// The error is one line that says what is wrong with the key or the certificates.
    pub(super) fn new(connection: &Connection) -> Result<Self, String> {
        let uri = base_uri(&connection.api_url)?;
        let idle_connections = if connection.keep_alive { 64 } else { 0 };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // a redirect would carry the key to another host
            .timeout_connect(Some(connection.connect_timeout))
            .timeout_global(Some(connection.call_timeout))
            .user_agent(concat!("prismq/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(idle_connections)
            .max_idle_connections_per_host(idle_connections);
        let ServerAgent { agent, proxy } =
            ServerAgent::new(&uri, connection.proxy(&uri)?, config, connection.ca_file.as_deref())?;
        let url = connection.api_url.trim_end_matches('/');
        let shown = proxy.map_or_else(|| url.to_owned(), |proxy| format!("{url}{THROUGH}{proxy}"));
        Ok(Self {
            agent,
            key: connection.api_key.as_deref().map(header).transpose()?,
            url: url.into(),
            shown_url: shown.into(),
            meter: None,
            broken_at: Arc::default(),
        })
    }

    /// Returns the key.
    pub(super) fn key(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_ref()?.as_bytes()).ok()
    }

    /// Returns this agent without the key.
    pub(super) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// Returns this agent with a callback for each request.
    pub(super) fn with_meter(&self, meter: Meter) -> Self {
        Self { meter: Some(meter), ..self.clone() }
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Response, Error> {
        let start = Instant::now();
        let response = self.exchange(request);
        if matches!(&response, Err(Error::Unreachable { .. }) | Ok(Response { status: TIMED_OUT, .. })) {
            *self.broken_at.lock() = Some(Instant::now());
        }
        let status = response.as_ref().ok().map(|response| response.status);
        let (call, took) = (request.call(), start.elapsed());
        log::debug!(call, status, seconds = took.as_secs_f64(); "TaskManager call");
        if let Some(meter) = &self.meter {
            meter(&Exchange { call, status, took, held: request.is_long_poll() });
        }
        response
    }

    fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        let url = format!("{}{}", self.url, request.path);
        if url.len() > MAX_HEAD_PART {
            let length = url.len();
            let message = format!("its address would have {length} bytes, more than {MAX_HEAD_PART}");
            return Err(Error::Refused { status: StatusCode::URI_TOO_LONG.as_u16(), message });
        }
        let answer = match request.method {
            Method::Get => self.prepare(self.agent.get(&url)).call(),
            Method::Delete => {
                let request = self.agent.delete(&url).config().timeout_global(Some(DELETE_TIMEOUT)).build();
                self.prepare(request).call()
            }
            Method::Post { body, wait } => self
                .prepare(self.with_long_poll(self.agent.post(&url), &wait))
                .header("Content-Type", "application/json")
                .send(body.to_string().as_bytes()),
        };
        let mut answer = answer.map_err(|error| self.connection_error(&error))?;
        if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Error::NotConnected { url: self.shown_url.to_string(), reason: WANTS_CREDENTIALS.to_owned() });
        }
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(MAX_ANSWER + 1).read_to_end(&mut body);
        read.map_err(|error| self.read_error(&error.into()))?;
        let header = |name| text_header(answer.headers(), name);
        Ok(Response {
            status: answer.status().as_u16(),
            retry_after: retry_after(answer.headers()),
            location: header("Location"),
            long_polling: header("Preference-Applied")
                .map_or(LongPollSupport::No, |applied| request.long_polling(&applied)),
            is_cut: body.len() as u64 > MAX_ANSWER,
            body,
        })
    }

    /// Adds `Prefer: wait` for a long poll.
    fn with_long_poll<B>(
        &self,
        request: ureq::RequestBuilder<B>,
        wait: &LongPollRequest<'_>,
    ) -> ureq::RequestBuilder<B> {
        if !wait.is_requested() {
            return request;
        }
        let timeout = self.agent.config().timeouts().global.map(|timeout| timeout + wait.time);
        request.header("Prefer", wait.preference()).config().timeout_global(timeout).build()
    }

    /// Adds the key, and makes the request use a new connection if one has broken recently.
    fn prepare<B>(&self, mut request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let broken_at = *self.broken_at.lock();
        if broken_at.is_some_and(|broken_at| broken_at.elapsed() < NEW_CONNECTIONS_FOR) {
            // No idle connection is young enough.
            request = request.config().max_idle_age(Duration::ZERO).build();
        }
        match &self.key {
            Some(key) => request.header("X-API-Key", key),
            None => request,
        }
    }

    fn connection_error(&self, error: &ureq::Error) -> Error {
        let url = self.shown_url.to_string();
        if let Some(reason) = refusal(error) {
            return Error::NotConnected { url, reason };
        }
        let reason = match error {
            ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                "it closed the connection without answering".into()
            }
            ureq::Error::Io(error) if is_shortage(error) => {
                return Error::Shortage { url, reason: os_error::message(error) };
            }
            ureq::Error::Io(error) => os_error::message(error),
            ureq::Error::Timeout(ureq::Timeout::Connect) => "no connection in time".into(),
            ureq::Error::Timeout(_) => "no answer in time".into(),
            ureq::Error::ConnectProxyFailed(reason) => reason.clone(),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                let hint = if url.starts_with("http://") { ": is it https://, or another port?" } else { "" };
                let reason = format!("it does not answer in valid HTTP ({error}){hint}");
                return Error::NotATaskManager { url, reason };
            }
            other => other.to_string(),
        };
        Error::Unreachable { url, reason }
    }

    fn read_error(&self, error: &ureq::Error) -> Error {
        let url = self.shown_url.to_string();
        let reason = match error {
            ureq::Error::Timeout(_) => "the answer timed out".into(),
            other => match refusal(other) {
                Some(reason) => return Error::NotConnected { url, reason },
                None => format!("the answer was cut short: {}", web::message(other)),
            },
        };
        Error::Unreachable { url, reason }
    }
}

fn base_uri(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a valid URL: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(format!("{url:?} is not a valid URL: it must start with http:// or https://")),
    }
}

fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// Parses `Retry-After`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("Retry-After").iter().filter_map(|value| value.to_str().ok());
    retry_after::longest(values, text_header(headers, "Date").as_deref())
}

fn header(key: &str) -> Result<HeaderValue, String> {
    if key.len() > MAX_HEAD_PART {
        return Err(format!("the API key has {} bytes, more than {MAX_HEAD_PART}: is that a key?", key.len()));
    }
    // The library's error is dropped because it could quote the key.
    let mut value =
        HeaderValue::from_str(key).map_err(|_| "the API key contains characters that are not allowed in a header")?;
    value.set_sensitive(true);
    Ok(value)
}
