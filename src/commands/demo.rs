//! `demo`: runs a TaskManager and a worker with tasks in a temporary folder, without any settings.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::live::{self, Live, WaitLine};
use super::setup::Setup;
use super::stats::Statistics;
use super::{serve, stats};
use crate::clock::Clock;
use crate::config::{self, Action, Config, Flags, Sources, TaskType};
use crate::exit::{Exit, UserError};
use crate::library::{self, Handlers};
use crate::output::note;
use crate::server::{Server, Settings};
use crate::shutdown::Phase;
use crate::store::{By, Store};
use crate::taskmanager::{Client, Connection, Retries, TaskFilter};
use crate::worker::{self, Event, Observer, Summary, Tools, WorkerOptions};

/// Number of tasks.
const TASKS: u64 = 200;

const TYPE: &str = "example.count";

/// `prismq demo`
pub(super) fn run(setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    let folder = tempfile::tempdir()?;
    let left = folder.path().to_owned();
    let leave_nothing = move || {
        // If this fails, the system cleans up its temporary folder.
        let _ = fs::remove_dir_all(left);
        Exit::Interrupted
    };
    setup.install_signal_handlers_until(|_| false, leave_nothing)?;
    let any_port = ([127, 0, 0, 1], 0).into();
    let server = Server::start(&Settings::new(any_port, folder.path().join("taskmanager.db")))
        .map_err(|error| serve::explain(&error))?;
    note(format_args!("started a TaskManager at {}", server.api_url()));

    let connection = Connection { is_own: true, ..Connection::new(server.api_url(), None) };
    let client = Client::new(&connection, Retries::STANDARD, Arc::new(setup.clock())).map_err(UserError::usage)?;
    create(&client, &counter(folder.path()), setup)?;

    let store = Arc::new(Store::open(&folder.path().join("results.db"))?);
    let summary = work(&client, &store, folder.path(), setup)?;
    if setup.shutdown.get() > Phase::Running {
        return Ok(Exit::Interrupted);
    }
    conclude(&summary, &client, &store, setup)
}

/// A type whose handler counts words with `wc`.
fn counter(folder: &Path) -> TaskType {
    let mut task_type = TaskType::new(TYPE, folder.to_owned());
    task_type.action = Some(Action::Program(vec!["wc".into(), "-w".into()]));
    task_type.schema = Some(json!({
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    }));
    task_type
}

fn create(client: &Client, task_type: &TaskType, setup: &Setup) -> anyhow::Result<()> {
    library::register(task_type, client)?;
    let waiting = WaitLine::message(format!("creating {TASKS} tasks"), setup);
    for number in 1..=TASKS {
        if setup.shutdown.get() > Phase::Running {
            return Err(UserError::new(Exit::Interrupted, "interrupted").into());
        }
        client.create(TYPE, &json!({"text": format!("task number {number} has some words")}), None)?;
    }
    drop(waiting);
    note(format_args!("registered the task type {TYPE} (`wc -w`) and created {TASKS} tasks"));
    Ok(())
}

fn work(client: &Client, store: &Arc<Store>, folder: &Path, setup: &Setup) -> anyhow::Result<Summary> {
    let task_type = counter(folder);
    let config = settings(client.url(), folder)?;
    let observer = Bar(live::is_wanted().then(|| Live::bar(&setup.screen, TASKS)));
    let options = WorkerOptions { task_types: vec![task_type], drain: true, ..WorkerOptions::default() };
    let handlers = &Handlers::new(&config, None);
    let tools = Tools { config: &config, client, store, handlers, observer: &observer, shutdown: &setup.shutdown };
    let ended = worker::run(&options, &tools);
    if let Some(live) = &observer.0 {
        live.end();
    }
    Ok(ended.map_err(UserError::from)?)
}

/// Uses the defaults instead of the user's settings, since the demo must not touch the user's TaskManager.
fn settings(api_url: &str, folder: &Path) -> anyhow::Result<Config> {
    let flags = Flags::default().api_url(api_url.to_owned()).concurrency(4);
    Ok(config::load(Sources { flags, working_dir: folder.to_owned(), ..Sources::default() })?)
}

/// Shows only a progress bar, since hundreds of log lines would hide it.
struct Bar(Option<Live>);

impl Observer for Bar {
    fn event(&self, event: &Event<'_>) {
        if let Some(live) = &self.0 {
            live.event(event);
        }
    }
}

/// Prints the statistics and the next commands.
fn conclude(summary: &Summary, client: &Client, store: &Store, setup: &Setup) -> anyhow::Result<Exit> {
    let confirmed = completed(client)?;
    if summary.counters.completed != TASKS || confirmed != TASKS {
        let message = format!("the TaskManager has {confirmed} results, not {TASKS}");
        return Err(UserError::new(Exit::Failed, message).into());
    }
    stats::print(&Statistics::of(store, By::Type, None, setup.clock().now())?, setup.json)?;
    note(format_args!("the TaskManager has all {TASKS} results; the demo's files are removed."));
    note("");
    note("Next, to keep a TaskManager and a worker running:");
    note("  prismq work --embedded --handle 'example.count=wc -w'");
    note("and in another terminal:");
    note("  prismq create-task example.count text='three small words' --wait");
    Ok(Exit::Done)
}

/// Returns the number of tasks that the TaskManager shows as completed.
fn completed(client: &Client) -> anyhow::Result<u64> {
    let limit = u32::try_from(TASKS)? + 1;
    let filter = TaskFilter { status: Some("completed".into()), limit, ..TaskFilter::default() };
    Ok(client.tasks(&filter)?.len().try_into()?)
}
