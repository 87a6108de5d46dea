//! One HTTP exchange: a request out, a whole answer back, bounded in time and size.

use parking_lot::Mutex;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::Error;
use crate::json::MAX_BYTES;
use crate::os_error;
use crate::resources::is_shortage;
use crate::retry_after;
use crate::web::{self, Proxy, WANTS_CREDENTIALS, Way, is_loopback, refusal};

/// The most that is read of an answer, in bytes: the longest params, the longest result, and what surrounds them.
pub(super) const MAX_ANSWER: u64 = (2 * MAX_BYTES as u64) + (1 << 20);

/// The longest that a call which only spares somebody a wait may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a server, or a proxy before it, says that it gives up a connection on which no request came in time. A request that
/// was on its way was not done (RFC 9110, 15.5.9).
pub(super) const TIMED_OUT: u16 = 408;

/// How long calls take fresh connections after one has broken. A balancer or server that gives up connections which were
/// used before would else meet the same call of a series each time, a report after its look-up say, for ever.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// Between the address of a TaskManager and that of the proxy before it, in errors.
pub(super) const THROUGH: &str = " through ";

/// How to reach a TaskManager.
#[derive(Clone)]
pub struct Connection {
    /// The base URL, which ends in `/api`.
    pub api_url: String,
    /// Sent as `X-API-Key` and shown nowhere.
    pub api_key: Option<String>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The longest that connecting may take.
    pub connect_timeout: Duration,
    /// The longest that a whole call may take.
    pub call_timeout: Duration,
    /// Whether the TaskManager is reached directly although the environment names a proxy for it: this program has started
    /// it.
    pub is_own: bool,
    /// Whether a connection is kept for the next call. One that was kept may break, so who tries each call once has none.
    pub keep_alive: bool,
}

impl Connection {
    /// The standard time-outs: 5 s to connect, 30 s for a whole call.
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

    /// Whether the key would cross a network in clear text: http, to another machine.
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

/// Shows everything but the key.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// One request and what came of it, for whoever counts them.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The call, by the name of a command that makes it, say: one of a few.
    pub call: &'static str,
    /// The HTTP status of the answer, where a whole one came.
    pub status: Option<u16>,
    /// From the first byte that was sent to the last that was read.
    pub took: Duration,
    /// The server was asked to hold its answer back until there is a task.
    pub held: bool,
}

/// Hears of every exchange, from the thread that made it.
pub(crate) type Meter = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A request, by its path below the base URL.
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) method: Method<'a>,
}

impl Request<'_> {
    /// Its name for a [`Meter`].
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
            (Method::Post { .. }, Some("tasks"), Some("claim"), None) if self.is_held() => "claim_wait",
            (Method::Post { .. }, Some("tasks"), Some("claim"), None) => "claim",
            (Method::Delete, Some("tasks"), Some("claim"), None) => "withdraw_claims",
            (Method::Post { .. }, Some("tasks"), Some(_), Some("complete")) => "complete",
            (Method::Post { .. }, Some("tasks"), Some(_), Some("progress")) => "progress",
            _ => "other",
        }
    }

    /// What an answer that has applied these preferences says of the server.
    fn waits(&self, preferences: &str) -> Waits {
        match &self.method {
            Method::Post { wait, .. } if wait.is_asked_for() => Waits::applied(preferences, wait),
            _ => Waits::No,
        }
    }

    fn is_held(&self) -> bool {
        matches!(self.method, Method::Post { wait, .. } if wait.is_asked_for())
    }
}

/// A wait that the server is asked for, until it has an answer that is worth having.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wait<'a> {
    /// How long at most, in whole seconds; not at all under one.
    pub time: Duration,
    /// The numbers of the types of which a task would do as well.
    pub others: &'a [u64],
}

impl Wait<'_> {
    /// Whether there is one to ask for.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.time.as_secs() > 0
    }

    /// The preference (RFC 7240). `task-types` is our own; servers ignore what they do not know.
    fn preference(&self) -> String {
        let others: Vec<String> = self.others.iter().map(u64::to_string).collect();
        let others = if others.is_empty() { String::new() } else { format!(", task-types=\"{}\"", others.join(" ")) };
        format!("wait={}{others}", self.time.as_secs())
    }
}

/// Whether a server waits where it is asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Waits {
    /// It answers at once.
    #[default]
    No,
    /// For a task of the one type that the claim is for.
    ForOne,
    /// For a task of any of the types that it was asked to wait for.
    ForAny,
}

impl Waits {
    /// As the answer to `wait` says which preferences were applied.
    fn applied(preferences: &str, wait: &Wait<'_>) -> Self {
        let applied = |wanted| preferences.split(',').any(|name| name.trim().eq_ignore_ascii_case(wanted));
        match applied("wait") {
            false => Self::No,
            true if wait.others.is_empty() || applied("task-types") => Self::ForAny,
            true => Self::ForOne,
        }
    }
}

