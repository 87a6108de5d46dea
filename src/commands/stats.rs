//! `stats`: statistics of the results file, as text, JSON or an HTML report.

mod html;
mod text;
mod watch;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::json;

use super::setup::Setup;
use crate::cli::{StatsArgs, StatsBy};
use crate::clock::Clock;
use crate::exit::{Exit, UserError};
use crate::output::{Look, Stream, print_json, print_line, print_text};
use crate::store::{By, Group, Store, StoreError, Unreported};
use crate::text_file;
use crate::youtube::Budget;

/// The statistics at one moment.
pub(super) struct Statistics {
    by: By,
    groups: Vec<Group>,
    /// The last 24 hours; empty if not requested.
    hours: Vec<Slice>,
    unreported: Unreported,
    /// The day's YouTube quota, if it is used.
    quota: Option<Budget>,
    /// The start of the counted period.
    since: Option<Timestamp>,
    now: Timestamp,
}

/// Results that ended in one hour or on one day.
struct Slice {
    /// The name of the hour or the day.
    name: String,
    completed: u64,
    failed: u64,
}

impl Statistics {
    /// Gathers only the groups.
    pub(super) fn of(store: &Store, by: By, since: Option<Timestamp>, now: Timestamp) -> Result<Self, StoreError> {
        let groups = store.statistics(by, since)?;
        Ok(Self { by, groups, hours: Vec::new(), unreported: store.unreported()?, quota: None, since, now })
    }
}

impl Slice {
    fn all(&self) -> u64 {
        self.completed + self.failed
    }
}

/// Returns the last 24 hours, in UTC, the current one included.
fn last_hours(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let times = (0..24).rev().filter_map(|hours| now.checked_sub(Span::new().hours(hours)).ok());
    slices(store, By::Hour, times.map(|time| time.strftime("%Y-%m-%dT%H:00Z").to_string()).collect())
}

/// Returns the last 30 days, in UTC, today included.
fn last_days(store: &Store, now: Timestamp) -> Result<Vec<Slice>, StoreError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let days = (0..30).rev().filter_map(|days| today.checked_sub(Span::new().days(days)).ok());
    slices(store, By::Day, days.map(|day| day.to_string()).collect())
}

/// Returns a slice for each of these hours or days; empty ones have zeros.
fn slices(store: &Store, by: By, names: Vec<String>) -> Result<Vec<Slice>, StoreError> {
    let first = names.first().map(|name| name.replace(":00Z", ":00:00Z"));
    let first = first.map(|name| if name.contains('T') { name } else { name + "T00:00:00Z" });
    let since = first.and_then(|first| first.parse().ok());
    let mut found: HashMap<String, Group> =
        store.statistics(by, since)?.into_iter().map(|group| (group.name.clone(), group)).collect();
    let slice = |name: String| {
        let group = found.remove(&name).unwrap_or_default();
        Slice { name, completed: group.completed, failed: group.failed }
    };
    Ok(names.into_iter().map(slice).collect())
}

/// `prismq stats`
pub(super) fn run(args: &StatsArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    if args.watch {
        // The file may be created while watching.
        return watch::run(setup, || gather(args, setup, &Arc::new(setup.store_to_read()?)));
    }
    let store = Arc::new(setup.store_to_read()?);
    let statistics = gather(args, setup, &store)?;
    match &args.html {
        Some(file) => write_report(file, &html::page(&statistics, &last_days(&store, statistics.now)?))?,
        None => print(&statistics, setup.json)?,
    }
    Ok(Exit::Done)
}

fn gather(args: &StatsArgs, setup: &Setup, store: &Arc<Store>) -> anyhow::Result<Statistics> {
    let now = setup.clock().now();
    let quota = setup.youtube_ledger(store).budget().map_err(anyhow::Error::msg)?;
    let by = match args.by {
        None | Some(StatsBy::Type) => By::Type,
        Some(StatsBy::Worker) => By::Worker,
        Some(StatsBy::Hour) => By::Hour,
        Some(StatsBy::Day) => By::Day,
    };
    Ok(Statistics {
        hours: last_hours(store, now)?,
        quota: Some(quota).filter(|quota| quota.used > 0 || setup.reads_youtube()),
        ..Statistics::of(store, by, args.since.and_then(|since| now.checked_sub(since).ok()), now)?
    })
}

/// Prints the statistics, the number of unreported results, and the remaining YouTube quota.
pub(super) fn print(statistics: &Statistics, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_as_json(statistics);
    }
    Ok(print_line(text::lines(statistics, &Look::of(Stream::Stdout)).join("\n"))?)
}

fn print_as_json(statistics: &Statistics) -> anyhow::Result<()> {
    let mut report = json!({"groups": statistics.groups, "unreported": statistics.unreported.count});
    if statistics.unreported.refused > 0 {
        report["refused"] = json!(statistics.unreported.refused);
    }
    if let Some(quota) = &statistics.quota {
        quota.add_to(&mut report["youtube_quota"]);
    }
    Ok(print_json(&report)?)
}

/// Writes the report to `file`, atomically; `-` is standard output.
fn write_report(file: &Path, page: &str) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return Ok(print_text(page)?);
    }
    let is_stream = fs::metadata(file).is_ok_and(|it| !it.is_file() && !it.is_dir());
    let written = if is_stream { write_into(file, page) } else { replace(file, page) };
    // The error's own text may name the temporary file.
    let failed = |error: io::Error| {
        format!("--html: cannot write {}: {}", file.display(), text_file::unwritable(&error.kind().into()))
    };
    Ok(written.map_err(|error| UserError::new(Exit::Failed, failed(error)))?)
}

/// Writes to a pipe or a device, which must not be replaced.
fn write_into(stream: &Path, page: &str) -> io::Result<()> {
    File::options().write(true).open(stream)?.write_all(page.as_bytes())
}

/// Replaces `file`, or the target of a link, atomically.
fn replace(file: &Path, page: &str) -> io::Result<()> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let readable = fs::Permissions::from_mode(0o666);
    let mut new = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
    new.write_all(page.as_bytes())?;
    new.persist(&file)?;
    Ok(())
}
