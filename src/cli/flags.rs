//! The command line as one source of settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueHint};

use super::{Cli, Command, values};
use crate::config::{
    Flags, LogFormat, Strategy, parse_address, parse_concurrency, parse_duration, parse_max_attempts, parse_max_tasks,
    parse_positive_duration,
};

/// What every command takes, before its name or after it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct GlobalArgs {
    /// The configuration file [default: ./prismq.toml, else the one in your configuration folder]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub config: Option<PathBuf>,
    /// Where the TaskManager is; it ends in /api [default: port 8000 of this machine]
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub api_url: Option<String>,
    /// Who this worker is [default: the host's name and eight hex digits]
    #[arg(long, global = true, value_name = "ID")]
    pub worker_id: Option<String>,
    /// The results file [default: results.db in your data folder]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub results: Option<PathBuf>,
    /// The database of ideas [default: the results file]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub ideas: Option<PathBuf>,
    /// How a line of the log looks [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = values::log_format(), help_heading = "Output")]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, and MODULE=LEVEL by commas [default: info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Output")]
    pub log_level: Option<String>,
    /// Log more: -v debug, -vv trace
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Say less: -q only warnings, -qq only errors
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub quiet: u8,
    /// The same as -v
    #[arg(long, global = true, help_heading = "Output")]
    pub debug: bool,
    /// Print JSON, and errors as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// What a worker can be told.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Worker settings")]
pub struct WorkerArgs {
    /// The time between two polls while there is nothing to do [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub poll_interval: Option<Duration>,
    /// The longest time between two polls, after many that found nothing [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub max_backoff: Option<Duration>,
    /// End after so many tasks; 0 is never [default: 0]
    #[arg(long, visible_alias = "max-runs", value_name = "N", value_parser = parse_max_tasks)]
    pub max_tasks: Option<u64>,
    /// Which of the waiting tasks comes first [default: fifo]
    #[arg(long, value_parser = values::strategy())]
    pub strategy: Option<Strategy>,
    /// How many tasks to work at once [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_concurrency)]
    pub concurrency: Option<usize>,
    /// How long the TaskManager lets a worker keep a task [default: 300s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub claim_timeout: Option<Duration>,
    /// Fail a task unrun that was handed out more often than this [default: 5]
    #[arg(long, value_name = "N", value_parser = parse_max_attempts)]
    pub max_attempts: Option<u32>,
    /// How long handlers may go on after the first signal [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace_period: Option<Duration>,
    /// How long results stay in the results file once they are reported; 0 is for ever [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub keep_results: Option<Duration>,
    /// Show health, metrics and a page on this address, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub status_addr: Option<SocketAddr>,
}

impl Cli {
    /// The settings that the command line gives.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let flags = match &self.command {
            Command::Work(args) => args.worker.flags(),
            Command::Config(args) => args.worker.flags(),
            Command::Claim(args) => Flags { strategy: args.strategy, ..Flags::default() },
            _ => Flags::default(),
        };
        let global = &self.global;
        Flags {
            config: global.config.clone(),
            api_url: global.api_url.clone(),
            worker_id: global.worker_id.clone(),
            results: global.results.clone(),
            ideas: global.ideas.clone(),
            log_format: global.log_format,
            log_level: global.log_level(),
            ..flags
        }
    }
}

impl WorkerArgs {
    fn flags(&self) -> Flags {
        Flags {
            poll_interval: self.poll_interval,
            max_backoff: self.max_backoff,
            max_tasks: self.max_tasks,
            strategy: self.strategy,
            concurrency: self.concurrency,
            claim_timeout: self.claim_timeout,
            max_attempts: self.max_attempts,
            grace_period: self.grace_period,
            keep_results: self.keep_results,
            status_addr: self.status_addr,
            ..Flags::default()
        }
    }
}

impl GlobalArgs {
    /// The level they ask for: `--log-level` itself, else the quieter ones, else the louder ones.
    fn log_level(&self) -> Option<String> {
        let short = match (self.quiet, self.verbose) {
            (0, 0) if self.debug => Some("debug"),
            (0, 0) => None,
            (0, 1) => Some("debug"),
            (0, _) => Some("trace"),
            (1, _) => Some("warn"),
            (_, _) => Some("error"),
        };
        self.log_level.clone().or_else(|| short.map(str::to_owned))
    }
}
