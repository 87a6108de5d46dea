//! What the pages for people share, of the embedded TaskManager and of a worker: the document around them, what a
//! browser may do for it, and how figures are said and drawn.

use crate::share::grouped;
use std::fmt::Display;
use std::sync::LazyLock;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page/page.css");
/// Puts a new `main` in the place of one that is live, every two seconds.
const SCRIPT: &str = include_str!("page/page.js");

/// What a browser may do for a page: apply this very style, run this very script, and talk to the server it came from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// The headers of every answer, where it does not say otherwise: a browser does nothing for it, shows it in no other
/// page, and keeps none of it.
pub(crate) const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
    // With `no-referrer`, browsers would hide the origin of a page's own forms as well.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The headers of what is served at a page's address. Only a page may have a browser do anything.
pub(crate) fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 2] {
    let policy = if content_type == HTML { POLICY.as_str() } else { HEADERS[0].1 };
    [(header::CONTENT_TYPE, content_type), (header::CONTENT_SECURITY_POLICY, policy)]
}

/// The same answer with the headers of all.
pub(crate) fn with_headers(mut answer: Response) -> Response {
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// A document that needs nothing else, and reads well without its script.
pub(crate) struct Page {
    pub(crate) title: String,
    /// Whose page it is, and the ways to others.
    pub(crate) header: Markup,
    pub(crate) main: Markup,
    /// Whether it stays up to date by itself. One that people write into does not.
    pub(crate) is_live: bool,
}

impl Page {
    /// What is put into it is escaped, unless it is named `PreEscaped`.
    pub(crate) fn document(&self) -> String {
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                    @if self.is_live { noscript { meta http-equiv="refresh" content="5"; } }
                }
                body {
                    header { (self.header) }
                    p.away role="status" hidden { "Connection lost; showing the last known state." }
                    main data-live[self.is_live] { (self.main) }
                    @if self.is_live { script { (PreEscaped(SCRIPT)) } }
                }
            }
        };
        document.into_string()
    }

    pub(crate) fn answer(&self, status: StatusCode) -> Response {
        (status, headers(HTML), self.document()).into_response()
    }
}

/// How it is, in words; how good that is: `good`, `warn` or `bad`, as the classes are called.
pub(crate) fn state(level: &str, words: impl Display) -> Markup {
    html! { h1 class={ "state " (level) } { (words.to_string()) } }
}

/// What completed and what failed in each minute of the last hour, the one on top of the other.
pub(crate) fn last_hour(minutes: &[(u64, u64)]) -> Markup {
    let (completed, failed) = minutes.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let most = minutes.iter().map(|(completed, failed)| completed + failed).max().unwrap_or(0);
    let [all_completed, all_failed, busiest] = [completed, failed, most].map(grouped);
    let words = format!("{all_completed} completed, {all_failed} failed; {busiest} in the busiest minute");
    html! {
        section {
            h2 { "Last hour" }
            @if most == 0 { p.soft { "No finished tasks." } } @else {
                p.soft { (words) }
                (chart(&words, minutes, most))
                div.line.soft { p { "an hour ago" } " " p { "now" } }
            }
        }
    }
}

fn chart(label: &str, minutes: &[(u64, u64)], most: u64) -> Markup {
    let bar = |class: &str, x: usize, y: u64, height: u64| {
        html! { @if height > 0 { rect class=(class) x=(x) y=(y) width="0.8" height=(height) {} } }
    };
    html! {
        svg.chart viewBox=(format!("0 0 {} {most}", minutes.len())) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (x, (completed, failed)) in minutes.iter().enumerate().filter(|(_, it)| it.0 + it.1 > 0) {
                g {
                    title { (minutes.len() - 1 - x) " min ago: " (completed) " completed, " (failed) " failed" }
                    (bar("completed", x, most - completed, *completed))
                    (bar("failed", x, most - completed - failed, *failed))
                }
            }
        }
    }
}

/// How what is bad is marked.
pub(crate) fn bad(is_bad: bool) -> Option<&'static str> {
    is_bad.then_some("bad-text")
}

/// A duration as people say it, in one unit.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() > 0 => format!("{} ms", duration.as_millis()),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
