//! The command line, as clap types and nothing else.

mod flags;
mod help;
#[cfg(feature = "server")]
mod serve;
#[cfg(test)]
mod tests;
mod usage;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::config::{Strategy, parse_concurrency, parse_duration, parse_positive_duration, task_type_name};

pub(crate) use flags::{GlobalArgs, WorkerArgs};
#[cfg(feature = "server")]
pub(crate) use serve::ServeArgs;
pub(crate) use usage::usage_error;
pub(crate) use values::{Handle, Param};

/// Turn any program into a worker for the PrismQ TaskManager
#[derive(Debug, Parser)]
#[command(name = "prismq", version, max_term_width = 100)]
#[command(help_template = help::TEMPLATE, after_help = help::MORE, after_long_help = help::EXIT_CODES)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses a command line. A negative number is a value, for its argument to refuse, and not an unknown option; and
    /// `help --help` is `help`, whose options the parser would take for commands.
    pub(crate) fn read(arguments: impl IntoIterator<Item: Into<OsString>>) -> Result<Self, clap::Error> {
        let values = |arg: Arg| if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg };
        let mut command = Self::command().mut_args(values).mut_subcommands(|it| it.mut_args(values));
        let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        if arguments.get(1).is_some_and(|it| it == "help") {
            arguments.retain(|it| it != "--help" && it != "-h");
        }
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a starter prismq.toml, .env and handler in this folder
    #[command(after_help = help::INIT)]
    Init,
    /// Register or update a task type
    #[command(after_help = help::REGISTER_TYPE)]
    RegisterType(RegisterTypeArgs),
    /// Create a task and print its ID, or create many from a file
    #[command(after_help = help::CREATE_TASK)]
    CreateTask(CreateTaskArgs),
    /// Wait for a task, claim it and print it
    #[command(after_help = help::CLAIM)]
    Claim(ClaimArgs),
    /// Report a claimed task as completed
    #[command(after_help = help::COMPLETE)]
    Complete(CompleteArgs),
    /// Report a claimed task as failed
    #[command(after_help = help::FAIL)]
    Fail(FailArgs),
    /// Report a claimed task's progress
    #[command(after_help = help::PROGRESS)]
    Progress(ProgressArgs),
    /// Run the worker until stopped
    #[command(after_help = help::WORK)]
    Work(WorkArgs),
    /// Check the TaskManager, API key, types, handlers and results file
    #[command(after_help = help::HEALTH)]
    Health(HealthArgs),
    /// Show statistics of this machine's workers
    #[command(after_help = help::STATS)]
    Stats(StatsArgs),
    /// List the TaskManager's task types
    #[command(after_help = help::LIST_TYPES)]
    ListTypes,
    /// List the TaskManager's tasks, newest first
    #[command(after_help = help::LIST_TASKS)]
    ListTasks(ListTasksArgs),
    /// Show a task, with its params and result
    #[command(after_help = help::SHOW_TASK)]
    ShowTask(TaskIdArgs),
    /// Show a task's history: claims, attempts and reports
    #[command(after_help = help::EXPLAIN)]
    Explain(TaskIdArgs),
    /// Run a task's handler again locally; nothing is stored or reported
    #[command(after_help = help::REPLAY)]
    Replay(TaskIdArgs),
    /// Show or export results from the results file
    #[command(after_help = help::RESULTS)]
    Results(ResultsArgs),
    /// Run the embedded TaskManager
    #[cfg(feature = "server")]
    #[command(after_help = help::SERVE)]
    Serve(ServeArgs),
    /// Run a self-contained demo
    #[cfg(feature = "server")]
    #[command(after_help = help::DEMO)]
    Demo,
    /// Show every setting and where its value comes from
    #[command(after_help = help::CONFIG)]
    Config(ConfigArgs),
    /// Print shell completions
    #[command(after_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the man page, or write one page per command
    #[command(after_help = help::MAN)]
    Man(ManArgs),
}

/// `register-type`
#[derive(Debug, Args)]
pub(crate) struct RegisterTypeArgs {
    /// Task type
    #[arg(required_unless_present = "all", value_parser = task_type_name)]
    pub name: Option<String>,
    /// Version [default: as configured, else 1.0.0]
    #[arg(long, value_name = "VERSION", value_parser = values::name)]
    pub version: Option<String>,
    /// JSON Schema of the params: a file, - for standard input, or inline JSON
    #[arg(long, value_name = "FILE|-|JSON", value_hint = ValueHint::AnyPath)]
    pub schema: Option<String>,
    /// Register every configured task type
    #[arg(long, conflicts_with_all = ["name", "version", "schema"])]
    pub all: bool,
}

