//! `register-type` and `list-types`.

use super::input;
use super::live::{self, WaitLine};
use super::setup::Setup;
use crate::cli::RegisterTypeArgs;
use crate::config;
use crate::exit::{Exit, UserError};
use crate::library;
use crate::output::{print_json, print_line, table};
use crate::taskmanager::{Client, Error, Registered, TaskTypeView};
use crate::worker;

/// `prismq register-type`
pub(super) fn register(args: &RegisterTypeArgs, setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let client = setup.client()?;
    if args.all {
        return register_all(setup, &client);
    }
    let Some(name) = &args.name else { return Err(UserError::usage("name a task type, or give --all").into()) };
    let waiting = WaitLine::for_taskmanager(setup);
    let registered = register_one(name, args, setup, &client)?;
    drop(waiting);
    print(&registered, setup)?;
    Ok(Exit::Done)
}

fn register_all(setup: &Setup, client: &Client) -> anyhow::Result<Exit> {
    let types = &setup.config.task_types;
    if types.is_empty() {
        return Err(no_types().into());
    }
    let progress = WaitLine::progress(types.len(), setup);
    for task_type in types {
        progress.say(format!("registering {}", task_type.name));
        let registered = library::register(task_type, client)?;
        progress.bar().inc(1);
        live::above(&setup.screen, || print(&registered, setup))?;
    }
    Ok(Exit::Done)
}

fn register_one(name: &str, args: &RegisterTypeArgs, setup: &Setup, client: &Client) -> anyhow::Result<Registered> {
    let configured = setup.configured(name);
    if let (None, Some(task_type)) = (&args.schema, configured) {
        let version = args.version.clone().unwrap_or_else(|| task_type.version.clone());
        return Ok(library::register(&config::TaskType { version, ..task_type.clone() }, client)?);
    }
    let schema = match &args.schema {
        Some(schema) => input::schema("--schema", schema)?,
        None => library::usual_schema(name).ok_or_else(|| {
            UserError::usage(format!("{name} is not configured, so --schema is required"))
                .hint("--schema '{\"type\":\"object\"}' takes any params")
        })?,
    };
    worker::check_schema(&schema).map_err(|error| UserError::usage(format!("--schema: {error}")))?;
    let version = args.version.as_deref().or(configured.map(|it| it.version.as_str())).unwrap_or("1.0.0");
    Ok(client.register_type(name, version, &schema)?)
}

fn print(registered: &Registered, setup: &Setup) -> anyhow::Result<()> {
    if setup.json {
        return Ok(print_json(registered)?);
    }
    let Registered { id, name, version, created } = registered;
    let done = if *created { "registered" } else { "updated" };
    Ok(print_line(format_args!("{done} {name} {version} (id {id})"))?)
}

/// `prismq list-types`
pub(super) fn list(setup: &Setup) -> anyhow::Result<Exit> {
    setup.log()?;
    setup.end_on_signals()?;
    let client = setup.client()?;
    let waiting = WaitLine::for_taskmanager(setup);
    let types = match client.task_types() {
        Ok(types) => types,
        Err(Error::Refused { status: 500, .. }) => configured_types(setup, &client)?,
        Err(error) => return Err(error.into()),
    };
    drop(waiting);
    if setup.json {
        types.iter().try_for_each(print_json)?;
        return Ok(Exit::Done);
    }
    let rows = types.into_iter().map(|it| [it.id.to_string(), it.name, it.version, active(it.is_active)]);
    print_line(table(["ID", "NAME", "VERSION", "ACTIVE"], rows))?;
    Ok(Exit::Done)
}

fn active(is_active: bool) -> String {
    if is_active { "yes" } else { "no" }.into()
}

/// Looks up the configured types by name, since the published server cannot list its types.
fn configured_types(setup: &Setup, client: &Client) -> anyhow::Result<Vec<TaskTypeView>> {
    if setup.config.task_types.is_empty() {
        return Err(UserError::new(Exit::Failed, "this TaskManager cannot list its task types")
            .hint("the types in prismq.toml can be listed")
            .into());
    }
    log::warn!("this TaskManager cannot list its task types: showing the configured ones");
    let mut types = Vec::new();
    for task_type in &setup.config.task_types {
        types.extend(client.task_type(&task_type.name)?);
    }
    Ok(types)
}

/// Returns the error for a missing type configuration.
pub(super) fn no_types() -> UserError {
    UserError::usage("no task types named or configured").hint("name one, or add it to prismq.toml as a [[task_type]]")
}
