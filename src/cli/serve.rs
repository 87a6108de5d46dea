//! The arguments of the embedded TaskManager.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::values;
use crate::config::{parse_address, parse_max_attempts, parse_positive_duration};

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; needs an API key if other machines can reach it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// Database file [default: taskmanager.db next to the results file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub db: Option<PathBuf>,
    /// Time until a claim expires [default: 300s; 60s for workers that renew their claims]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub claim_timeout: Option<Duration>,
    /// Maximum number of attempts before a task fails for good
    #[arg(long, value_name = "N", default_value = "3", value_parser = parse_max_attempts)]
    pub max_attempts: u32,
    /// Retention of completed and failed tasks [default: forever]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub keep: Option<Duration>,
    /// Faults to inject, for testing clients: drop, reset, deadlock, html, ratelimit, claims=N, latency=RATE:DURATION,
    /// published, features=NAMES, seed=N
    #[arg(long, value_name = "KIND=RATE,...", value_delimiter = ',')]
    pub fault: Vec<String>,
}
