//! The HTML report: a self-contained document with SVG charts and no scripts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::{duration, duration_ms, rate, what};
use super::{Slice, Statistics};
use crate::store::Group;

const STYLE: &str = include_str!("html.css");

/// The Content-Security-Policy: only inline styles.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Renders the document. Everything but `PreEscaped` values is escaped.
pub(super) fn page(statistics: &Statistics, days: &[Slice]) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "prismq stats, " (format!("{:.0}", statistics.now)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "prismq stats" }
                p.soft {
                    (format!("{:.0}", statistics.now))
                    @if let Some(since) = statistics.since { "; table since " (format!("{since:.0}")) }
                }
                (facts(statistics))
                (bars("Last 24 hours", "hour", &statistics.hours))
                (bars("Last 30 days", "day", days))
                (table(statistics))
            }
        }
    };
    document.into_string()
}

fn facts(statistics: &Statistics) -> Markup {
    let sum = |count: fn(&Group) -> u64| statistics.groups.iter().map(count).sum::<u64>();
    html! {
        ul.facts {
            li { b { (sum(|it| it.completed)) } " completed" }
            li { b { (sum(|it| it.failed)) } " failed" }
            li { b { (sum(|it| it.lost)) } " lost" }
            li {
                b { (statistics.unreported.count) } " unreported"
                @if let Some((id, why)) = &statistics.unreported.last_refused {
                    "; " (statistics.unreported.refused) " refused by the TaskManager, last task " (id) ": " (why)
                }
            }
            @if let Some(quota) = &statistics.quota {
                li { b { (quota.left()) } " of " (quota.limit) " YouTube units left" }
            }
        }
    }
}

/// Renders a bar for each hour or day, with failed attempts on top of completed ones.
fn bars(title: &str, unit: &str, slices: &[Slice]) -> Markup {
    let (completed, failed) =
        slices.iter().fold((0, 0), |(completed, failed), it| (completed + it.completed, failed + it.failed));
    let most = slices.iter().map(Slice::all).max().unwrap_or(0).max(1);
    let told = format!("{completed} completed, {failed} failed, {most} in the busiest {unit}");
    html! {
        h2 { (title) }
        @if completed + failed == 0 { p.soft { "No finished attempts." } } @else {
            figure {
                p.soft { (told) }
                svg.bars viewBox=(format!("0 0 {} {most}", slices.len())) preserveAspectRatio="none" role="img"
                    aria-label=(told) {
                    @for (x, it) in slices.iter().enumerate() { (bar(x, it, most)) }
                }
                figcaption {
                    @for it in slices.first().iter().chain(&slices.last()) { span { (it.name) } }
                }
            }
        }
    }
}

/// Renders a bar with a full-height background for the tooltip, since a short bar is hard to point at.
fn bar(x: usize, slice: &Slice, most: u64) -> Markup {
    let x = format!("{x}.1");
    let rect =
        |class: &str, y: u64, height: u64| html! { rect class=(class) x=(x) y=(y) width="0.8" height=(height) {} };
    let top = most - slice.completed;
    html! {
        g {
            title { (slice.name) ": " (slice.completed) " completed, " (slice.failed) " failed" }
            rect x=(x) y="0" width="0.8" height=(most) fill="transparent" {}
            @if slice.completed > 0 { (rect("completed", top, slice.completed)) }
            @if slice.failed > 0 { (rect("failed", top - slice.failed, slice.failed)) }
        }
    }
}

fn table(statistics: &Statistics) -> Markup {
    let what = what(statistics.by).to_lowercase();
    let longest = statistics.groups.iter().map(|group| group.p99_ms).max().unwrap_or(0);
    html! {
        h2 { "By " (what) }
        @if statistics.groups.is_empty() { p.soft { "None." } } @else {
            div.wide {
                table {
                    tr {
                        th { (what[..1].to_uppercase()) (what[1..]) }
                        @for name in ["Completed", "Failed", "Lost", "Success", "Mean", "p50", "p95", "p99", "Rate"] {
                            th.number { (name) }
                        }
                        th { "p50 to p99" }
                    }
                    @for group in &statistics.groups { (row(group, longest)) }
                }
            }
            p.soft {
                "Attempts are counted: a retried task counts once per attempt. Percentiles are accurate to within 1.6 %. The \
                 bars run from p50 to p99, with a mark at p95, on a logarithmic \
                 scale up to " (duration_ms(longest)) "."
            }
        }
    }
}

fn row(group: &Group, longest: i64) -> Markup {
    let percent = format!("{:.1} %", group.success_rate * 100.0);
    html! {
        tr {
            td.name { (wrappable(&group.name)) }
            td.number { (group.completed) }
            td.number { (group.failed) }
            td.number { (group.lost) }
            td.number { (percent) }
            td.number { (duration(group.mean_ms)) }
            @for ms in [group.p50_ms, group.p95_ms, group.p99_ms] { td.number { (duration_ms(ms)) } }
            td.number { (rate(group)) }
            td { (range(group, longest)) }
        }
    }
}

/// Renders a name that may wrap between its parts.
fn wrappable(name: &str) -> Markup {
    html! { @for (n, part) in name.split_inclusive(['.', '_', '/']).enumerate() { @if n > 0 { wbr; } (part) } }
}

/// Renders the distribution of durations from 0 to `longest`.
#[allow(clippy::cast_precision_loss)] // milliseconds are far below 2^53
fn range(group: &Group, longest: i64) -> Markup {
    let place = |ms: i64| 100.0 * (ms as f64).ln_1p() / (longest.max(1) as f64).ln_1p();
    let [p50, p95, p99] = [group.p50_ms, group.p95_ms, group.p99_ms].map(place);
    let mark = |class: &str, x: f64, width: f64| {
        let (x, width) = (format!("{:.2}", x.min(100.0 - width)), format!("{width:.2}"));
        html! { rect class=(class) x=(x) y="2" width=(width) height="6" {} }
    };
    html! {
        svg.range viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.ground x="0" y="4.5" width="100" height="1" {}
            (mark("completed", p50, (p99 - p50).max(1.5)))
            (mark("most", p95, 1.0))
        }
    }
}
