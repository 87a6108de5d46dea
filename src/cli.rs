//! The command line: what `prismq` can be asked, as clap types and nothing else.

mod examples;
mod flags;
mod help;
#[cfg(feature = "server")]
mod serve;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::config::{Strategy, parse_concurrency, parse_duration, parse_positive_duration, task_type_name};

pub use flags::{GlobalArgs, WorkerArgs};
#[cfg(feature = "server")]
pub use serve::ServeArgs;
pub use values::{Handle, Param};

/// Turns any program into a worker of the PrismQ TaskManager
#[derive(Debug, Parser)]
#[command(name = "prismq", version, max_term_width = 100)]
#[command(help_template = help::TEMPLATE, after_help = help::MORE, after_long_help = help::EXIT_CODES)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads a command line. A number below zero is a value, for its argument to refuse, and not an unknown option.
    pub fn read(arguments: impl IntoIterator<Item: Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let values = |arg: Arg| if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg };
        let mut command = Self::command().mut_args(values).mut_subcommands(|it| it.mut_args(values));
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first prismq.toml, .env and handler into this folder
    #[command(after_help = examples::INIT)]
    Init,
    /// Register or update a task type
    #[command(after_help = examples::REGISTER_TYPE)]
    RegisterType(RegisterTypeArgs),
    /// Create a task and print its id, or many from a file
    #[command(after_help = examples::CREATE_TASK)]
    CreateTask(CreateTaskArgs),
    /// Wait for a task, claim it and print it
    #[command(after_help = examples::CLAIM)]
    Claim(ClaimArgs),
    /// Report a claimed task as completed
    #[command(after_help = examples::COMPLETE)]
    Complete(CompleteArgs),
    /// Report a claimed task as failed
    #[command(after_help = examples::FAIL)]
    Fail(FailArgs),
    /// Report how far a claimed task is
    #[command(after_help = examples::PROGRESS)]
    Progress(ProgressArgs),
    /// Work tasks until told to stop
    #[command(after_help = examples::WORK)]
    Work(WorkArgs),
    /// Check the TaskManager, key, types, handlers and results file
    #[command(after_help = examples::HEALTH)]
    Health(HealthArgs),
    /// Show what this machine's workers have done, in numbers
    #[command(after_help = examples::STATS)]
    Stats(StatsArgs),
    /// List the task types that the TaskManager knows
    #[command(after_help = examples::LIST_TYPES)]
    ListTypes,
    /// List the tasks that the TaskManager holds, newest first
    #[command(after_help = examples::LIST_TASKS)]
    ListTasks(ListTasksArgs),
    /// Show a task as the TaskManager holds it
    #[command(after_help = examples::SHOW_TASK)]
    ShowTask(ShowTaskArgs),
    /// Tell the story of a task: its claims, attempts and reports
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Run a task's handler once more, here, without telling anybody
    #[command(after_help = examples::REPLAY)]
    Replay(ReplayArgs),
    /// Show or export what the results file holds
    #[command(after_help = examples::RESULTS)]
    Results(ResultsArgs),
    /// Run the embedded TaskManager by itself
    #[cfg(feature = "server")]
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// See it all at work on this machine, without any settings
    #[cfg(feature = "server")]
    #[command(after_help = examples::DEMO)]
    Demo,
    /// Show every setting in force, and where it came from
    #[command(after_help = examples::CONFIG)]
    Config(ConfigArgs),
    /// Print the completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the man page, or write one for each command
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
}

/// `register-type`
#[derive(Debug, Args)]
pub struct RegisterTypeArgs {
    /// The type's name
    #[arg(required_unless_present = "all", value_parser = task_type_name)]
    pub name: Option<String>,
    /// Its version [default: the configuration's, else 1.0.0]
    #[arg(long, value_name = "VERSION", value_parser = values::name)]
    pub version: Option<String>,
    /// The JSON Schema of its params: a file, - for standard input, or the JSON itself
    #[arg(long, value_name = "FILE|-|JSON", value_hint = ValueHint::AnyPath)]
    pub schema: Option<String>,
    /// Every type in the configuration
    #[arg(long, conflicts_with_all = ["name", "version", "schema"])]
    pub all: bool,
}

