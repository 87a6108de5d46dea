//! The subcommands, one file each: build what they need, call it, print.

mod claim;
mod completions;
mod config;
mod console_observer;
mod create_task;
#[cfg(feature = "server")]
mod demo;
mod errors;
mod explain;
#[cfg(feature = "server")]
mod faults;
mod health;
mod init;
mod input;
mod live;
mod man;
mod replay;
mod report;
mod results;
mod screen;
#[cfg(feature = "server")]
mod serve;
mod setup;
mod stats;
#[cfg_attr(not(feature = "server"), path = "status_disabled.rs")]
mod status;
mod systemd;
mod tasks;
mod termination;
mod types;
mod work;
mod worker_observer;

pub(crate) use completions::answer as answer_shell;
pub(crate) use errors::explain;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::output::is_closed_pipe;
use setup::Setup;

/// Runs the subcommand that the command line names.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        Command::Init => return init::run(&cli.global),
        #[cfg(feature = "server")]
        Command::Demo => return demo::run(&Setup::of_flags(&cli)?),
        _ => {}
    }
    let setup = Setup::new(&cli)?;
    run_with(&setup, cli.command).map_err(|error| {
        if is_closed_pipe(&error) { error } else { errors::naming_key(explain(error), &setup.config).into() }
    })
}

fn run_with(setup: &Setup, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::RegisterType(args) => types::register(&args, setup),
        Command::CreateTask(args) => create_task::run(&args, setup),
        Command::Claim(args) => claim::run(&args, setup),
        Command::Complete(args) => report::complete(&args, setup),
        Command::Fail(args) => report::fail(&args, setup),
        Command::Progress(args) => report::progress(&args, setup),
        Command::Work(args) => work::run(&args, setup),
        Command::Health(args) => health::run(&args, setup),
        Command::Stats(args) => stats::run(&args, setup),
        Command::ListTypes => types::list(setup),
        Command::ListTasks(args) => tasks::list(&args, setup),
        Command::ShowTask(args) => tasks::show(&args, setup),
        Command::Explain(args) => explain::run(&args, setup),
        Command::Replay(args) => replay::run(&args, setup),
        Command::Results(args) => results::run(&args, setup),
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(&args, setup),
        #[cfg(feature = "server")]
        Command::Demo => Ok(Exit::Done),
        Command::Config(_) => config::run(setup),
        Command::Completions(_) | Command::Man(_) | Command::Init => Ok(Exit::Done),
    }
}
