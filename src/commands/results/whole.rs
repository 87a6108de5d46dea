//! Prints the complete results of a task: one field per line, texts and data with their line breaks.

use std::io::{self, Write};

use serde_json::Value;

use crate::config::format_duration;
use crate::headline::without_colours;
use crate::output::{buffered, on_stdout, printable};
use crate::store::{ResultFilter, Store, StoredResult};

/// Width of labels, including blanks.
const LABEL: usize = 12;

/// Prints all attempts that match the filter. Returns whether there are any.
pub(super) fn print(store: &Store, filter: &ResultFilter) -> anyhow::Result<bool> {
    let mut out = buffered();
    let mut found = false;
    let printed = store.for_each_result(filter, |stored| {
        if found {
            writeln!(out)?;
        }
        found = true;
        write_result(&stored, &mut out)
    })?;
    on_stdout(printed.and_then(|()| out.flush()))?;
    Ok(found)
}

fn write_result(stored: &StoredResult, out: &mut impl Write) -> io::Result<()> {
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
    let took = format_duration(std::time::Duration::from_millis(result.duration_ms().unsigned_abs()));
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
