//! Everything at a glance.

use maud::{Markup, html};

use super::{list_link, new_link, task_link};
use crate::server::page::{ago, bad, chart, grouped};
use crate::server::queue::{Overview, Seen, TypeCounts};
use crate::server::tally::Minute;
use crate::server::tasks::STATUSES;

/// Workers that are shown. Who has not claimed for so long that as many came after is of no interest.
const WORKERS: usize = 50;

pub(super) fn main(overview: &Overview) -> Markup {
    html! {
        h1 { (state(overview)) }
        ul.tiles {
            @for (place, status) in STATUSES.into_iter().enumerate() {
                @let count: u64 = overview.types.iter().map(|it| it.counts[place]).sum();
                li {
                    a href=(list_link(Some(status), None, None)) {
                        b class=[bad(status == "failed" && count > 0)] { (grouped(count)) } (status)
                    }
                }
            }
        }
        (last_hour(&overview.last_hour))
        (types(&overview.types))
        (workers(&overview.workers))
    }
}

/// How the queue is, in words.
fn state(overview: &Overview) -> &'static str {
    let [pending, claimed, ..] = overview.types.iter().fold([0; STATUSES.len()], |mut sum, it| {
        sum.iter_mut().zip(it.counts).for_each(|(sum, count)| *sum += count);
        sum
    });
    match (pending, claimed) {
        _ if overview.types.is_empty() => "No task type is registered yet",
        (0, 0) => "Nothing waits, nothing is in flight",
        (0, _) => "Nothing waits: every task is in flight",
        (_, 0) if overview.workers.iter().all(|worker| !worker.waits) => "Tasks wait, and no worker has one",
        (_, 0) => "Tasks wait for a worker of their type",
        _ => "Workers are at work",
    }
}

fn last_hour(minutes: &[Minute]) -> Markup {
    let bars: Vec<_> = minutes.iter().map(|it| (it.completed, it.failed)).collect();
    let (completed, failed) = bars.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let most = bars.iter().map(|(completed, failed)| completed + failed).max().unwrap_or(0);
    let said = format!(
        "{} completed, {} failed; {} in the busiest minute",
        grouped(completed),
        grouped(failed),
        grouped(most)
    );
    html! {
        h2 { "The last hour" }
        p.soft { (said) }
        (chart(&said, &bars))
        p.axis.soft { span { "an hour ago" } span { "now" } }
    }
}

fn types(types: &[TypeCounts]) -> Markup {
    html! {
        h2 { "Types" }
        @if types.is_empty() {
            p.soft { "None. " code { "prismq register-type" } " registers one." }
        } @else {
            table.headed {
                tr {
                    th { "Type" }
                    th.wide { "Version" }
                    @for status in STATUSES { th.number { (status) } }
                    th.wide {}
                }
                @for it in types {
                    tr {
                        td { (it.name) @if !it.is_active { span.soft { " (not active)" } } }
                        td.wide.soft { (it.version) }
                        @for (status, count) in STATUSES.into_iter().zip(it.counts) {
                            @let link = list_link(Some(status), Some(&it.name), None);
                            td.number {
                                @if count == 0 { span.soft { "0" } }
                                @else { a class=[bad(status == "failed")] href=(link) { (grouped(count)) } }
                            }
                        }
                        td.wide.number { @if it.is_active { a href=(new_link(&it.name)) { "new task" } } }
                    }
                }
            }
        }
    }
}

fn workers(workers: &[Seen]) -> Markup {
    html! {
        h2 { "Workers" }
        @if workers.is_empty() {
            p.soft { "None has been seen." }
        } @else {
            table {
                tr { th { "Worker" } th.number { "In flight" } th { "Last claim" } th.wide { "Task" } }
                @for it in workers.iter().take(WORKERS) {
                    tr {
                        td { (it.worker_id) @if it.waits { span.soft { " waits for a task" } } }
                        td.number { (it.in_flight) }
                        @if let Some((time, id)) = it.last {
                            td.short { (ago(time)) }
                            td.wide.short { (task_link(id)) }
                        } @else {
                            td.soft { "none yet" }
                            td.wide {}
                        }
                    }
                }
            }
            @if workers.len() > WORKERS { p.soft { "And " (workers.len() - WORKERS) " more." } }
        }
    }
}
