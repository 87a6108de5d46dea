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

/// Options of every command, before its name or after it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct GlobalArgs {
    /// Configuration file [default: ./prismq.toml, else the one in your configuration folder]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub config: Option<PathBuf>,
    /// Base URL of the TaskManager, ending in /api [default: port 8000 on localhost]
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub api_url: Option<String>,
    /// Worker ID [default: host name and 8 random hex digits]
    #[arg(long, global = true, value_name = "ID")]
    pub worker_id: Option<String>,
    /// Results file [default: results.db in your data folder]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub results: Option<PathBuf>,
    /// Ideas database [default: the results file]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub ideas: Option<PathBuf>,
    /// Log format [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = values::log_format(), help_heading = "Output")]
    pub log_format: Option<LogFormat>,
    /// Log level: a level, or MODULE=LEVEL, separated by commas [default: info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Output")]
    pub log_level: Option<String>,
    /// Log more (-v: debug, -vv: trace)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Log less (-q: warnings, -qq: errors only)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub quiet: u8,
    /// Same as -v
    #[arg(long, global = true, help_heading = "Output")]
    pub debug: bool,
    /// Print JSON, including errors
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// Settings of a worker.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Worker settings")]
pub(crate) struct WorkerArgs {
    /// Time between polls when idle [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub poll_interval: Option<Duration>,
    /// Maximum time between polls after many without a task [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub max_backoff: Option<Duration>,
    /// Maximum number of tasks before exiting; 0 = no limit [default: 0]
    #[arg(long, visible_alias = "max-runs", value_name = "N", value_parser = parse_max_tasks)]
    pub max_tasks: Option<u64>,
    /// Order in which pending tasks are claimed [default: fifo]
    #[arg(long, value_parser = values::strategy())]
    pub strategy: Option<Strategy>,
    /// Maximum number of tasks in flight [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_concurrency)]
    pub concurrency: Option<usize>,
    /// Time until a claim expires, as set on the TaskManager [default: 300s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub claim_timeout: Option<Duration>,
    /// Fail tasks claimed more than N times, without running them [default: 5]
    #[arg(long, value_name = "N", value_parser = parse_max_attempts)]
    pub max_attempts: Option<u32>,
    /// Time for handlers to finish after the first signal [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace_period: Option<Duration>,
    /// Retention of reported results; 0 = no limit [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub keep_results: Option<Duration>,
    /// Address of the status page, health and metrics, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub status_addr: Option<SocketAddr>,
}

impl Cli {
    /// The settings that the command line gives.
    #[must_use]
    pub(crate) fn flags(&self) -> Flags {
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
