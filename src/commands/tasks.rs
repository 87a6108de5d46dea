//! `list-tasks` and `show-task`.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use console::measure_text_width;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::live::WaitLine;
use super::setup::Setup;
use crate::cli::{ListTasksArgs, TaskIdArgs};
use crate::exit::{Exit, UserError};
use crate::headline::in_one_line;
use crate::output::{
    Look, Stream, buffered, note, on_stdout, print_line, printable, shortened, table, write_json_line,
};
use crate::parallel::for_each_concurrently;
use crate::task::TaskId;
use crate::taskmanager::{Client, Error, Retries, TaskFilter, TaskPages, TaskView};

/// `prismq list-tasks`
pub(super) fn list(args: &ListTasksArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    // One more, to know whether there are more.
    let limit = args.limit.saturating_add(1);
    let filter = TaskFilter { status: status(args), type_pattern: args.task_type.clone(), limit };
    let left = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let client = setup.client()?;
    let mut list =
        TaskListing { pages: client.task_pages(filter), details: Details::new(&client), left, has_more: false };
    let found = if setup.json { print_as_json(&mut list, setup)? } else { print(&mut list, setup)? };
    if !found {
        note(none_found(args));
    } else if list.has_more {
        note(format_args!("showing the newest {}; use --limit N for more", args.limit));
    }
    list.details.conclude();
    Ok(Exit::Done)
}

/// The requested tasks, page by page.
struct TaskListing {
    pages: TaskPages,
    details: Details,
    /// Number of tasks still to be listed.
    left: usize,
    /// Whether there are more than requested.
    has_more: bool,
}

