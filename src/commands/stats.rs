//! `stats`: the results file in numbers.

use std::sync::Arc;

use serde_json::json;

use super::quota;
use super::setup::Setup;
use crate::cli::{self, StatsArgs};
use crate::clock::Clock;
use crate::exit::Exit;
use crate::handler::youtube::Budget;
use crate::output::{print_json, print_line, table};
use crate::store::{By, Group};

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
    let store = Arc::new(setup.store()?);
    let quota = quota::of_today(&store, setup).map_err(anyhow::Error::msg)?;
    let quota = Some(quota).filter(|quota| quota.used > 0 || quota::is_needed(setup));
    print(&store.statistics(by, since)?, store.count_unreported()?.0, quota.as_ref(), setup.json)?;
    Ok(Exit::Done)
}

/// Prints the results in numbers, how many of them are not reported, and what is left of the day's quota of YouTube.
pub(super) fn print(groups: &[Group], unreported: u64, quota: Option<&Budget>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let mut report = json!({"groups": groups, "unreported": unreported});
        if let Some(quota) = quota {
            quota::add_to(&mut report["youtube_quota"], quota);
        }
        return Ok(print_json(&report)?);
    }
    let heading = ["NAME", "COMPLETED", "FAILED", "LOST", "SUCCESS", "MEAN", "P50", "P95", "P99", "PER SECOND"];
    print_line(table(heading, groups.iter().map(row)))?;
    if unreported > 0 {
        print_line(format_args!("{unreported} not reported yet"))?;
    }
    if let Some(quota) = quota {
        let (used, limit, left) = (quota.used, quota.limit, quota.left());
        print_line(format_args!("YouTube: {used} of {limit} units used, {left} left until {:.0}", quota.resets_at))?;
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
