//! Who may call: those with the key or, where there is none, programs on this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::body::discard;
use super::envelope::TurnedAway;
use super::guesses::Guesses;
use crate::http::{ConnectionHandle, names_this_machine};

/// Who may call.
pub(super) enum Access {
    /// Whoever sends the key.
    Key(Key),
    /// Programs on this machine, but no web page that a browser on it shows: a task runs programs.
    Local,
}

/// The key that callers must send.
pub(super) struct Key {
    /// Digests are compared, so that the time it takes tells nothing.
    digest: [u8; 32],
    guesses: Guesses,
}

/// A key that is not accepted.
pub(super) enum Rejected {
    Wrong,
    /// It was not compared. The address may try again after this time.
    TooMany(Duration),
}

impl Key {
    /// Compares what was sent on a connection. The answer to a wrong key may take its time.
    async fn check(&self, sent: &[u8], connection: &ConnectionHandle) -> Result<(), Rejected> {
        let (address, now) = (connection.address().ip(), Instant::now());
        if let Err(wait) = self.guesses.may_try(address, now) {
            log_refusal(address, self.guesses.was_not_tried(address, now));
            return Err(Rejected::TooMany(wait));
        }
        if self.digest == digest(sent) {
            self.guesses.was_right(address, now);
            return Ok(());
        }
        let (wait, count) = self.guesses.was_wrong(address, now);
        log_refusal(address, count);
        if !wait.is_zero() {
            connection.give_up();
            sleep(wait).await;
        }
        Err(Rejected::Wrong)
    }
}

fn log_refusal(address: IpAddr, count: Option<u64>) {
    if let Some(refused) = count {
        let address = address.to_canonical().to_string();
        log::warn!(address = address.as_str(), refused; "wrong API key");
    }
}

impl Access {
    pub(super) fn new(key: Option<&str>) -> Self {
        let with = |key: &str| Self::Key(Key { digest: digest(key.as_bytes()), guesses: Guesses::default() });
        key.map_or(Self::Local, with)
    }

    /// Whether a key must be shown.
    pub(super) fn needs_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Compares a key that was sent on a connection.
    pub(super) async fn show_key(&self, sent: &[u8], connection: &ConnectionHandle) -> Result<(), Rejected> {
        match self {
            Self::Key(key) => key.check(sent, connection).await,
            Self::Local => Ok(()),
        }
    }

    async fn check(&self, headers: &HeaderMap, connection: &ConnectionHandle) -> Result<(), TurnedAway> {
        if self.needs_key() {
            let sent = headers.get("X-API-Key").ok_or(UNAUTHORIZED)?;
            return self.show_key(sent.as_bytes(), connection).await.map_err(|rejected| match rejected {
                Rejected::Wrong => UNAUTHORIZED,
                Rejected::TooMany(wait) => TurnedAway { retry_after: Some(wait), ..TOO_MANY_KEYS },
            });
        }
        if self.admits(headers) { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// Whether a request with these headers may have a body that is read.
    fn admits(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Key(key) => headers.get("X-API-Key").is_some_and(|sent| key.digest == digest(sent.as_bytes())),
            // A page of another site may post here, and then its origin is named; or it may have its own name lead
            // to this machine, and then that is the host.
            Self::Local => !headers.contains_key(header::ORIGIN) && names_this_machine(headers),
        }
    }
}

const UNAUTHORIZED: TurnedAway = TurnedAway {
    status: StatusCode::UNAUTHORIZED,
    message: "Invalid or missing API key. Include X-API-Key header with your request.",
    retry_after: None,
};

const TOO_MANY_KEYS: TurnedAway = TurnedAway {
    status: StatusCode::TOO_MANY_REQUESTS,
    message: "Too many wrong API keys came from this address. Try again later.",
    retry_after: None,
};

const FORBIDDEN: TurnedAway = TurnedAway {
    status: StatusCode::FORBIDDEN,
    message: "Without an API key this TaskManager answers programs that call it as localhost, 127.0.0.1 or [::1], and \
              no web pages.",
    retry_after: None,
};

/// Lets the request pass or turns it away. Anybody may ask for the health.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    if is_health(&request) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match access.check(&parts.headers, &connection).await {
        Ok(()) => {
            connection.trust();
            next.run(Request::from_parts(parts, body)).await
        }
        Err(turned_away) => turned_away.into_response(),
    }
}

/// The same request; without its body where it will be turned away, so that nobody keeps in memory what strangers send.
pub(super) async fn spare_body(access: &Access, request: Request) -> Request {
    if access.admits(request.headers()) {
        return request;
    }
    let (parts, body) = request.into_parts();
    // Who asks whether to send it is told so by the answer. Anybody else gets to see the answer after it.
    if !parts.headers.contains_key(header::EXPECT) {
        if let Some(ConnectInfo(connection)) = parts.extensions.get::<ConnectInfo<ConnectionHandle>>() {
            connection.give_up();
        }
        discard(body).await;
    }
    Request::from_parts(parts, Body::empty())
}

/// Whether the request asks for the health.
pub(super) fn is_health(request: &Request) -> bool {
    request.uri().path().trim_end_matches('/') == "/api/health"
}

/// What a secret is kept and compared as.
pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Access::Local.admits(&headers)
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:8000", "127.1.2.3:8000", "[::1]", "[::1]:80"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com:80", "127.0.0.1.example.com", "10.0.0.1:80", "[::2]"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
