//! `list-tasks` and `show-task`: what the TaskManager holds.

use std::io::Write;

use clap::ValueEnum;

use super::live::Waiting;
use super::setup::Setup;
use crate::cli::{ListTasksArgs, ShowTaskArgs};
use crate::exit::{Exit, UserError};
use crate::output::{buffered, on_stdout, print_json, print_line, table, write_json_line};
use crate::task::TaskId;
use crate::taskmanager::{Client, Error, TaskFilter, TaskView};

/// Tasks that are asked for at once.
const PAGE: u32 = 500;

/// `prismq list-tasks`
pub(super) fn list(args: &ListTasksArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let mut pages = Pages::new(args, setup.client()?);
    if setup.json {
        let mut next = || {
            let _waiting = Waiting::for_taskmanager(setup);
            pages.next()
        };
        while let Some(page) = next()? {
            let mut out = buffered();
            let written = page.iter().try_for_each(|task| write_json_line(&mut out, task));
            on_stdout(written.and_then(|()| out.flush()))?;
        }
        return Ok(Exit::Done);
    }
    let waiting = Waiting::for_taskmanager(setup);
    let mut rows = Vec::new();
    while let Some(page) = pages.next()? {
        rows.extend(page.into_iter().map(row));
    }
    drop(waiting);
    print_line(table(["ID", "TYPE", "STATUS", "ATTEMPTS", "PROGRESS", "CREATED", "WORKER"], rows))?;
    Ok(Exit::Done)
}

fn row(task: TaskView) -> [String; 7] {
    let [attempts, progress] = [task.attempts.to_string(), format!("{} %", task.progress)];
    let (created, worker) = (task.created_at.unwrap_or_default(), task.claimed_by.unwrap_or_default());
    [task.id.to_string(), task.task_type, task.status, attempts, progress, created, worker]
}

/// The list, page by page.
struct Pages {
    client: Client,
    filter: TaskFilter,
    left: u32,
}

impl Pages {
    fn new(args: &ListTasksArgs, client: Client) -> Self {
        let filter = TaskFilter {
            status: args.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned())),
            type_pattern: args.task_type.as_ref().map(|pattern| pattern.replace('*', "%")),
            ..TaskFilter::default()
        };
        Self { client, filter, left: args.limit }
    }

    /// Servers may limit how many they list at once, so this goes on until it has enough, or until nothing comes.
    fn next(&mut self) -> Result<Option<Vec<TaskView>>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.filter.limit = self.left.min(PAGE);
        let page = self.client.tasks(&self.filter)?;
        let Some(last) = page.last() else { return Ok(None) };
        let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
        self.filter.before = Some(last.id);
        self.filter.offset = self.filter.offset.saturating_add(count);
        self.left = self.left.saturating_sub(count);
        Ok(Some(page))
    }
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
