//! `list-tasks` and `show-task`: what the TaskManager holds.

use super::setup::{Setup, end_on_signals};
use clap::ValueEnum;

use crate::cli::{ListTasksArgs, ShowTaskArgs};
use crate::exit::{Exit, UserError};
use crate::output::{print_json, print_line, table};
use crate::task::TaskId;
use crate::taskmanager::{Client, Error, TaskFilter, TaskView};

/// Tasks that are asked for at once.
const PAGE: u32 = 500;

/// `prismq list-tasks`
pub(super) fn list(args: &ListTasksArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    end_on_signals()?;
    let tasks = fetch(args, &setup.client()?)?;
    if setup.json {
        tasks.iter().try_for_each(print_json)?;
        return Ok(Exit::Done);
    }
    let rows = tasks.into_iter().map(|task| {
        let [attempts, progress] = [task.attempts.to_string(), format!("{} %", task.progress)];
        let (created, worker) = (task.created_at.unwrap_or_default(), task.claimed_by.unwrap_or_default());
        [task.id.to_string(), task.task_type, task.status, attempts, progress, created, worker]
    });
    print_line(table(["ID", "TYPE", "STATUS", "ATTEMPTS", "PROGRESS", "CREATED", "WORKER"], rows))?;
    Ok(Exit::Done)
}

/// Servers may limit how many they list at once, so this asks until it has enough, or until nothing comes.
fn fetch(args: &ListTasksArgs, client: &Client) -> Result<Vec<TaskView>, Error> {
    let mut tasks: Vec<TaskView> = Vec::new();
    loop {
        let offset = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let limit = args.limit.saturating_sub(offset).min(PAGE);
        if limit == 0 {
            return Ok(tasks);
        }
        let type_pattern = args.task_type.as_ref().map(|pattern| pattern.replace('*', "%"));
        let page = client.tasks(&TaskFilter {
            status: args.status.and_then(|status| Some(status.to_possible_value()?.get_name().to_owned())),
            type_pattern,
            limit,
            offset,
        })?;
        if page.is_empty() {
            return Ok(tasks);
        }
        tasks.extend(page);
    }
}

/// `prismq show-task`
pub(super) fn show(args: &ShowTaskArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    end_on_signals()?;
    let Some(task) = setup.client()?.task(TaskId(args.id))? else {
        return Err(UserError::new(Exit::Failed, format!("the TaskManager knows no task {}", args.id)).into());
    };
    if setup.json {
        print_json(&task)?;
    } else {
        print_line(serde_json::to_string_pretty(&task)?)?;
    }
    Ok(Exit::Done)
}
