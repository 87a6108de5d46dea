//! `prismq` turns any program into a worker of the `PrismQ` TaskManager. With this crate, handlers can be written in
//! Rust:
//!
//! ```no_run
#![doc = include_str!("../examples/count.rs")]
//! ```
//!
//! A [`Handler`] runs tasks of one type; functions and closures are handlers, too. [`Worker::builder`] takes the handlers
//! and all settings. The worker claims a task, runs the handler, stores the [`Outcome`] in a local `SQLite` file, and
//! reports it. It runs many tasks at once, survives outages of the TaskManager, and logs with the `log` crate.
//!
//! A handler that takes long should check [`Run::interruption`] regularly: a thread cannot be stopped from outside, so
//! otherwise the handler continues after its timeout and delays the end of the worker.
//!
//! In `Cargo.toml`, `default-features = false` leaves out the embedded TaskManager, which a worker does not need.

// Without a feature, items that only it exports or uses are not reachable or used.
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
#![cfg_attr(not(feature = "server"), allow(dead_code, unused_imports))]

// docs/architecture.md says what each module is for.
mod cli;
mod clock;
mod commands;
mod config;
mod exit;
mod failpoint;
mod failure_rate;
mod file_changes;
mod handler;
mod headline;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "internals")]
pub mod internals;
mod json;
mod library;
mod logging;
mod name;
mod os_error;
mod output;
mod parallel;
mod random_id;
mod resources;
mod retry_after;
mod schema;
#[cfg(feature = "server")]
mod server;
mod shutdown;
mod sqlite;
#[cfg(feature = "server")]
mod status;
mod store;
mod task;
mod taskmanager;
mod text_file;
mod web;
mod worker;
mod youtube;

pub use clock::{Moment, Timestamp};
pub use config::{ConfigError, Strategy};
pub use handler::{Handler, Run};
pub use library::{ShutdownHandle, Worker, WorkerBuilder};
pub use store::{Counters, StoreError};
pub use task::{Claim, ErrorType, Failure, Outcome, Task, TaskId};
pub use taskmanager::Error as TaskManagerError;
pub use worker::{Summary, TypeError, WorkerError};

use clap::error::ErrorKind;

use exit::{Exit, UserError};

/// Tests the Rust snippets of `docs/handlers.md`.
#[cfg(doctest)]
#[doc = include_str!("../docs/handlers.md")]
struct HandlersDocument;

/// Runs the program: parses the command line, runs the command, prints its error.
#[doc(hidden)]
#[must_use]
pub fn run() -> Exit {
    if commands::answer_shell() {
        return Exit::Done;
    }
    let _failpoints = failpoint::set_up();
    library::unblock_signals();
    resources::raise_open_files();
    let cli = match cli::Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let as_json = cli.global.json;
    match commands::run(cli) {
        Ok(exit) => exit,
        // The reader has closed the pipe, as in `prismq results | head`.
        Err(error) if output::is_closed_pipe(&error) => Exit::Done,
        Err(error) => complain(&commands::explain(error), as_json),
    }
}

/// Prints an error as one line, and returns the exit code for it.
fn complain(error: &UserError, as_json: bool) -> Exit {
    let UserError { exit, message, hint } = error;
    if as_json {
        let error = serde_json::json!({"error": message, "code": *exit as u8, "hint": hint});
        // If this cannot be printed, nothing can be.
        let _ = output::write_json_line(std::io::stderr(), &error);
    } else {
        let line = hint.as_ref().map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"));
        output::say(format_args!("{}prismq: {line}", logging::priority_for_journal(log::Level::Error)));
    }
    *exit
}

/// Prints the message of the command line parser: help, the version, or an error.
fn usage(error: &clap::Error) -> Exit {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let arguments: Vec<_> = std::env::args_os().map(|it| it.to_string_lossy().into_owned()).collect();
        let as_json = arguments.iter().any(|argument| argument == "--json");
        return complain(&cli::usage_error(error, arguments), as_json);
    }
    // If this cannot be printed, nothing can be.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
