//! Pages with lists of tasks and single tasks.

use maud::{Markup, html};
use serde_json::Value;

use super::{ago, list_link, task_link};
use crate::headline::{in_one_line, without_colours};
use crate::http::page::{bad_class, short_duration};
use crate::output::grouped;
use crate::output::printable;
use crate::server::storage::{
    AttemptEnd, Cursor, Excerpt, PastAttempt, STATUSES, TaskPage, TaskRow, TaskSummary, Time,
};

/// A page of a list.
pub(super) struct List<'a> {
    pub(super) status: Option<&'static str>,
    pub(super) task_type: Option<&'a str>,
    /// Number of tasks of each status, of the selected type.
    pub(super) counts: [u64; STATUSES.len()],
    pub(super) tasks: &'a [TaskRow],
    /// Links to newer and older tasks.
    pub(super) newer: Option<Cursor>,
    pub(super) older: Option<Cursor>,
}

pub(super) fn list(list: &List<'_>) -> Markup {
    html! {
        h1 {
            @match list.task_type { Some(name) => { "Tasks: " (name) }, None => "Tasks" }
        }
        @if list.task_type.is_some() { p { a href=(list_link(list.status, None, None)) { "all types" } } }
        (tabs(list))
        @if list.tasks.is_empty() { p.soft { "None." } } @else { section { (table(list)) } }
        ul.tabs {
            @if list.newer.is_some() {
                li { a href=(list_link(list.status, list.task_type, None)) { "newest" } }
                li { a rel="prev" href=(list_link(list.status, list.task_type, list.newer)) { "newer" } }
            }
            @if list.older.is_some() {
                li { a rel="next" href=(list_link(list.status, list.task_type, list.older)) { "older" } }
            }
        }
    }
}

fn tabs(list: &List<'_>) -> Markup {
    let counted = STATUSES.into_iter().zip(list.counts).map(|(status, count)| (Some(status), count));
    html! {
        ul.tabs {
            @for (status, count) in counted.chain([(None, list.counts.iter().sum())]) {
                @let is_here = (status == list.status).then_some("page");
                li {
                    a href=(list_link(status, list.task_type, None)) aria-current=[is_here] {
                        (status.unwrap_or("all"))
                    }
                    " " span.soft { (grouped(count)) }
                }
            }
        }
    }
}

fn table(list: &List<'_>) -> Markup {
    html! {
        table.trailed {
            tr {
                th { "Task" }
                @if list.task_type.is_none() { th { "Type" } }
                @if list.status.is_none() { th { "Status" } }
                th { "When" }
                th.roomy { "Attempts" }
                th { (heading(list.status)) }
            }
            @for it in list.tasks {
                tr {
                    td.short { (task_link(it.task.id)) }
                    @if list.task_type.is_none() { td { (it.task.task_type) } }
                    @if list.status.is_none() { td.short { span class=[bad_class(it.task.status == "failed")] { (it.task.status) } } }
                    td.short { (ago(last_change(&it.task))) }
                    td.roomy { (it.task.attempts) }
                    td { (what(it)) }
                }
            }
        }
    }
}

fn heading(status: Option<&str>) -> &'static str {
    match status {
        Some("pending") => "Priority",
        Some("failed") => "Error",
        Some("claimed" | "completed") => "Worker",
        _ => "Details",
    }
}

/// Renders the most important detail for a task's status.
fn what(listed: &TaskRow) -> Markup {
    let task = &listed.task;
    let worker = task.claimed_by.as_deref().unwrap_or_default();
    html! {
        @match task.status.as_str() {
            "pending" => (priority(task.priority)),
            "claimed" => { (worker) " " (progress(task.progress)) },
            "failed" => span.bad-text { (listed.error.as_deref().unwrap_or("(no message)")) },
            _ => { (worker) @if let Some(took) = took(task) { span.soft { " took " (took) } } },
        }
    }
}

fn priority(priority: i64) -> Markup {
    html! { @if priority != 0 { (priority) } }
}

fn progress(percent: i64) -> Markup {
    html! { progress max="100" value=(percent) {} " " span.soft { (percent) " %" } }
}

fn took(task: &TaskSummary) -> Option<String> {
    Some(short_duration(task.completed_at?.since(task.claimed_at?)))
}

fn last_change(task: &TaskSummary) -> Time {
    task.completed_at.or(task.claimed_at).unwrap_or(task.created_at)
}

