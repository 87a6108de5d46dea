//! Access control: the API key or, if there is none, programs on this machine only.

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
use super::envelope::AccessDenied;
use super::key_limiter::KeyLimiter;
use crate::http::{ConnectionHandle, names_this_machine};

/// Who may call.
pub(super) enum Access {
    /// Callers must send the key.
    Key(Key),
    /// Only programs on this machine, but no web pages in its browsers, since tasks run programs.
    Local,
}

/// The key that callers must send.
pub(super) struct Key {
    /// Digests are compared, so that timing reveals nothing about the key.
    digest: [u8; 32],
    key_limiter: KeyLimiter,
}

/// A key that is not accepted.
pub(super) enum KeyRejected {
    Wrong,
    /// It was not compared; the address may retry after this time.
    TooMany(Duration),
}

impl Key {
    /// Checks a key that was sent on a connection. The answer to a wrong key may be delayed.
    async fn check(&self, sent: &[u8], connection: &ConnectionHandle) -> Result<(), KeyRejected> {
        let (address, now) = (connection.address().ip(), Instant::now());
        if let Err(wait) = self.key_limiter.check_address(address, now) {
            log_wrong_key(address, self.key_limiter.record_blocked(address, now));
            return Err(KeyRejected::TooMany(wait));
        }
        if self.digest == digest(sent) {
            self.key_limiter.record_success(address, now);
            return Ok(());
        }
        let (wait, count) = self.key_limiter.record_failure(address, now);
        log_wrong_key(address, count);
        if !wait.is_zero() {
            connection.mark_evictable();
            sleep(wait).await;
        }
        Err(KeyRejected::Wrong)
    }
}

fn log_wrong_key(address: IpAddr, count: Option<u64>) {
    if let Some(refused) = count {
        let address = address.to_canonical().to_string();
        log::warn!(address = address.as_str(), refused; "wrong API key");
    }
}

impl Access {
    pub(super) fn new(key: Option<&str>) -> Self {
        let with_key =
            |key: &str| Self::Key(Key { digest: digest(key.as_bytes()), key_limiter: KeyLimiter::default() });
        key.map_or(Self::Local, with_key)
    }

    /// Whether callers need a key.
    pub(super) fn needs_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Checks a key that was sent on a connection.
    pub(super) async fn check_key(&self, sent: &[u8], connection: &ConnectionHandle) -> Result<(), KeyRejected> {
        match self {
            Self::Key(key) => key.check(sent, connection).await,
            Self::Local => Ok(()),
        }
    }

    async fn check(&self, headers: &HeaderMap, connection: &ConnectionHandle) -> Result<(), AccessDenied> {
        if self.needs_key() {
            let sent = headers.get("X-API-Key").ok_or(UNAUTHORIZED)?;
            return self.check_key(sent.as_bytes(), connection).await.map_err(|rejected| match rejected {
                KeyRejected::Wrong => UNAUTHORIZED,
                KeyRejected::TooMany(wait) => AccessDenied { retry_after: Some(wait), ..TOO_MANY_KEYS },
            });
        }
        if self.is_allowed(headers) { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// Whether a request with these headers is allowed, without counting a wrong key.
    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Key(key) => headers.get("X-API-Key").is_some_and(|sent| key.digest == digest(sent.as_bytes())),
            // A page of another site that posts here sends its origin; one whose name resolves to this machine sends
            // that name as the host.
            Self::Local => !headers.contains_key(header::ORIGIN) && names_this_machine(headers),
        }
    }
}

const UNAUTHORIZED: AccessDenied = AccessDenied {
    status: StatusCode::UNAUTHORIZED,
    message: "Invalid or missing API key. Include X-API-Key header with your request.",
    retry_after: None,
};

const TOO_MANY_KEYS: AccessDenied = AccessDenied {
    status: StatusCode::TOO_MANY_REQUESTS,
    message: "Too many wrong API keys came from this address. Try again later.",
    retry_after: None,
};

const FORBIDDEN: AccessDenied = AccessDenied {
    status: StatusCode::FORBIDDEN,
    message: "Without an API key, this TaskManager only answers requests to localhost, 127.0.0.1 or [::1], and none \
              from web pages.",
    retry_after: None,
};

/// Rejects requests without access. `GET /health` needs none.
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
        Err(denied) => denied.into_response(),
    }
}

/// Discards the body of a request that will be rejected, so that it takes no memory.
pub(super) async fn drop_unauthorized_body(access: &Access, request: Request) -> Request {
    if access.is_allowed(request.headers()) {
        return request;
    }
    let (parts, body) = request.into_parts();
    // With `Expect`, the client waits for the answer before it sends the body. Others see the answer only after it.
    if !parts.headers.contains_key(header::EXPECT) {
        if let Some(ConnectInfo(connection)) = parts.extensions.get::<ConnectInfo<ConnectionHandle>>() {
            connection.mark_evictable();
        }
        discard(body).await;
    }
    Request::from_parts(parts, Body::empty())
}

/// Whether this is `GET /health`.
pub(super) fn is_health(request: &Request) -> bool {
    request.uri().path().trim_end_matches('/') == "/api/health"
}

/// Hashes a secret to store and compare it.
pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Access::Local.is_allowed(&headers)
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
