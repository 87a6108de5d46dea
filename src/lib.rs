//! `prismq` turns any program into a worker of the `PrismQ` TaskManager; with this crate, a handler in Rust does as
//! well:
//!
//! ```no_run
#![doc = include_str!("../examples/count.rs")]
//! ```
//!
//! A [`Handler`] works tasks of one type, and a function is one. [`Worker::builder`] says what else there is to say.
//! The worker claims a task, runs the handler, keeps the [`Outcome`] in a local `SQLite` file, and reports it. It works
//! many tasks at once, survives outages of the TaskManager, and says what it does to the `log` crate.
//!
//! What takes long should look at its [`Run`] now and then: a thread cannot be ended from outside, so a handler that
//! never looks goes on when its time is up, and holds up the end of the worker.
//!
//! In `Cargo.toml`, `default-features = false` leaves out the embedded TaskManager, which a worker does not need.

// The rooms. `taskmanager` speaks with the server, `store` keeps results on disk, `handler` runs what works a task,
// `worker` is the loop that joins them, `library` its public face. `config` and `cli` say what is wanted, `commands`
// builds what each subcommand needs and prints. `server` is a TaskManager of our own, for trying things out and for
// small installations; `status` counts and shows what a worker does, and `http` is what these two share.
//
// They are public, and hidden, for this package's own tests, benchmarks and fuzz target, and may change at any time:
// what others can rely on is re-exported below.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
mod commands;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod exit;
mod failpoint;
#[doc(hidden)]
pub mod handler;
mod headline;
#[cfg(feature = "server")]
mod http;
#[doc(hidden)]
pub mod json;
mod library;
#[doc(hidden)]
pub mod logging;
/// Names of task types and ids of workers.
mod name;
#[doc(hidden)]
pub mod output;
mod resources;
mod retry_after;
#[doc(hidden)]
pub mod schema;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod shutdown;
mod sqlite;
#[cfg(feature = "server")]
mod status;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod task;
#[doc(hidden)]
pub mod taskmanager;
mod text_file;
mod web;
#[doc(hidden)]
pub mod worker;
#[doc(hidden)]
pub mod youtube;

pub use clock::Timestamp;
pub use config::{ConfigError, Strategy};
pub use handler::{Handler, Run};
pub use library::{ShutdownHandle, Worker, WorkerBuilder};
pub use store::{Counters, StoreError};
pub use task::{Claim, ErrorType, Failure, Outcome, Task, TaskId};
pub use taskmanager::Error as TaskManagerError;
pub use worker::{Summary, TypeError, WorkerError};

use clap::error::{ContextKind, ContextValue};

use exit::{Exit, UserError};

/// The snippets in Rust of `docs/handlers.md`, tried.
#[cfg(doctest)]
#[doc = include_str!("../docs/handlers.md")]
struct HandlersDocument;

/// Runs the program: reads the command line, does what it says, prints what went wrong.
#[doc(hidden)]
#[must_use]
pub fn run() -> Exit {
    if commands::answer_shell() {
        return Exit::Done;
    }
    let _failpoints = failpoint::set_up();
    resources::raise_open_files();
    let cli = match cli::Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let as_json = cli.global.json;
    match commands::run(cli) {
        Ok(exit) => exit,
        // `prismq results | head`: the reader has what it wanted.
        Err(error) if output::is_closed_pipe(&error) => Exit::Done,
        Err(error) => complain(&commands::explain(error), as_json),
    }
}

/// Prints an error as one line, and returns the exit code for it.
fn complain(error: &UserError, as_json: bool) -> Exit {
    let UserError { exit, message, hint } = error;
    if as_json {
        let error = serde_json::json!({"error": message, "code": *exit as u8, "hint": hint});
        // Where even this cannot be printed, nobody is left to tell.
        let _ = output::write_json_line(std::io::stderr(), &error);
    } else {
        let line = hint.as_ref().map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"));
        output::say(format_args!("{}prismq: {line}", logging::priority_for_journal(log::Level::Error)));
    }
    *exit
}

/// The most characters of a wrong argument that its error shows.
const MAX_SHOWN: usize = 100;

/// What the command line parser has to say: help, the version, or what is wrong.
fn usage(mut error: clap::Error) -> Exit {
    if let (Some(ContextValue::String(given)), Some(ContextValue::String(similar))) =
        (error.get(ContextKind::InvalidValue), error.get(ContextKind::SuggestedValue))
        && !config::is_near(given, similar)
    {
        error.remove(ContextKind::SuggestedValue);
    }
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidValue)
        && let Some((end, _)) = given.char_indices().nth(MAX_SHOWN)
    {
        let start = format!("{}…", &given[..end]);
        error.insert(ContextKind::InvalidValue, ContextValue::String(start));
    }
    let as_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && (as_json || logging::is_for_journal()) {
        return complain(&in_one_line(&error), as_json);
    }
    // Where even this cannot be printed, nobody is left to tell.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// What the parser says in paragraphs: what is wrong, tips, how the command is used.
fn in_one_line(error: &clap::Error) -> UserError {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find_map(|line| line.strip_prefix("tip: ").map(str::to_owned));
    let hint = tip.unwrap_or_else(|| "see `prismq --help`".to_owned());
    UserError::usage(message.trim_start_matches("error: ")).hint(hint)
}