/// `create-task`
#[derive(Debug, Args)]
pub struct CreateTaskArgs {
    /// The task's type
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub task_type: String,
    /// Its params: KEY=TEXT is text, KEY:=JSON is any JSON
    #[arg(value_name = "KEY=TEXT|KEY:=JSON", value_parser = values::param)]
    pub pairs: Vec<Param>,
    /// Its params as one JSON object: the JSON itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "pairs")]
    pub params: Option<String>,
    /// Higher goes first, where the worker's strategy is priority
    #[arg(long, value_name = "N", value_parser = values::priority)]
    pub priority: Option<i64>,
    /// Wait for its end and print its result; exit code 1 if it failed
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Create a task for each line, a JSON object, of this file or of - (standard input)
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["pairs", "params", "wait"], value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub from: Option<PathBuf>,
    /// How many requests to send at once
    #[arg(long, value_name = "N", requires = "from", default_value = "8", value_parser = parse_concurrency)]
    pub concurrency: usize,
}

/// `claim`
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// The types to claim from [default: the configured ones]
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub types: Vec<String>,
    /// Try once; exit code 3 where there is no task
    #[arg(long)]
    pub once: bool,
    /// Work the task here with its handler, and report what comes of it
    #[arg(long)]
    pub run: bool,
    /// Leave the task claimed after it was run
    #[arg(long, requires = "run")]
    pub no_report: bool,
    /// Which of the waiting tasks comes first [default: fifo]
    #[arg(long, value_parser = values::strategy())]
    pub strategy: Option<Strategy>,
    /// Wait for a task no longer than this
    #[arg(long, value_name = "DURATION", conflicts_with = "once", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `complete`
#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// What came of it: the JSON itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub result: Option<String>,
}

/// `fail`
#[derive(Debug, Args)]
pub struct FailArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// Why it failed
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub error: String,
}

/// `progress`
#[derive(Debug, Args)]
pub struct ProgressArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// How far it is, from 0 to 100
    #[arg(value_parser = values::percent)]
    pub percent: u8,
    /// What it is doing
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
}

/// `work`
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// The types to work [default: the configured ones]
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub types: Vec<String>,
    /// Work this type with this command, which sh runs
    #[arg(long = "handle", value_name = "TYPE=CMD", value_parser = values::handle, value_hint = ValueHint::CommandString)]
    pub handles: Vec<Handle>,
    /// End when nothing is left to do
    #[arg(long)]
    pub drain: bool,
    /// End after so long without a task
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub exit_after_idle: Option<Duration>,
    /// Register the configured types first
    #[arg(long)]
    pub register: bool,
    /// Start the embedded TaskManager in the same process
    #[cfg(feature = "server")]
    #[arg(long)]
    pub embedded: bool,
    /// The worker's settings.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `health`
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Wait for the TaskManager, and for what --external asks, no longer than this
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub timeout: Option<Duration>,
    /// Ask other services as well: YouTube, whether it accepts the key (one unit of the quota)
    #[arg(long)]
    pub external: bool,
}

/// `stats`
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Only what ended in this time up to now
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub since: Option<Duration>,
    /// One row for each [default: type]
    #[arg(long)]
    pub by: Option<By>,
    /// Show them again every two seconds, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Write them as a page with charts into this file, or - for standard output
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["watch", "json"], value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub html: Option<PathBuf>,
}

/// What statistics are split by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum By {
    Type,
    Worker,
    Hour,
    Day,
}

/// `list-tasks`
#[derive(Debug, Args)]
pub struct ListTasksArgs {
    /// Only those of this status
    #[arg(long)]
    pub status: Option<Status>,
    /// Only those of this type; % stands for any text
    #[arg(long = "type", value_name = "PATTERN", value_parser = values::name)]
    pub task_type: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value = "50", value_parser = values::limit)]
    pub limit: u32,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Status {
    Pending,
    Claimed,
    Completed,
    Failed,
}

/// `show-task`
#[derive(Debug, Args)]
pub struct ShowTaskArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
}

/// `replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    pub id: u64,
}

/// `results`
#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// Only those of this task
    #[arg(value_parser = values::task_id)]
    pub id: Option<u64>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = values::name)]
    pub task_type: Option<String>,
    /// Only failures
    #[arg(long)]
    pub failed: bool,
    /// Only what ended in this time up to now
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub since: Option<Duration>,
    /// How to print them [default: table, with ID each whole; jsonl with --json]
    #[arg(long, conflicts_with = "json")]
    pub format: Option<ResultsFormat>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ResultsFormat {
    Table,
    Jsonl,
    Csv,
}

/// `config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The worker's settings.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the page of every command into this folder instead
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, value_parser = values::path())]
    pub dir: Option<PathBuf>,
}
