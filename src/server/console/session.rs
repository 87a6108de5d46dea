//! Access control of the page.
//!
//! With a key, a browser signs in once and then sends a token in a cookie. Without a key, every user of this machine has
//! access. In both cases, forms are only accepted from the page itself (CSRF protection by the browser's headers).

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{Console, error_page, sign_in_page};
use crate::http::{ConnectionHandle, names_this_machine};
use crate::server::access::digest;

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Maximum number of sessions. A new one replaces the oldest.
const MAX_SESSIONS: usize = 1000;

/// The signed-in browsers.
pub(super) struct Sessions {
    /// The cookie's name includes the port, since cookies are shared by all ports of a host.
    cookie: String,
    /// Sign-in times by token digest.
    sessions: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Sessions {
    pub(super) fn new(port: u16) -> Self {
        Self { cookie: format!("prismq-{port}"), sessions: Mutex::default() }
    }

    /// Starts a session. Returns its cookie.
    pub(super) fn sign_in(&self, headers: &HeaderMap) -> Result<String, getrandom::Error> {
        let mut token = [0; 32];
        getrandom::fill(&mut token)?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(token);
        let mut sessions = self.lock();
        sessions.retain(|_, at| at.elapsed() < LIFETIME);
        if sessions.len() >= MAX_SESSIONS {
            let first = sessions.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| *digest);
            first.and_then(|digest| sessions.remove(&digest));
        }
        sessions.insert(digest(token.as_bytes()), Instant::now());
        Ok(self.cookie(headers, &token, LIFETIME))
    }

    /// Ends a session. Returns a cookie that deletes the old one.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> String {
        if let Some(digest) = self.token(headers) {
            self.lock().remove(&digest);
        }
        self.cookie(headers, "", Duration::ZERO)
    }

    fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        let sessions = self.token(headers).and_then(|digest| self.lock().get(&digest).copied());
        sessions.is_some_and(|at| at.elapsed() < LIFETIME)
    }

    /// Returns the digest of a request's token.
    fn token(&self, headers: &HeaderMap) -> Option<[u8; 32]> {
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, token)| digest(token.as_bytes()))
    }

    fn cookie(&self, headers: &HeaderMap, token: &str, lifetime: Duration) -> String {
        // Behind a TLS proxy, the browser's origin is https. The cookie is then never sent unencrypted.
        let encrypted = text(headers, "Origin").is_some_and(|origin| origin.starts_with("https://"));
        let secure = if encrypted { "; Secure" } else { "" };
        let seconds = lifetime.as_secs();
        format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.sessions.lock()
    }
}

/// Rejects requests without access to the page.
pub(super) async fn guard(
    State(console): State<Arc<Console>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let needs_key = console.access.needs_key();
    // Another site's name may resolve to this machine (DNS rebinding).
    if !needs_key && !names_this_machine(headers) {
        let why = "Without an API key, this page is only available as localhost, 127.0.0.1 or [::1].";
        return error_page(StatusCode::FORBIDDEN, why);
    }
    if request.method() == Method::POST && !is_from_here(headers) {
        return error_page(StatusCode::FORBIDDEN, "This form was not sent from this page; nothing was changed.");
    }
    let is_stranger = needs_key && !console.sessions.is_signed_in(headers);
    if is_stranger {
        connection.mark_evictable();
    } else {
        connection.trust();
    }
    if is_stranger && request.uri().path() != "/sign-in" {
        let here = request.uri().path_and_query().map_or("/", |it| it.as_str());
        // The change is not made; the user has to repeat it after signing in.
        let next_page = if request.method() == Method::POST { "/" } else { here };
        return sign_in_page(next_page, false);
    }
    next.run(request).await
}

/// Whether a form was sent from this page, by the headers that all current browsers send.
fn is_from_here(headers: &HeaderMap) -> bool {
    if let Some(site) = text(headers, "Sec-Fetch-Site") {
        return site == "same-origin";
    }
    let origin = text(headers, "Origin").and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| text(headers, "Host") == Some(origin))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
