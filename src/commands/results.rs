//! `results`: what the results file holds, printed or exported whole, one row at a time.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::live::Waiting;
use super::setup::Setup;
use crate::cli::{ResultsArgs, ResultsFormat};
use crate::clock::Clock;
use crate::exit::{Exit, UserError};
use crate::output::{Stream, buffered, on_stdout, printable, write_json_line};
use crate::store::{ResultFilter, StoredResult};
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

/// `prismq results`
pub(super) fn run(args: &ResultsArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let filter = ResultFilter {
        task_id: args.id.map(TaskId),
        task_type: args.task_type.clone(),
        failed: args.failed,
        since: args.since.and_then(|since| setup.clock().now().checked_sub(since).ok()),
    };
    let format = args.format.unwrap_or(if setup.json { ResultsFormat::Jsonl } else { ResultsFormat::Table });
    let store = setup.store()?;
    let mut out = buffered();
    let mut found = false;
    // On a terminal the rows themselves show how far it is.
    let progress = (!Stream::Stdout.is_terminal()).then(|| Waiting::counting("results", setup));
    on_stdout(start(format, &mut out))?;
    let printed = store.for_each_result(&filter, |stored| {
        found = true;
        if let Some(progress) = &progress {
            progress.bar().inc(1);
        }
        write(format, &stored, &mut out)
    })?;
    on_stdout(printed.and_then(|()| out.flush()))?;
    if let (Some(id), false) = (args.id, found) {
        return Err(UserError::new(Exit::Failed, format!("the results file holds no result of task {id}")).into());
    }
    Ok(Exit::Done)
}

fn start(format: ResultsFormat, out: &mut impl Write) -> io::Result<()> {
    match format {
        ResultsFormat::Jsonl => Ok(()),
        ResultsFormat::Csv => writeln!(out, "{}", COLUMNS.join(",")),
        ResultsFormat::Table => {
            writeln!(
                out,
                "{:>8}  {:<32} {:>7}  {:<9} {:>9}  {:<24}  RESULT",
                "ID", "TYPE", "ATTEMPT", "STATUS", "MS", "FINISHED"
            )
        }
    }
}

fn write(format: ResultsFormat, stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
    match format {
        ResultsFormat::Jsonl => write_json_line(out, &fields(stored)),
        ResultsFormat::Csv => write_csv(stored, out),
        ResultsFormat::Table => write_row(stored, out),
    }
}

/// A row of the table `results` as JSON.
pub(super) fn fields(stored: &StoredResult) -> Value {
    let StoredResult { result, status, reported_at, .. } = stored;
    let failure = result.outcome.failure.as_ref();
    json!({
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
    })
}

fn write_csv(stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
    let fields = fields(stored);
    let cells = COLUMNS.map(|column| match &fields[column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let mut line = Vec::new();
    // Into memory first: this writer keeps errors of what it writes to for itself.
    csv::Writer::from_writer(&mut line).write_record(cells)?;
    out.write_all(&line)
}

fn write_row(stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
    /// So much of a result fits beside the rest.
    const SHOWN: usize = 60;
    let StoredResult { result, status, .. } = stored;
    let text = match &result.outcome.failure {
        Some(failure) => failure.error.clone(),
        None => result.outcome.data.to_string(),
    };
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let (id, task_type, finished) =
        (result.task_id.to_string(), &result.task_type, format!("{:.3}", result.finished_at));
    let (attempt, status, ms) = (result.attempt, status.as_str(), result.duration_ms());
    let shown = printable(&shown);
    writeln!(out, "{id:>8}  {task_type:<32} {attempt:>7}  {status:<9} {ms:>9}  {finished:<24}  {shown}")
}