/// How a request is made.
pub(super) enum Method<'a> {
    Get,
    Post { body: &'a Value, wait: Wait<'a> },
    Delete,
}

/// What came back for a request.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// Whether the server has done as `Prefer: wait` asked.
    pub(super) waits: Waits,
    pub(super) body: Vec<u8>,
    /// Whether there is more, which was not read.
    pub(super) is_cut: bool,
}

/// A pooled agent that sends single requests.
#[derive(Clone)]
pub(super) struct Http {
    agent: ureq::Agent,
    key: Option<HeaderValue>,
    pub(super) url: Arc<str>,
    /// The same for a person, with the proxy before it.
    pub(super) shown_url: Arc<str>,
    meter: Option<Meter>,
    /// When a connection last broke.
    broken_at: Arc<Mutex<Option<Instant>>>,
}

impl Http {
    /// Fails with a line for a person where the key or the certificates cannot be used.
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
        let Way { agent, proxy } = Way::to(&uri, connection.proxy(&uri)?, config, connection.ca_file.as_deref())?;
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

    /// The key that goes with every request.
    pub(super) fn key(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_ref()?.as_bytes()).ok()
    }

    /// The same agent, which sends no key.
    pub(super) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// The same agent, of whose requests `meter` hears.
    pub(super) fn with_meter(&self, meter: Meter) -> Self {
        Self { meter: Some(meter), ..self.clone() }
    }

    /// Sends one request and reads the whole answer, whatever its status.
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
            meter(&Exchange { call, status, took, held: request.is_held() });
        }
        response
    }

    fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        let url = format!("{}{}", self.url, request.path);
        let answer = match request.method {
            Method::Get => self.ready(self.agent.get(&url)).call(),
            Method::Delete => {
                let request = self.agent.delete(&url).config().timeout_global(Some(DELETE_TIMEOUT)).build();
                self.ready(request).call()
            }
            Method::Post { body, wait } => self
                .ready(self.waiting(self.agent.post(&url), &wait))
                .header("Content-Type", "application/json")
                .send(body.to_string().as_bytes()),
        };
        let mut answer = answer.map_err(|error| self.no_answer(&error))?;
        if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Error::NotConnected { url: self.shown_url.to_string(), reason: WANTS_CREDENTIALS.to_owned() });
        }
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(MAX_ANSWER + 1).read_to_end(&mut body);
        read.map_err(|error| self.broken_off(&error.into()))?;
        let header = |name| text_header(answer.headers(), name);
        Ok(Response {
            status: answer.status().as_u16(),
            retry_after: retry_after(answer.headers()),
            location: header("Location"),
            waits: header("Preference-Applied").map_or(Waits::No, |applied| request.waits(&applied)),
            is_cut: body.len() as u64 > MAX_ANSWER,
            body,
        })
    }

    /// Asks the server to hold its answer back, where that is wanted.
    fn waiting<B>(&self, request: ureq::RequestBuilder<B>, wait: &Wait<'_>) -> ureq::RequestBuilder<B> {
        if !wait.is_asked_for() {
            return request;
        }
        let timeout = self.agent.config().timeouts().global.map(|timeout| timeout + wait.time);
        request.header("Prefer", wait.preference()).config().timeout_global(timeout).build()
    }

    /// The request with the key, and on a fresh connection where kept ones are not to be trusted now.
    fn ready<B>(&self, mut request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let broken_at = *self.broken_at.lock();
        if broken_at.is_some_and(|broken_at| broken_at.elapsed() < FRESH_FOR) {
            // None that is idle is young enough.
            request = request.config().max_idle_age(Duration::ZERO).build();
        }
        match &self.key {
            Some(key) => request.header("X-API-Key", key),
            None => request,
        }
    }

    fn no_answer(&self, error: &ureq::Error) -> Error {
        let url = self.shown_url.to_string();
        if let Some(reason) = refusal(error) {
            return Error::NotConnected { url, reason };
        }
        let reason = match error {
            ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                "it closed the connection without answering".into()
            }
            ureq::Error::Io(error) if is_shortage(error) => {
                return Error::Shortage { url, reason: os_error::words(error) };
            }
            ureq::Error::Io(error) => os_error::words(error),
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

    fn broken_off(&self, error: &ureq::Error) -> Error {
        let url = self.shown_url.to_string();
        let reason = match error {
            ureq::Error::Timeout(_) => "the answer timed out".into(),
            other => match refusal(other) {
                Some(reason) => return Error::NotConnected { url, reason },
                None => format!("the answer was cut short: {}", web::words(other)),
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

/// How long the server asks to be left alone.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("Retry-After").iter().filter_map(|value| value.to_str().ok());
    retry_after::longest(values, text_header(headers, "Date").as_deref())
}

fn header(key: &str) -> Result<HeaderValue, String> {
    // The library's own error is left out on purpose: it could quote the key.
    let mut value =
        HeaderValue::from_str(key).map_err(|_| "the API key holds characters that a header cannot carry")?;
    value.set_sensitive(true);
    Ok(value)
}
