//! `results`: prints or exports the results file, row by row.

use std::io::{self, Write};
use std::time::Duration;

use console::measure_text_width;
use serde_json::{Value, json};

use super::live::WaitLine;
use super::setup::Setup;
use crate::cli::{ResultsArgs, ResultsFormat};
use crate::clock::Clock;
use crate::config::format_duration;
use crate::exit::{Exit, UserError};
use crate::headline::{in_one_line, without_colours};
use crate::output::{Look, Stream, buffered, note, on_stdout, padded, printable, shortened, write_json_line};
use crate::store::{ResultFilter, Store, StoredResult};
use crate::task::TaskId;

/// The columns of `results`, in the order of the table.
const COLUMNS: [&str; 17] = [
    "task_id",
    "task_type",
    "attempt",
    "worker_id",
    "api_url",
    "status",
    "params",
    "data",
    "message",
    "error",
    "error_type",
    "retryable",
    "claimed_at",
    "started_at",
    "finished_at",
    "duration_ms",
    "reported_at",
];

/// The header of the table.
const HEADING: [&str; 7] = ["ID", "TYPE", "ATTEMPT", "STATUS", "MS", "FINISHED", "RESULT"];

/// `prismq results`
pub(super) fn run(args: &ResultsArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let filter = ResultFilter {
        task_id: args.id.map(TaskId),
        task_type: args.task_type.clone(),
        failed: args.failed,
        since: args.since.and_then(|since| setup.clock().now().checked_sub(since).ok()),
    };
    let store = setup.store_to_read()?;
    let format = match args.format {
        Some(format) => format,
        None if setup.json => ResultsFormat::Jsonl,
        None if args.id.is_some() => ResultsFormat::Full,
        None => ResultsFormat::Table,
    };
    // On a terminal, the rows themselves show the progress.
    let progress = (!Stream::Stdout.is_terminal()).then(|| WaitLine::counting("results", setup));
    let found = print(&store, &filter, format, progress.as_ref())?;
    drop(progress);
    match args.id {
        _ if found => {}
        Some(id) => {
            return Err(UserError::new(Exit::Failed, format!("the results file has no result of task {id}")).into());
        }
        None => note(none_found(args)),
    }
    Ok(Exit::Done)
}

/// Prints the results that match the filter. Returns whether there are any.
fn print(
    store: &Store,
    filter: &ResultFilter,
    format: ResultsFormat,
    progress: Option<&WaitLine>,
) -> anyhow::Result<bool> {
    let mut out = buffered();
    let mut found = false;
    let columns = Columns::of_terminal();
    if format == ResultsFormat::Csv {
        on_stdout(writeln!(out, "{}", COLUMNS.join(",")))?;
    }
    let printed = store.for_each_result(filter, |stored| {
        match format {
            ResultsFormat::Table if !found => columns.line(HEADING, &mut out)?,
            ResultsFormat::Full if found => writeln!(out)?,
            _ => {}
        }
        found = true;
        if let Some(progress) = progress {
            progress.bar().inc(1);
        }
        match format {
            ResultsFormat::Jsonl => write_json_line(&mut out, &fields(&stored)),
            ResultsFormat::Csv => write_csv(&stored, &mut out),
            ResultsFormat::Table => columns.write(&stored, &mut out),
            ResultsFormat::Full => write_fields(&stored, &mut out),
        }
    })?;
    on_stdout(printed.and_then(|()| out.flush()))?;
    Ok(found)
}

/// Returns the message if nothing was found.
fn none_found(args: &ResultsArgs) -> String {
    let failed = if args.failed { "failed " } else { "" };
    let of_type = args.task_type.as_ref().map_or_else(String::new, |name| format!(" of type {name}"));
    let since = args.since.map_or_else(String::new, |since| format!(" in the last {}", format_duration(since)));
    format!("no {failed}result{of_type}{since}")
}

/// Converts a row of the table `results` to JSON. `report_error` is present only if the TaskManager refused it.
pub(super) fn fields(stored: &StoredResult) -> Value {
    let StoredResult { result, status, reported_at, report_error, .. } = stored;
    let failure = result.outcome.failure.as_ref();
    let mut fields = json!({
        "task_id": result.task_id,
        "task_type": result.task_type,
        "attempt": result.attempt,
        "worker_id": result.worker_id,
        "api_url": result.api_url,
        "status": status,
        "params": result.params,
        "data": result.outcome.data,
        "message": result.outcome.message,
        "error": failure.map(|failure| &failure.error),
        "error_type": failure.map(|failure| &failure.error_type),
        "retryable": failure.map(|failure| failure.retryable),
        "claimed_at": result.claimed_at,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "duration_ms": result.duration_ms(),
        "reported_at": reported_at,
    });
    if let Some(why) = report_error {
        fields["report_error"] = json!(why);
    }
    fields
}

