//! `create-task`: creates one task, or one for each line of a file.

mod bulk;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use self::bulk::{Bulk, BulkCounts};
use super::live::{self, WaitLine};
use super::setup::Setup;
use super::{errors, input};
use crate::cli::{CreateTaskArgs, Param};
use crate::exit::{Exit, UserError};
use crate::headline::in_one_line;
use crate::json;
use crate::output::{note, print_json, print_line, say};
use crate::task::TaskId;
use crate::taskmanager::{Backoff, Client, Created, TaskView};
use crate::text_file;

/// `prismq create-task`
pub(super) fn run(args: &CreateTaskArgs, setup: &Setup) -> anyhow::Result<Exit> {
    match &args.from {
        Some(from) => create_many(from, args, setup),
        None => create_one(args, setup),
    }
}

fn create_one(args: &CreateTaskArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let waited_for = Arc::new(OnceLock::new());
    setup.end_on_signals_after(say_what_stays(&waited_for))?;
    let params = params(args)?;
    let client = setup.client()?;
    let waiting = WaitLine::for_taskmanager(setup);
    let created = match client.create(&args.task_type, &params, args.priority) {
        Ok(created) => created,
        Err(error) if error.says_unknown_type() => return Err(errors::unknown_type_at(&client, &args.task_type).into()),
        Err(error) => return Err(error.into()),
    };
    drop(waiting);
    if created.deduplicated {
        note(format_args!("task {} already exists with the same params: {}", created.id, created.status));
    }
    if !args.wait {
        print(&created, setup)?;
        return Ok(Exit::Done);
    }
    if !created.deduplicated {
        note(format_args!("task {} created, waiting for it to finish", created.id));
    }
    waited_for.get_or_init(|| created.id);
    wait(created.id, args.timeout, setup, &client)
}

/// Returns the message for a signal: the task continues although the command ends.
fn say_what_stays(waited_for: &Arc<OnceLock<TaskId>>) -> impl Fn() + Send + Sync + 'static {
    let waited_for = Arc::clone(waited_for);
    move || {
        if let Some(id) = waited_for.get() {
            note(format_args!("interrupted: task {id} stays queued; see `prismq show-task {id}`"));
        }
    }
}

/// Prints a line without buffering, since a reader may wait for it.
fn print(created: &Created, setup: &Setup) -> io::Result<()> {
    if setup.json { print_json(created) } else { print_line(created.id) }
}

fn params(args: &CreateTaskArgs) -> Result<Value, UserError> {
    let Some(argument) = &args.params else {
        let mut params = Map::new();
        for Param { key, value } in &args.pairs {
            if params.insert(key.clone(), value.clone()).is_some() {
                return Err(UserError::usage(format!("the param `{key}` is given twice")).hint("remove one of them"));
            }
        }
        let params = Value::Object(params);
        let checked = json::check(&params, json::MAX_DEPTH);
        return checked.map(|()| params).map_err(|error| UserError::usage(format!("the params are {error}")));
    };
    let params = input::json("--params", argument)?;
    if params.is_object() {
        return Ok(params);
    }
    Err(UserError::usage("--params: params must be a JSON object")
        .hint("write one such as '{\"query\":\"startup ideas\"}'"))
}

/// Waits until a task has ended and prints its result.
fn wait(id: TaskId, timeout: Option<Duration>, setup: &Setup, client: &Client) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(100), 1.5, Duration::from_secs(5));
    let waiting = WaitLine::for_taskmanager(setup);
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        let Some(task) = client.with_retry_after_budget(left.unwrap_or(Duration::MAX)).task(id)? else {
            return Err(UserError::new(Exit::Failed, format!("task {id} is no longer in the TaskManager")).into());
        };
        if ["completed", "failed"].contains(&task.status.as_str()) {
            drop(waiting);
            return print_end(&task, setup);
        }
        waiting.say(format!("task {id} is {}, {} %", task.status, task.progress));
        if left.is_some_and(|left| left.is_zero()) {
            let message = format!("timed out waiting for task {id}: it is {}", task.status);
            return Err(UserError::new(Exit::Failed, message)
                .hint(format!("check with `prismq show-task {id}`"))
                .into());
        }
        // A signal ends the program during this sleep.
        std::thread::sleep(backoff.grow().min(left.unwrap_or(Duration::MAX)));
    }
}

fn print_end(task: &TaskView, setup: &Setup) -> anyhow::Result<Exit> {
    if setup.json {
        print_json(task)?;
    } else {
        print_json(&task.result)?;
    }
    if task.status == "completed" {
        return Ok(Exit::Done);
    }
    let reason = in_one_line(task.error_message.as_deref().unwrap_or("no error message"));
    Err(UserError::new(Exit::Failed, format!("task {} failed: {reason}", task.id)).into())
}

fn create_many(from: &Path, args: &CreateTaskArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.install_signal_handlers()?;
    let client = setup.client()?;
    let (input, progress) = setup.interruptible(|| open(from, setup).inspect(|_| client.update_features()))?;
    setup.end_on_second_signal();
    let bulk = Bulk {
        client,
        task_type: args.task_type.clone(),
        priority: args.priority,
        concurrency: args.concurrency,
        place: if is_stdin(from) { "--from (standard input)".to_owned() } else { format!("--from {}", from.display()) },
        shutdown: Arc::clone(&setup.shutdown),
    };
    let is_counted = progress.bar().length().is_none();
    let counts = bulk.run(input, |line, answer| {
        let printed = match answer {
            Ok(created) => live::above(&setup.screen, || print(created, setup)),
            Err(reason) => {
                setup.screen.suspend(|| say(format_args!("line {line}: {reason}")));
                Ok(())
            }
        };
        if is_counted {
            progress.bar().inc(1);
        }
        printed.map_err(|error| UserError::new(Exit::Failed, error.to_string()))
    });
    drop(progress);
    Ok(conclude(&counts?))
}

fn conclude(counts: &BulkCounts) -> Exit {
    let BulkCounts { created, deduplicated, failed } = counts;
    note(format_args!("{created} created, {deduplicated} already existed, {failed} failed"));
    if *failed == 0 { Exit::Done } else { Exit::Failed }
}

fn is_stdin(from: &Path) -> bool {
    from == Path::new("-")
}

/// Opens the input and its progress. The length of standard input is unknown, so its lines are counted.
fn open(from: &Path, setup: &Setup) -> Result<(Box<dyn Read + Send>, WaitLine), UserError> {
    if is_stdin(from) {
        return Ok((Box::new(io::stdin()), WaitLine::counting("lines", setup)));
    }
    let unreadable = |error: io::Error| {
        UserError::usage(format!("--from: cannot read {}: {}", from.display(), text_file::reason(&error)))
    };
    let file = text_file::with_wait_message(from, || File::open(from)).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        // A folder can be opened, but not read.
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let progress = WaitLine::reading(metadata.len(), setup);
    let file = progress.bar().wrap_read(file);
    Ok((Box::new(file), progress))
}
