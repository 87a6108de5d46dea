//! `stats`: statistics of the results file, as text, JSON or an HTML report.

mod figures;
mod report;
mod text;
mod watch;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::setup::Setup;
use crate::cli::{self, StatsArgs};
use crate::clock::Clock;
use crate::exit::{Exit, UserError};
use crate::output::{Look, Stream, buffered, on_stdout, print_json, print_line};
use crate::store::{By, Store};
use crate::text_file;

pub(super) use figures::Figures;

/// `prismq stats`
pub(super) fn run(args: &StatsArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    if args.watch {
        // The file may be created while watching.
        return watch::run(setup, || gather(args, setup, &Arc::new(setup.store_to_read()?)));
    }
    let store = Arc::new(setup.store_to_read()?);
    let figures = gather(args, setup, &store)?;
    match &args.html {
        Some(file) => write_report(file, &report::page(&figures, &figures::last_days(&store, figures.now)?))?,
        None => print(&figures, setup.json)?,
    }
    Ok(Exit::Done)
}

fn gather(args: &StatsArgs, setup: &Setup, store: &Arc<Store>) -> anyhow::Result<Figures> {
    let now = setup.clock().now();
    let quota = setup.youtube_ledger(store).budget().map_err(anyhow::Error::msg)?;
    let by = match args.by {
        None | Some(cli::By::Type) => By::Type,
        Some(cli::By::Worker) => By::Worker,
        Some(cli::By::Hour) => By::Hour,
        Some(cli::By::Day) => By::Day,
    };
    Ok(Figures {
        hours: figures::last_hours(store, now)?,
        quota: Some(quota).filter(|quota| quota.used > 0 || setup.reads_youtube()),
        ..Figures::of(store, by, args.since.and_then(|since| now.checked_sub(since).ok()), now)?
    })
}

/// Prints the statistics, the number of unreported results, and the remaining YouTube quota.
pub(super) fn print(figures: &Figures, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_as_json(figures);
    }
    Ok(print_line(text::lines(figures, &Look::of(Stream::Stdout)).join("\n"))?)
}

fn print_as_json(figures: &Figures) -> anyhow::Result<()> {
    let mut report = json!({"groups": figures.groups, "unreported": figures.unreported.count});
    if figures.unreported.refused > 0 {
        report["refused"] = json!(figures.unreported.refused);
    }
    if let Some(quota) = &figures.quota {
        quota.add_to(&mut report["youtube_quota"]);
    }
    Ok(print_json(&report)?)
}

/// Writes the report to `file`, atomically; `-` is standard output.
fn write_report(file: &Path, page: &str) -> anyhow::Result<()> {
    if file == Path::new("-") {
        let mut out = buffered();
        return Ok(on_stdout(out.write_all(page.as_bytes()).and_then(|()| out.flush()))?);
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
