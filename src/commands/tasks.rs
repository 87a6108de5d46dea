//! `list-tasks` and `show-task`: what the TaskManager holds.

use std::io::Write;

use clap::ValueEnum;
use console::measure_text_width;

use super::live::Waiting;
use super::setup::Setup;
use crate::cli::{ListTasksArgs, ShowTaskArgs};
use crate::exit::{Exit, UserError};
use crate::output::{Look, Stream, buffered, note, on_stdout, print_json, print_line, table, write_json_line};
use crate::task::TaskId;
use crate::taskmanager::{TaskFilter, TaskPages, TaskView};

/// `prismq list-tasks`
pub(super) fn list(args: &ListTasksArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let filter = TaskFilter { status: status(args), type_pattern: args.task_type.clone(), limit: args.limit };
    let mut pages = setup.client()?.task_pages(filter);
    let found = if setup.json { print_as_json(&mut pages, setup)? } else { print(&mut pages, setup)? };
    if !found {
        note(none_found(args));
    }
    Ok(Exit::Done)
}

/// Prints the tasks page by page. Returns whether there are any.
fn print_as_json(pages: &mut TaskPages, setup: &Setup) -> anyhow::Result<bool> {
    let mut next = || {
        let _waiting = Waiting::for_taskmanager(setup);
        pages.next_page()
    };
    let mut found = false;
    while let Some(page) = next()? {
        found = true;
        let mut out = buffered();
        let written = page.iter().try_for_each(|task| write_json_line(&mut out, task));
        on_stdout(written.and_then(|()| out.flush()))?;
    }
    Ok(found)
}

/// The same as a table.
fn print(pages: &mut TaskPages, setup: &Setup) -> anyhow::Result<bool> {
    let waiting = Waiting::for_taskmanager(setup);
    let mut rows = Vec::new();
    while let Some(page) = pages.next_page()? {
        rows.extend(page.into_iter().map(row));
    }
    drop(waiting);
    if !rows.is_empty() {
        print_line(fitting(&rows, Look::of(Stream::Stdout).width))?;
    }
    Ok(!rows.is_empty())
}

const HEADING: [&str; 7] = ["ID", "TYPE", "STATUS", "ATTEMPTS", "PROGRESS", "CREATED", "WORKER"];

/// The table with as many columns as fit: all, or without attempts and progress, or without the worker as well.
fn fitting(rows: &[[String; 7]], width: usize) -> String {
    let fits = |table: &str| table.lines().all(|line| measure_text_width(line) <= width);
    let whole = table(HEADING, rows.iter().cloned());
    if fits(&whole) {
        return whole;
    }
    let fewer = only([0, 1, 2, 5, 6], rows);
    if fits(&fewer) { fewer } else { only([0, 1, 2, 5], rows) }
}

/// The table with these columns.
fn only<const N: usize>(columns: [usize; N], rows: &[[String; 7]]) -> String {
    table(columns.map(|at| HEADING[at]), rows.iter().map(|row| columns.map(|at| row[at].clone())))
}

/// What was looked for in vain.
fn none_found(args: &ListTasksArgs) -> String {
    let status = status(args).map_or_else(String::new, |status| format!("{status} "));
    let of_type = args.task_type.as_ref().map_or_else(String::new, |pattern| format!(" of type {pattern}"));
    format!("no {status}task{of_type}")
}

/// The name of the status that is asked for.
fn status(args: &ListTasksArgs) -> Option<String> {
    args.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned()))
}

fn row(task: TaskView) -> [String; 7] {
    let [attempts, progress] = [task.attempts.to_string(), format!("{} %", task.progress)];
    let (created, worker) = (task.created_at.unwrap_or_default(), task.claimed_by.unwrap_or_default());
    [task.id.to_string(), task.task_type, task.status, attempts, progress, created, worker]
}

/// `prismq show-task`
pub(super) fn show(args: &ShowTaskArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let waiting = Waiting::for_taskmanager(setup);
    let Some(task) = setup.client()?.task(TaskId(args.id))? else {
        return Err(UserError::new(Exit::Failed, format!("the TaskManager knows no task {}", args.id)).into());
    };
    drop(waiting);
    if setup.json {
        print_json(&task)?;
    } else {
        print_line(serde_json::to_string_pretty(&task)?)?;
    }
    Ok(Exit::Done)
}
