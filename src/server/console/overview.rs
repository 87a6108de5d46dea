//! The overview page.

use maud::{Markup, html};

use super::{ago, list_link, new_link, task_link};
use crate::failure_rate::mostly_failing;
use crate::http::page::{bad_class, last_hour, status_heading};
use crate::output::grouped;
use crate::server::storage::{Overview, STATUSES, TypeCounts, WorkerActivity};

/// Maximum number of workers shown, most recently active first.
const WORKERS: usize = 50;

/// Maximum number of types shown for a polling worker.
const NAMES: usize = 3;

pub(super) fn main(overview: &Overview) -> Markup {
    let counts = overview.types.iter().fold([0; STATUSES.len()], |mut sum, it| {
        sum.iter_mut().zip(it.counts).for_each(|(sum, count)| *sum += count);
        sum
    });
    let minutes: Vec<_> = overview.last_hour.iter().map(|it| (it.completed, it.failed)).collect();
    let (completed, failed) = minutes.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let (level, text) = match (condition(overview, counts), mostly_failing("tasks", completed, failed)) {
        (("good", text), Some(failing)) => ("warn", format!("{text}, but {failing}")),
        ((level, text), Some(failing)) => (level, format!("{text}, and {failing}")),
        ((level, text), None) => (level, text.to_owned()),
    };
    html! {
        (status_heading(level, text))
        ul.tiles { @for (status, count) in STATUSES.into_iter().zip(counts) { (tile(status, count)) } }
        div.columns {
            (last_hour(&minutes))
            (workers(&overview.workers))
            (types(&overview.types))
        }
    }
}

/// Renders the number of tasks with a status, as a link.
fn tile(status: &str, count: u64) -> Markup {
    html! {
        li {
            a href=(list_link(Some(status), None, None)) {
                h2 { (status) }
                strong class=[bad_class(status == "failed" && count > 0)] { (grouped(count)) }
            }
        }
    }
}

/// Returns the CSS class and the text of the overall state.
fn condition(overview: &Overview, [pending, claimed, ..]: [u64; STATUSES.len()]) -> (&'static str, &'static str) {
    match (pending, claimed) {
        _ if overview.types.is_empty() => ("warn", "No task types registered yet"),
        (0, 0) => ("good", "Idle: no tasks pending or in flight"),
        (0, _) => ("good", "No tasks pending: all are in flight"),
        (_, 0) if overview.workers.iter().all(|worker| worker.waits_for.is_empty()) => {
            ("warn", "Tasks pending, no workers")
        }
        (_, 0) => ("warn", "Tasks pending, no worker for their type"),
        _ => ("good", "Healthy, running tasks"),
    }
}

fn types(types: &[TypeCounts]) -> Markup {
    html! {
        section.full {
            h2 { "Types" }
            @if types.is_empty() {
                p.soft { "None. Register one with " code { "prismq register-type" } "." }
            } @else {
                table.headed {
                    tr {
                        th { "Type" }
                        th.roomy { "Version" }
                        @for status in STATUSES { th.number { (status) } }
                        th.roomy {}
                    }
                    @for it in types {
                        tr {
                            td { (it.name) @if !it.is_active { span.soft { " (inactive)" } } }
                            td.roomy.soft { (it.version) }
                            @for (status, count) in STATUSES.into_iter().zip(it.counts) {
                                @let link = list_link(Some(status), Some(&it.name), None);
                                td.number {
                                    @if count == 0 { span.soft { "0" } }
                                    @else { a class=[bad_class(status == "failed")] href=(link) { (grouped(count)) } }
                                }
                            }
                            td.roomy.number { @if it.is_active { a href=(new_link(&it.name)) { "new task" } } }
                        }
                    }
                }
            }
        }
    }
}

fn workers(workers: &[WorkerActivity]) -> Markup {
    html! {
        section {
            h2 { "Workers" }
            @if workers.is_empty() {
                p.soft { "No workers yet." }
            } @else {
                table {
                    tr { th { "Worker" } th.number { "In flight" } th { "Last claim" } th.roomy { "Task" } }
                    @for it in workers.iter().take(WORKERS) {
                        tr {
                            td {
                                (it.worker_id)
                                @if !it.waits_for.is_empty() { span.soft { " polling " (listed(&it.waits_for)) } }
                            }
                            td.number { (it.in_flight) }
                            @if let Some((time, id)) = it.last {
                                td.short { (ago(time)) }
                                td.roomy.short { (task_link(id)) }
                            } @else {
                                td.soft { "none yet" }
                                td.roomy {}
                            }
                        }
                    }
                }
                @if workers.len() > WORKERS { p.soft { "And " (workers.len() - WORKERS) " more." } }
            }
        }
    }
}

/// Joins the first few names.
fn listed(names: &[String]) -> String {
    let (first, rest) = names.split_at(names.len().min(NAMES));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    first.join(", ") + &more
}