/// Renders a task, with an optional note at the top.
pub(super) fn task(shown: &TaskPage, note: Option<&str>) -> Markup {
    let task = &shown.task;
    let of_which = if task.completed_at.is_some() { "" } else { " of the previous attempt" };
    html! {
        @if let Some(note) = note { p.note role="status" { (note) } }
        h1 { "Task " (task.id) " · " span class=[bad_class(task.status == "failed")] { (task.status) } }
        (facts(shown))
        @if task.status == "failed" {
            form.facts method="post" action=(format!("/tasks/{}/put-back", task.id)) {
                button { "Retry" }
                p.soft { "Starts over with a fresh set of attempts." }
            }
        }
        @if let Some(error) = &shown.error {
            section {
                h2 { "Error" (of_which) }
                pre.bad-text { (without_colours(error)) }
            }
        }
        section {
            h2 { "Params" }
            (json(&shown.params, task.id))
        }
        @if let Some(result) = &shown.result {
            section {
                h2 { "Result" (of_which) }
                (json(result, task.id))
            }
        }
        (history(shown))
    }
}

fn facts(shown: &TaskPage) -> Markup {
    let task = &shown.task;
    html! {
        ul.facts {
            li { a href=(list_link(None, Some(&task.task_type), None)) { (task.task_type) } }
            li { "priority " (task.priority) }
            li { (task.attempts) @if task.attempts == 1 { " attempt" } @else { " attempts" } }
            li { "created " (ago(task.created_at)) }
            @if task.status == "claimed" { li { (progress(task.progress)) } }
            @if let Some(expires_at) = shown.expires_at {
                @let left = expires_at.since(Time::now());
                @if left.is_zero() { li.bad-text { "claim expired: available to the next worker" } }
                @else { li { "claim expires in " (short_duration(left)) } }
            }
        }
    }
}

fn json(excerpt: &Excerpt, id: i64) -> Markup {
    let value = excerpt.is_whole().then(|| serde_json::from_str::<Value>(&excerpt.text).ok()).flatten();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    html! {
        pre { (pretty.as_deref().unwrap_or(&excerpt.text)) }
        (the_rest(excerpt, id))
    }
}

fn the_rest(excerpt: &Excerpt, id: i64) -> Markup {
    html! {
        @if !excerpt.is_whole() {
            p.soft {
                "Truncated (" (grouped(excerpt.length as u64)) " characters in total). "
                code { "prismq show-task " (id) " --json" } " shows all of it."
            }
        }
    }
}

/// Renders the attempts, newest first.
fn history(shown: &TaskPage) -> Markup {
    let task = &shown.task;
    html! {
        section {
            h2 { "History" }
            table.trailed {
                tr { th { "Attempt" } th { "Worker" } th { "Claimed" } th { "Outcome" } }
                @if let Some(claimed_at) = task.claimed_at {
                    tr {
                        td { (task.attempts) }
                        td { (task.claimed_by.as_deref().unwrap_or_default()) }
                        td.short { (ago(claimed_at)) }
                        td {
                            @match (task.completed_at, took(task)) {
                                (Some(time), Some(took)) => { (task.status) " " (ago(time)) " after " (took) },
                                _ => "in flight",
                            }
                        }
                    }
                }
                @for it in &shown.past { (past(it)) }
                tr { td {} td {} td.short { (ago(task.created_at)) } td { "created" } }
            }
        }
    }
}

fn past(attempt: &PastAttempt) -> Markup {
    let left = ago(attempt.left_at);
    html! {
        tr {
            td { (attempt.attempt) }
            td { (attempt.worker_id.as_deref().unwrap_or_default()) }
            td.short { @if let Some(time) = attempt.claimed_at { (ago(time)) } }
            td {
                @match (attempt.end, attempt.ended_at) {
                    (AttemptEnd::Expired, _) => { "claim expired, claimed again " (left) },
                    (AttemptEnd::Retried, Some(time)) => { "failed " (ago(time)) ", retried by hand " (left) },
                    (AttemptEnd::Retried, None) => { "retried by hand " (left) },
                    (AttemptEnd::Failed, _) => { "failed " (left) ", retrying" },
                }
                @if let Some(error) = &attempt.error { p.bad-text { (printable(&in_one_line(error))) } }
            }
        }
    }
}
