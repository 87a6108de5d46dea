//! The page for people: one document that needs nothing else, and reads well without its script.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::metrics::{Ended, Health, Minute, RunningTask, TypeView, View};

const STYLE: &str = include_str!("page.css");
/// Puts a new `main` in the place of the old one, every two seconds.
const SCRIPT: &str = include_str!("page.js");

/// What a browser may do for the page: apply this very style, run this very script, and ask this address again.
pub(super) fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// The whole document. What is put into it is escaped, unless it is named `PreEscaped`.
pub(super) fn page(view: &View) -> String {
    let (is_good, words) = state(view);
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (view.health.worker_id) ": " (words) }
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                main {
                    h1 { "prismq " (view.health.version) " · " (view.health.worker_id) }
                    p class=(if is_good { "state" } else { "state bad" }) { (words) }
                    (facts(&view.health))
                    (running(&view.running))
                    (chart(&view.minutes))
                    (types(&view.types))
                    (ended(&view.ended))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    document.into_string()
}

/// How the worker is, in words; whether that is good.
fn state(view: &View) -> (bool, String) {
    let health = &view.health;
    match (&health.reason, &health.api_error, view.running.len()) {
        (Some(reason), _, _) => (false, format!("It hangs: {reason}")),
        (_, Some(error), _) => (false, format!("It waits for the TaskManager: {error}")),
        _ if !health.api_connectivity => (false, "It starts: the TaskManager has not answered yet".to_owned()),
        _ if !health.results_writable => (false, "The last result could not be stored".to_owned()),
        _ if view.types.iter().any(|it| it.paused.is_some()) => {
            (false, "It goes on, but too many tasks of a type fail".to_owned())
        }
        (_, _, 0) => (true, "It is well, and waits for tasks".to_owned()),
        (_, _, 1) => (true, "It is well, and works a task".to_owned()),
        (_, _, count) => (true, format!("It is well, and works {count} tasks")),
    }
}

fn facts(health: &Health) -> Markup {
    let poll = health.seconds_since_poll.map(|seconds| age(Duration::from_secs(seconds)));
    let completed = health.tasks_processed - health.tasks_failed;
    html! {
        ul.facts {
            li { "up " (age(Duration::from_secs(health.uptime_seconds))) }
            li { (completed) " completed, " (health.tasks_failed) " failed" }
            @if let Some(poll) = poll { li { "last asked " (poll) " ago" } }
            @if let Some(latency) = health.api_latency_ms { li { "the TaskManager answers in " (latency) " ms" } }
            @if let Some(memory) = health.memory_usage_mb { li { (memory) " MB" } }
            @if health.unreported > 0 {
                li.bad-text {
                    (health.unreported) " unreported"
                    @if let Some(oldest) = health.oldest_unreported_seconds {
                        ", the oldest for " (age(Duration::from_secs(oldest)))
                    }
                }
            }
        }
        @if let Some(error) = &health.results_error { p.bad-text { (error) } }
    }
}

fn running(tasks: &[RunningTask]) -> Markup {
    html! {
        h2 { "In flight" }
        @if tasks.is_empty() { p.soft { "Nothing." } } @else {
            table {
                tr { th { "Task" } th { "Type" } th { "Progress" } th.number { "For" } }
                @for task in tasks {
                    tr {
                        td { (task.id) }
                        td { (task.task_type) }
                        td {
                            @if let Some((percent, message)) = &task.progress {
                                progress max="100" value=(percent) { (percent) " %" }
                                " " span.soft { (percent) " % " (message) }
                            }
                        }
                        td.number { (age(task.age)) }
                    }
                }
            }
        }
    }
}

/// A bar a minute, what failed on top of what completed.
fn chart(minutes: &[Minute]) -> Markup {
    let (completed, failed) =
        minutes.iter().fold((0, 0), |(completed, failed), it| (completed + it.completed, failed + it.failed));
    let most = minutes.iter().map(|it| it.completed + it.failed).max().unwrap_or(0).max(1);
    let label = format!("{completed} completed and {failed} failed in the last hour, {most} in the busiest minute");
    html! {
        h2 { "The last hour" }
        p.soft { (completed) " completed, " (failed) " failed; " (most) " in the busiest minute" }
        svg viewBox=(format!("0 0 {} {most}", minutes.len())) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (x, it) in minutes.iter().enumerate() {
                @let top = most - it.completed;
                @if it.completed > 0 { (bar("completed", x, top, it.completed)) }
                @if it.failed > 0 { (bar("failed", x, top - it.failed, it.failed)) }
            }
        }
    }
}

fn bar(class: &str, x: usize, y: u64, height: u64) -> Markup {
    html! { rect class=(class) x=(x) y=(y) width="0.8" height=(height) {} }
}

fn types(types: &[TypeView]) -> Markup {
    html! {
        h2 { "Types" }
        table {
            tr { th { "Type" } th.number { "Median" } th.number { "p95" } th { "Claimed" } }
            @for it in types {
                tr {
                    td { (it.name) }
                    td.number { @if let Some((median, _)) = it.seconds { (seconds(median)) } }
                    td.number { @if let Some((_, p95)) = it.seconds { (seconds(p95)) } }
                    td {
                        @if let Some(left) = it.paused {
                            span.bad-text { "paused: too many failures in a row; tried again in " (age(left)) }
                        } @else if let Some(until) = &it.held {
                            span.bad-text { "not before " (until) ", as its handler says" }
                        } @else { "yes" }
                    }
                }
            }
        }
    }
}

fn ended(attempts: &[Ended]) -> Markup {
    html! {
        h2 { "Last results" }
        @if attempts.is_empty() { p.soft { "None yet." } } @else {
            table {
                tr { th { "Task" } th { "Type" } th { "Result" } th.number { "Took" } th.number { "Ago" } }
                @for it in attempts {
                    tr {
                        td { (it.id) }
                        td { (it.task_type) }
                        td {
                            @if let Some((error_type, text)) = &it.failure {
                                span.bad-text { "failed" } ": " (error_type) ": " (text)
                            } @else { "completed" }
                        }
                        td.number { (seconds(it.seconds)) }
                        td.number { (age(it.ago)) }
                    }
                }
            }
        }
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        1.0..10.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A time as people say it, in one unit.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
