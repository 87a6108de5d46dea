//! Shared parts of the web pages: the document, its security headers, charts and number formats.

use crate::output::grouped;
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
/// Replaces a live `main` every two seconds.
const SCRIPT: &str = include_str!("page/page.js");

/// The Content-Security-Policy of pages: only this style and this script, and connections to the same server.
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

/// Default headers of every answer: no active content, no framing, no caching.
pub(crate) const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
    // With `no-referrer`, browsers would also hide the origin from a page's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Returns the headers for a content type. Only HTML gets the policy that allows style and script.
pub(crate) fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 2] {
    let policy = if content_type == HTML { POLICY.as_str() } else { HEADERS[0].1 };
    [(header::CONTENT_TYPE, content_type), (header::CONTENT_SECURITY_POLICY, policy)]
}

/// Adds the default headers to an answer.
pub(crate) fn with_headers(mut answer: Response) -> Response {
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// A self-contained HTML document that also works without its script.
pub(crate) struct Page {
    pub(crate) title: String,
    /// The name of the server and the navigation.
    pub(crate) header: Markup,
    pub(crate) main: Markup,
    /// Whether it updates itself. Pages with forms do not.
    pub(crate) is_live: bool,
}

impl Page {
    /// Renders the document. Everything but `PreEscaped` values is escaped.
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

/// Renders the overall state. `level` is a CSS class: `good`, `warn` or `bad`.
pub(crate) fn status_heading(level: &str, text: impl Display) -> Markup {
    html! { h1 class={ "state " (level) } { (text.to_string()) } }
}

/// Renders a stacked chart of completed and failed attempts in each minute of the last hour.
pub(crate) fn last_hour(minutes: &[(u64, u64)]) -> Markup {
    let (completed, failed) = minutes.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let most = minutes.iter().map(|(completed, failed)| completed + failed).max().unwrap_or(0);
    let [all_completed, all_failed, busiest] = [completed, failed, most].map(grouped);
    let text = format!("{all_completed} completed, {all_failed} failed; {busiest} in the busiest minute");
    html! {
        section {
            h2 { "Last hour" }
            @if most == 0 { p.soft { "No finished tasks." } } @else {
                p.soft { (text) }
                (chart(&text, minutes, most))
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

/// Returns the CSS class for bad values.
pub(crate) fn bad_class(is_bad: bool) -> Option<&'static str> {
    is_bad.then_some("bad-text")
}

/// Formats a duration in one unit.
pub(crate) fn short_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() > 0 => format!("{} ms", duration.as_millis()),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
