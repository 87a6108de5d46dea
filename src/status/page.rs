//! The web page of a worker.

use std::fmt::Display;
use std::time::{Duration, Instant};

use maud::{Markup, html};

use super::metrics::{FinishedAttempt, Quota, RunningTask, TypeView, View, WorkerHealth};
use crate::failure_rate::mostly_failing;
use crate::http::page::{Page, bad_class, last_hour, short_duration, status_heading};

pub(super) fn page(view: &View) -> Page {
    let health = &view.health;
    let sum = view.minutes.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let (level, text) = match (condition(view), mostly_failing("attempts", sum.0, sum.1)) {
        (("good", _), Some(failing)) => ("warn", format!("Running, but {failing}")),
        ((level, text), Some(failing)) => (level, format!("{text}; {failing}")),
        (condition, None) => condition,
    };
    let main = html! {
        (status_heading(level, &text))
        (tiles(health))
        @if let Some(error) = &health.results_error { p.bad-text { (error) } }
        div.columns {
            (running(&view.running))
            (last_hour(&view.minutes))
            (types(&view.types))
            (failed(&view.failed))
            (ended(&view.ended))
        }
        footer.soft {
            "prismq " (health.version)
            @if let Some(memory) = health.memory_usage_mb { ", " (memory) " MB" }
        }
    };
    let title = format!("{}: {text}", health.worker_id);
    Page { title, header: html! { strong { (health.worker_id) } }, main, is_live: true }
}

/// Returns the CSS class of the worker's condition (`good`, `warn` or `bad`) and its text.
fn condition(view: &View) -> (&'static str, String) {
    let health = &view.health;
    if let Some(reason) = &health.reason {
        return ("bad", format!("Unhealthy: {reason}"));
    }
    if let Some(error) = &health.api_error {
        return ("warn", format!("Waiting for the TaskManager: {error}"));
    }
    if !health.api_connectivity {
        return ("warn", "Starting: no answer from the TaskManager yet".to_owned());
    }
    if let Some(gone) = view.types.iter().find(|it| !it.known) {
        return ("warn", format!("Running, but {} is no longer registered", gone.name));
    }
    if let Some(circuit_open) = view.types.iter().find(|it| it.circuit_open.is_some()) {
        return ("warn", format!("Running, but circuit open for {}", circuit_open.name));
    }
    let text = match view.running.len() {
        0 => "Healthy, waiting for tasks".to_owned(),
        1 => "Healthy, running 1 task".to_owned(),
        count => format!("Healthy, running {count} tasks"),
    };
    ("good", text)
}

/// Renders the most important numbers.
fn tiles(health: &WorkerHealth) -> Markup {
    let ago = |seconds: u64| format!("{} ago", short_duration(Duration::from_secs(seconds)));
    let completed = health.tasks_processed - health.tasks_failed;
    let asked = health.seconds_since_poll.map_or_else(String::new, |poll| format!("last poll {}", ago(poll)));
    let took = health.api_latency_ms.filter(|_| health.api_error.is_none());
    let latency = took.map_or_else(|| "–".to_owned(), |took| format!("{took} ms"));
    let answers = match (&health.api_latency_ms, &health.api_error) {
        (None, None) => "no answer yet",
        (_, None) => "last response time",
        (_, Some(_)) => "unreachable",
    };
    html! {
        ul.tiles {
            (tile("In flight", health.tasks_in_flight, &asked))
            (tile("Completed", completed, &format!("started {}", ago(health.uptime_seconds))))
            (tile("Failed", health.tasks_failed, &percentage(health.tasks_failed, health.tasks_processed)))
            li class=[bad_class(health.unreported > 0)] {
                h2 { "Unreported" }
                strong { (health.unreported) }
                @if let Some(oldest) = health.oldest_unreported_seconds {
                    p { "oldest " (ago(oldest)) }
                } @else { p { "pending reports" } }
                @if let Some(why) = &health.last_refused {
                    p { (health.refused) " refused by the TaskManager, last " (why) }
                }
            }
            (tile("TaskManager", latency, answers))
            @if let Some(quota) = health.youtube_api.as_ref().and_then(|it| it.quota.as_ref()) { (quota_tile(quota)) }
        }
    }
}

fn tile(name: &str, value: impl Display, text: &str) -> Markup {
    html! { li { h2 { (name) } strong { (value.to_string()) } p { (text) } } }
}