fn write_csv(stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
    let fields = fields(stored);
    let cells = COLUMNS.map(|column| match &fields[column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let mut line = Vec::new();
    // Write to memory first, since this writer hides errors of the output.
    csv::Writer::from_writer(&mut line).write_record(cells)?;
    out.write_all(&line)
}

/// The column widths of the table, which are needed before the first row.
struct Columns {
    /// Omit the attempt and the duration.
    is_narrow: bool,
    /// Maximum width of a result.
    shown: usize,
    longest_name: usize,
}

impl Columns {
    /// Width of the other columns.
    const WIDE: usize = 93;
    const NARROW: usize = 65;
    /// Minimum and maximum width of a result.
    const SHOWN: [usize; 2] = [20, 60];

    /// Fits the terminal; without one, nothing is truncated.
    fn of_terminal() -> Self {
        let [least, most] = Self::SHOWN;
        let look = Look::of(Stream::Stdout);
        let width = look.width;
        let is_narrow = width < Self::WIDE + least;
        let taken = if is_narrow { Self::NARROW } else { Self::WIDE };
        Self { is_narrow, shown: width.saturating_sub(taken).clamp(8, most), longest_name: look.longest_name() }
    }

    fn type_width(&self) -> usize {
        if self.is_narrow { 22 } else { 26 }
    }

    fn line(&self, cells: [&str; 7], out: &mut impl Write) -> io::Result<()> {
        let [id, task_type, attempt, status, ms, finished, result] = cells;
        let task_type = padded(task_type, self.type_width());
        if self.is_narrow {
            return writeln!(out, "{id:>6}  {task_type}  {status:<9}  {finished:<20}  {result}");
        }
        let shown = format!("{attempt:>7}  {status:<9} {ms:>9}  {finished:<24}");
        writeln!(out, "{id:>8}  {task_type} {shown}  {result}")
    }

    fn write(&self, stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
        let StoredResult { result, status, report_error, .. } = stored;
        let text = match (report_error, &result.outcome.failure) {
            (Some(why), _) => printable(&format!("not reported: {why}")).into_owned(),
            (None, Some(failure)) => printable(&in_one_line(&failure.error)).into_owned(),
            (None, None) => printable(&result.outcome.data.to_string()).into_owned(),
        };
        let task_type = shortened(&printable(&result.task_type), self.longest_name);
        // A long type name shortens the result.
        let excess = measure_text_width(&task_type).saturating_sub(self.type_width());
        let least = self.shown.min(8);
        let shown = shortened(&text, self.shown.saturating_sub(excess).max(least));
        let finished = result.finished_at;
        let finished = if self.is_narrow { format!("{finished:.0}") } else { format!("{finished:.3}") };
        let (id, attempt) = (result.task_id.to_string(), result.attempt.to_string());
        let ms = result.duration_ms().to_string();
        self.line([&id, &task_type, &attempt, status.as_str(), &ms, &finished, &shown], out)
    }
}

/// Width of the labels of fields, including blanks.
const LABEL: usize = 12;

/// Writes one field per line, texts and data with their line breaks.
fn write_fields(stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
    let StoredResult { result, status, reported_at, report_error, .. } = stored;
    let outcome = &result.outcome;
    let mut field = |label: &str, text: &str| write_field(label, text, out);
    field("task", &format!("{}, {}", result.task_id, result.task_type))?;
    field("attempt", &result.attempt.to_string())?;
    field("status", status.as_str())?;
    if let Some(failure) = &outcome.failure {
        let again = if failure.retryable { "retryable" } else { "not retryable" };
        field("error type", &format!("{}, {again}", failure.error_type.as_str()))?;
        field("error", &without_colours(&failure.error))?;
    }
    if let Some(message) = &outcome.message {
        field("message", message)?;
    }
    field("params", &pretty(&result.params))?;
    if !outcome.data.is_null() {
        field("data", &pretty(&outcome.data))?;
    }
    if !outcome.metadata.is_empty() {
        field("metadata", &pretty(&Value::Object(outcome.metadata.clone())))?;
    }
    field("worker", &result.worker_id)?;
    field("TaskManager", &result.api_url)?;
    field("claimed", &format!("{:.3}", result.claimed_at))?;
    field("started", &format!("{:.3}", result.started_at))?;
    let took = format_duration(Duration::from_millis(result.duration_ms().unsigned_abs()));
    field("finished", &format!("{:.3}, after {took}", result.finished_at))?;
    match (reported_at, report_error) {
        (Some(at), _) => field("reported", &format!("{at:.3}")),
        (None, Some(why)) => field("reported", &format!("not yet: {why}")),
        (None, None) => field("reported", "not yet"),
    }
}

/// Writes a label and its text, aligning further lines with the first.
fn write_field(label: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    for (number, line) in text.trim_end().split('\n').enumerate() {
        let line = line.trim_end_matches('\r').replace('\t', "    ");
        let line = format!("{:<LABEL$} {}", if number == 0 { label } else { "" }, printable(&line));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}
