//! Who may see the page and use its forms.
//!
//! Where there is a key, a browser shows it once and then carries a token in a cookie. Where there is none, whoever
//! uses this machine may. Either way a form counts only where the page itself sent it: a browser says from where.

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

use super::{Console, sign_in_page, trouble};
use crate::http::{ConnectionHandle, names_this_machine};
use crate::server::access::digest;

/// How long a browser stays signed in.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// How many are. The one that signed in first makes room.
const MOST: usize = 1000;

/// The browsers that have shown the key.
pub(super) struct Sessions {
    /// The cookie's name. Cookies do not tell ports apart, and another server may run on this machine.
    cookie: String,
    /// When they signed in, by the digests of their tokens.
    begun: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Sessions {
    pub(super) fn new(port: u16) -> Self {
        Self { cookie: format!("prismq-{port}"), begun: Mutex::default() }
    }

    /// Signs a browser in; the cookie that it is to keep.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Result<String, getrandom::Error> {
        let mut token = [0; 32];
        getrandom::fill(&mut token)?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(token);
        let mut begun = self.lock();
        begun.retain(|_, at| at.elapsed() < LIFETIME);
        if begun.len() >= MOST {
            let first = begun.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| *digest);
            first.and_then(|digest| begun.remove(&digest));
        }
        begun.insert(digest(token.as_bytes()), Instant::now());
        Ok(self.cookie(headers, &token, LIFETIME))
    }

    /// Signs the browser out; the cookie that makes it forget.
    pub(super) fn end(&self, headers: &HeaderMap) -> String {
        if let Some(digest) = self.token(headers) {
            self.lock().remove(&digest);
        }
        self.cookie(headers, "", Duration::ZERO)
    }

    fn has_begun(&self, headers: &HeaderMap) -> bool {
        let begun = self.token(headers).and_then(|digest| self.lock().get(&digest).copied());
        begun.is_some_and(|at| at.elapsed() < LIFETIME)
    }

    /// The digest of the token that a request carries.
    fn token(&self, headers: &HeaderMap) -> Option<[u8; 32]> {
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, token)| digest(token.as_bytes()))
    }

    fn cookie(&self, headers: &HeaderMap, token: &str, lifetime: Duration) -> String {
        // Before a proxy that encrypts, the browser says so; it then keeps the token off bare lines.
        let encrypted = text(headers, "Origin").is_some_and(|origin| origin.starts_with("https://"));
        let secure = if encrypted { "; Secure" } else { "" };
        let seconds = lifetime.as_secs();
        format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.begun.lock()
    }
}

/// Lets a request pass to the page, or turns it away.
pub(super) async fn guard(
    State(console): State<Arc<Console>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let needs_key = console.access.needs_key();
    // A page of another site may have its own name lead to this machine.
    if !needs_key && !names_this_machine(headers) {
        let why = "Without an API key, this page is only available as localhost, 127.0.0.1 or [::1].";
        return trouble(StatusCode::FORBIDDEN, why);
    }
    if request.method() == Method::POST && !is_from_here(headers) {
        return trouble(StatusCode::FORBIDDEN, "This form was not sent from this page; nothing was changed.");
    }
    let is_stranger = needs_key && !console.sessions.has_begun(headers);
    if is_stranger {
        connection.give_up();
    } else {
        connection.trust();
    }
    if is_stranger && request.uri().path() != "/sign-in" {
        let here = request.uri().path_and_query().map_or("/", |it| it.as_str());
        // What was to be changed is not: after signing in it is asked for again.
        let next_page = if request.method() == Method::POST { "/" } else { here };
        return sign_in_page(next_page, false);
    }
    next.run(request).await
}

/// Whether a browser says that its page came from here. One that says nothing is none that people use.
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