fn quota_tile(quota: &Quota) -> Markup {
    let resets = quota.resets.map(|time| short_duration(time.saturating_duration_since(Instant::now())));
    html! {
        li class=[bad_class(quota.left == 0)] {
            h2 { "YouTube today" }
            strong { (quota.left) }
            p { "units left of " (quota.limit) @if let Some(resets) = resets { "; resets in " (resets) } }
            meter min="0" max=(quota.limit) value=(quota.used) { (quota.used) }
        }
    }
}

fn percentage(part: u64, whole: u64) -> String {
    match (100 * part + whole / 2).checked_div(whole) {
        None => "no attempts yet".to_owned(),
        Some(percent) => format!("{percent} % of {whole} attempts"),
    }
}

fn running(tasks: &[RunningTask]) -> Markup {
    html! {
        section {
            h2 { "Tasks in flight" }
            @if tasks.is_empty() { p.soft { "None." } }
            ul.rows {
                @for task in tasks {
                    li {
                        (row(&task_label(task.id, &task.task_type), &short_duration(task.age)))
                        @if let Some((percent, message)) = &task.progress {
                            progress max="100" value=(percent) { (percent) " %" }
                            p.soft { (percent) " % " (message) }
                        }
                    }
                }
            }
        }
    }
}

/// Renders a row with a value at its end.
fn row(what: &Markup, value: &str) -> Markup {
    html! { div.line { p { (what) } " " p.figure { (value) } } }
}

/// Renders a task's id and type.
fn task_label(id: u64, task_type: &str) -> Markup {
    html! { span.soft { "#" (id) } " " (task_type) }
}

fn types(types: &[TypeView]) -> Markup {
    let longest = types.iter().filter_map(|it| it.seconds).map(|(_, p95)| p95).fold(0.001, f64::max);
    html! {
        section {
            h2 { "Types" }
            @if types.is_empty() { p.soft { "None yet." } }
            ul.rows {
                @for it in types {
                    li {
                        @let p95 = it.seconds.map(|(_, p95)| format!("p95 {}", seconds(p95))).unwrap_or_default();
                        (row(&html! { (it.name) }, &p95))
                        @if let Some((median, p95)) = it.seconds { (durations(median / longest, p95 / longest)) }
                        p.soft {
                            (it.running) " in flight, " (it.completed) " completed, " (it.failed) " failed"
                            @if let Some((median, _)) = it.seconds { "; median " (seconds(median)) }
                        }
                        (claiming_paused(it))
                    }
                }
            }
        }
    }
}

/// Renders the median and the 95th percentile, relative to the longest of all types.
fn durations(median: f64, p95: f64) -> Markup {
    let bar = |class: &str, share: f64| {
        html! { rect class=(class) width=(format!("{:.1}", 100.0 * share)) height="1" {} }
    };
    html! {
        svg.durations viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
            (bar("p95", p95)) (bar("median", median))
        }
    }
}

/// Renders why a type is not being claimed, if so.
fn claiming_paused(it: &TypeView) -> Markup {
    let when = |left: Duration| {
        if left.as_secs() == 0 { "now".to_owned() } else { format!("in {}", short_duration(left)) }
    };
    html! {
        @if !it.known {
            p.bad-text { "No longer registered with the TaskManager." }
        } @else if let Some(left) = it.circuit_open {
            p.bad-text { "Circuit open: too many retryable failures; next attempt " (when(left)) "." }
        } @else if let Some(left) = it.snoozed {
            p.warn-text { "Snoozed by its handler; claiming resumes " (when(left)) "." }
        }
    }
}

/// Renders the last failed attempts with their errors.
fn failed(attempts: &[FinishedAttempt]) -> Markup {
    html! {
        @if !attempts.is_empty() {
            section.full {
                h2 { "Recent errors" }
                ul.rows {
                    @for it in attempts {
                        li {
                            (row(&task_label(it.id, &it.task_type), &format!("{} ago", short_duration(it.ago))))
                            @if let Some((error_type, text)) = &it.failure {
                                p { span.bad-text { (error_type) } ": " (text) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ended(attempts: &[FinishedAttempt]) -> Markup {
    html! {
        section {
            h2 { "Recent results" }
            @if attempts.is_empty() { p.soft { "None yet." } }
            ul.rows {
                @for it in attempts {
                    li {
                        (row(&task_label(it.id, &it.task_type), &format!("{} ago", short_duration(it.ago))))
                        p.soft {
                            @if let Some((error_type, _)) = &it.failure {
                                span.bad-text { "failed" } " (" (error_type) ")"
                            } @else { span.good-text { "completed" } }
                            " in " (seconds(it.seconds))
                        }
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