/// `create-task`
#[derive(Debug, Args)]
pub(crate) struct CreateTaskArgs {
    /// Task type
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub task_type: String,
    /// Params: KEY=TEXT for text, KEY:=JSON for any JSON value
    #[arg(value_name = "KEY=TEXT|KEY:=JSON", value_parser = values::param)]
    pub pairs: Vec<Param>,
    /// All params as one JSON object: inline JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "pairs")]
    pub params: Option<String>,
    /// Priority; workers with the priority strategy claim higher ones first
    #[arg(long, value_name = "N", value_parser = values::priority)]
    pub priority: Option<i64>,
    /// Wait until the task ends and print its result; exit with 1 if it failed
    #[arg(long)]
    pub wait: bool,
    /// Maximum time to wait
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Create one task per line: a file of JSON objects, or - for standard input
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["pairs", "params", "wait"], value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub from: Option<PathBuf>,
    /// Maximum number of concurrent requests
    #[arg(long, value_name = "N", requires = "from", default_value = "8", value_parser = parse_concurrency)]
    pub concurrency: usize,
}

/// `claim`
#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// Task types to claim [default: all configured]
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub types: Vec<String>,
    /// Try once; exit with 3 if there is no task
    #[arg(long)]
    pub once: bool,
    /// Run the task here with its handler, and report the result
    #[arg(long)]
    pub run: bool,
    /// Leave the task claimed after running it
    #[arg(long, requires = "run")]
    pub no_report: bool,
    /// Order in which pending tasks are claimed [default: fifo]
    #[arg(long, value_parser = values::strategy())]
    pub strategy: Option<Strategy>,
    /// Maximum time to wait for a task
    #[arg(long, value_name = "DURATION", conflicts_with = "once", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `complete`
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// Task ID
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// Result: inline JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub result: Option<String>,
}

/// `fail`
#[derive(Debug, Args)]
pub(crate) struct FailArgs {
    /// Task ID
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// Error message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub error: String,
}

/// `progress`
#[derive(Debug, Args)]
pub(crate) struct ProgressArgs {
    /// Task ID
    #[arg(value_parser = values::task_id)]
    pub id: u64,
    /// Progress in percent, from 0 to 100
    #[arg(value_parser = values::percent)]
    pub percent: u8,
    /// Message to show with the progress
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
}

/// `work`
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Task types to work on [default: all configured]
    #[arg(value_name = "TYPE", value_parser = task_type_name)]
    pub types: Vec<String>,
    /// Handle a task type with a shell command
    #[arg(long = "handle", value_name = "TYPE=CMD", value_parser = values::handle, value_hint = ValueHint::CommandString)]
    pub handles: Vec<Handle>,
    /// Exit when no tasks are left
    #[arg(long)]
    pub drain: bool,
    /// Exit after being idle this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub exit_after_idle: Option<Duration>,
    /// Register the configured task types first
    #[arg(long)]
    pub register: bool,
    /// Run the embedded TaskManager in the same process
    #[cfg(feature = "server")]
    #[arg(long)]
    pub embedded: bool,
    /// The worker's settings.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `health`
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Maximum time to wait for the TaskManager and for external services
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub timeout: Option<Duration>,
    /// Also check external services: whether YouTube accepts the API key (one unit of quota)
    #[arg(long)]
    pub external: bool,
}

/// `stats`
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Only attempts that finished in the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub since: Option<Duration>,
    /// What to group by [default: type]
    #[arg(long)]
    pub by: Option<StatsBy>,
    /// Refresh every two seconds until interrupted with Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Write an HTML report with charts to this file, or - for standard output
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["watch", "json"], value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub html: Option<PathBuf>,
}

/// What statistics are split by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum StatsBy {
    Type,
    Worker,
    Hour,
    Day,
}

/// `list-tasks`
#[derive(Debug, Args)]
pub(crate) struct ListTasksArgs {
    /// Only tasks with this status
    #[arg(long)]
    pub status: Option<TaskStatus>,
    /// Only tasks of this type; % matches any text
    #[arg(long = "type", value_name = "PATTERN", value_parser = values::name)]
    pub task_type: Option<String>,
    /// Maximum number of tasks
    #[arg(long, value_name = "N", default_value = "50", value_parser = values::limit)]
    pub limit: u32,
}

/// A task's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum TaskStatus {
    Pending,
    Claimed,
    Completed,
    Failed,
}

/// `show-task`, `explain` and `replay`
#[derive(Debug, Args)]
pub(crate) struct TaskIdArgs {
    /// Task ID
    #[arg(value_parser = values::task_id)]
    pub id: u64,
}

/// `results`
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// Only results of this task
    #[arg(value_parser = values::task_id)]
    pub id: Option<u64>,
    /// Only results of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = values::name)]
    pub task_type: Option<String>,
    /// Only failures
    #[arg(long)]
    pub failed: bool,
    /// Only results from the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub since: Option<Duration>,
    /// Output format [default: table, or each result in full if ID is given; jsonl with --json]
    #[arg(long, conflicts_with = "json")]
    pub format: Option<ResultsFormat>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ResultsFormat {
    Table,
    Jsonl,
    Csv,
    /// One field per line, which is chosen by giving an ID.
    #[value(skip)]
    Full,
}

/// `config`
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The worker's settings.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell
    pub shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write one page per command to this folder
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, value_parser = values::path())]
    pub dir: Option<PathBuf>,
}
