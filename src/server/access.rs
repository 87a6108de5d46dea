//! Who may call: those with the key or, where there is none, programs on this machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::envelope::TurnedAway;

/// Who may call.
pub(super) enum Access {
    /// Whoever sends the key with this digest. Digests are compared, so that the time it takes tells nothing.
    Key([u8; 32]),
    /// Programs on this machine, but no web page that a browser on it shows: a task runs programs.
    Local,
}

impl Access {
    pub(super) fn new(key: Option<&str>) -> Self {
        key.map_or(Self::Local, |key| Self::Key(digest(key.as_bytes())))
    }

    /// Whether a key must be shown.
    pub(super) fn needs_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// Whether this is the key.
    pub(super) fn is_key(&self, sent: &[u8]) -> bool {
        matches!(self, Self::Key(key) if *key == digest(sent))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), TurnedAway> {
        match self {
            Self::Key(_) => {
                let sent = headers.get("X-API-Key").is_some_and(|value| self.is_key(value.as_bytes()));
                if sent { Ok(()) } else { Err(UNAUTHORIZED) }
            }
            // A page of another site may post here, and then its origin is named; or it may have its own name lead
            // to this machine, and then that is the host.
            Self::Local if headers.contains_key(header::ORIGIN) || !names_this_machine(headers) => Err(FORBIDDEN),
            Self::Local => Ok(()),
        }
    }
}

const UNAUTHORIZED: TurnedAway = TurnedAway {
    status: StatusCode::UNAUTHORIZED,
    message: "Invalid or missing API key. Include X-API-Key header with your request.",
};

const FORBIDDEN: TurnedAway = TurnedAway {
    status: StatusCode::FORBIDDEN,
    message: "Without an API key this TaskManager answers programs that call it as localhost, 127.0.0.1 or [::1], and \
              no web pages.",
};

/// Lets the request pass or turns it away. Anybody may ask for the health.
pub(super) async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if is_health(&request) {
        return next.run(request).await;
    }
    match access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(turned_away) => turned_away.into_response(),
    }
}

/// Whether the request asks for the health.
pub(super) fn is_health(request: &Request) -> bool {
    request.uri().path().trim_end_matches('/') == "/api/health"
}

/// What a secret is kept and compared as.
pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Whether the request calls this machine by one of its own names.
pub(super) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true; // HTTP/1.0, which no browser speaks
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Access::Local.check(&headers).is_ok()
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
