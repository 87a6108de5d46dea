//! `stats`: the results file in numbers.

use serde_json::json;

use super::setup::Setup;
use crate::cli::{self, StatsArgs};
use crate::clock::{Clock, Timestamp};
use crate::exit::Exit;
use crate::output::{print_json, print_line, table};
use crate::store::{By, Group, Store};

/// `prismq stats`
pub(super) fn run(args: &StatsArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let since = args.since.and_then(|since| setup.clock().now().checked_sub(since).ok());
    let by = match args.by {
        None | Some(cli::By::Type) => By::Type,
        Some(cli::By::Worker) => By::Worker,
        Some(cli::By::Hour) => By::Hour,
        Some(cli::By::Day) => By::Day,
    };
    print(&setup.store()?, by, since, setup.json)?;
    Ok(Exit::Done)
}

/// Prints the statistics of `store`.
pub(super) fn print(store: &Store, by: By, since: Option<Timestamp>, as_json: bool) -> anyhow::Result<()> {
    let groups = store.statistics(by, since)?;
    let (unreported, _) = store.count_unreported()?;
    if as_json {
        return Ok(print_json(&json!({"groups": groups, "unreported": unreported}))?);
    }
    let heading = ["NAME", "COMPLETED", "FAILED", "LOST", "SUCCESS", "MEAN", "P50", "P95", "P99", "PER SECOND"];
    print_line(table(heading, groups.iter().map(row)))?;
    if unreported > 0 {
        print_line(format_args!("{unreported} not reported yet"))?;
    }
    Ok(())
}

fn row(group: &Group) -> [String; 10] {
    [
        group.name.clone(),
        group.completed.to_string(),
        group.failed.to_string(),
        group.lost.to_string(),
        format!("{:.1} %", group.success_rate * 100.0),
        format!("{:.0} ms", group.mean_ms),
        format!("{} ms", group.p50_ms),
        format!("{} ms", group.p95_ms),
        format!("{} ms", group.p99_ms),
        format!("{:.1}", group.per_second),
    ]
}