impl TaskListing {
    fn next_page(&mut self) -> Result<Option<Vec<TaskView>>, Error> {
        let Some(mut page) = self.pages.next_page()? else { return Ok(None) };
        self.has_more = page.len() > self.left;
        page.truncate(self.left);
        self.left -= page.len();
        self.details.add(&mut page);
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

/// Prints the tasks as JSON, page by page. Returns whether there are any.
fn print_as_json(list: &mut TaskListing, setup: &Setup) -> anyhow::Result<bool> {
    let mut next = || {
        let _waiting = WaitLine::for_taskmanager(setup);
        list.next_page()
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

/// Prints the tasks as a table. Returns whether there are any.
fn print(list: &mut TaskListing, setup: &Setup) -> anyhow::Result<bool> {
    let waiting = WaitLine::for_taskmanager(setup);
    let mut rows = Vec::new();
    while let Some(page) = list.next_page()? {
        rows.extend(page.into_iter().map(row));
    }
    drop(waiting);
    if !rows.is_empty() {
        let look = Look::of(Stream::Stdout);
        for row in &mut rows {
            row[TYPE] = shortened(&printable(&row[TYPE]), look.longest_name());
        }
        print_line(fitting(&rows, look.width))?;
    }
    Ok(!rows.is_empty())
}

const HEADING: [&str; 9] = ["ID", "TYPE", "STATUS", "ATTEMPTS", "PROGRESS", "CREATED", "WORKER", "PARAMS", "ERROR"];

/// Column sets of the table, widest first: all; without attempts and progress; also without the worker.
const SETS: [&[usize]; 3] = [&[0, 1, 2, 3, 4, 5, 6], &[0, 1, 2, 5, 6], &[0, 1, 2, 5]];

/// The column of the type's name.
const TYPE: usize = 1;

/// The columns of params and errors, which are truncated to the available width.
const CUT: [usize; 2] = [7, 8];
const LEAST: usize = 16;
/// Maximum width of these columns.
const MOST: usize = 60;

/// Formats the table with as many columns as fit. Errors take precedence over other columns. Without a terminal, all
/// columns are included.
fn fitting(rows: &[[String; 9]], width: usize) -> String {
    if width == usize::MAX {
        return with(&[0, 1, 2, 3, 4, 5, 6, 7, 8], rows, MOST);
    }
    let widest = |columns: &[usize]| with(columns, rows, 0).lines().map(measure_text_width).max().unwrap_or(0);
    let told: Vec<usize> = CUT.into_iter().filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
    for extra in [&told[..], &told[told.len().saturating_sub(1)..], &[]] {
        for set in SETS {
            let room = width.saturating_sub(widest(set));
            // Two blanks before each column.
            let each = room.checked_div(extra.len()).map_or(0, |each| each.saturating_sub(2));
            if (extra.is_empty() && room > 0) || each >= LEAST {
                return with(&[set, extra].concat(), rows, each.min(MOST));
            }
        }
    }
    with(SETS[2], rows, 0)
}

/// Formats the table with these columns, truncating those of [`CUT`] to `most` characters.
fn with(columns: &[usize], rows: &[[String; 9]], most: usize) -> String {
    let cell =
        |at: usize, text: &String| if CUT.contains(&at) { shortened(&printable(text), most) } else { text.clone() };
    let heading = columns.iter().map(|at| HEADING[*at]).collect::<Vec<_>>();
    table(heading, rows.iter().map(|row| columns.iter().map(|at| cell(*at, &row[*at])).collect::<Vec<_>>()))
}

/// Returns the message if nothing was found.
fn none_found(args: &ListTasksArgs) -> String {
    let status = status(args).map_or_else(String::new, |status| format!("{status} "));
    let of_type = args.task_type.as_ref().map_or_else(String::new, |pattern| format!(" of type {pattern}"));
    format!("no {status}task{of_type}")
}

/// Returns the requested status.
fn status(args: &ListTasksArgs) -> Option<String> {
    args.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned()))
}

fn row(task: TaskView) -> [String; 9] {
    let [attempts, progress] = [task.attempts.to_string(), format!("{} %", task.progress)];
    let (created, worker) = (task.created_at.unwrap_or_default(), task.claimed_by.unwrap_or_default());
    // Keep no more of long texts than may be shown.
    let start = |text: &str| text.chars().take(MOST + 1).collect::<String>();
    let is_empty = |params: &&Value| params.is_null() || **params == json!({}) || **params == json!([]);
    let params = task.params.as_ref().filter(|params| !is_empty(params)).map(|params| start(&params.to_string()));
    let error = task.error_message.map(|error| start(&in_one_line(&error)));
    let (params, error) = (params.unwrap_or_default(), error.unwrap_or_default());
    [task.id.to_string(), task.task_type, task.status, attempts, progress, created, worker, params, error]
}

/// `prismq show-task`
pub(super) fn show(args: &TaskIdArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let waiting = WaitLine::for_taskmanager(setup);
    let Some(task) = setup.client()?.task(TaskId(args.id))? else {
        return Err(UserError::new(Exit::Failed, format!("the TaskManager has no task {}", args.id)).into());
    };
    drop(waiting);
    setup.print_pretty(&task)?;
    Ok(Exit::Done)
}

/// Number of concurrent requests.
const MAX_CONCURRENT: usize = 8;
/// Maximum time for one list, enough for some ten thousand tasks.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Adds params, results and errors to listed tasks one by one, since servers list tasks without them. Stops when a call fails or the
/// time is up.
struct Details {
    client: Client,
    spent: Duration,
    left_out: usize,
    /// Why looking up ended early.
    end: Option<String>,
}

impl Details {
    fn new(client: &Client) -> Self {
        Self { client: client.with_retries(Retries::NONE), spent: Duration::ZERO, left_out: 0, end: None }
    }

    /// Adds params, results and errors to the tasks that lack them.
    fn add(&mut self, page: &mut [TaskView]) {
        let lacking: Vec<&mut TaskView> = page.iter_mut().filter(|task| task.params.is_none()).collect();
        let (started, state) = (Instant::now(), Mutex::new(&mut *self));
        for_each_concurrently(MAX_CONCURRENT, lacking, |task| look_up(task, &state, started));
        self.spent += started.elapsed();
    }

    /// Prints a note if details are missing.
    fn conclude(self) {
        if let Some(why) = self.end {
            let count = self.left_out;
            note(format_args!(
                "params and errors of {count} tasks omitted: {why}; see `prismq show-task ID` for a single task"
            ));
        }
    }
}

fn look_up(task: &mut TaskView, state: &Mutex<&mut Details>, started: Instant) {
    let state = || state.lock();
    let client = {
        let mut state = state();
        if state.end.is_none() && state.spent + started.elapsed() > TIMEOUT {
            state.end = Some(format!("looking them up took longer than {} s", TIMEOUT.as_secs()));
        }
        if state.end.is_some() {
            state.left_out += 1;
            return;
        }
        state.client.clone()
    };
    match client.task(task.id) {
        Ok(Some(found)) => {
            (task.params, task.result) = (found.params, found.result);
            task.error_message = found.error_message;
        }
        // The task was deleted after it was listed.
        Ok(None) => {}
        Err(error) => {
            let mut state = state();
            state.left_out += 1;
            state.end.get_or_insert(error.to_string());
        }
    }
}
