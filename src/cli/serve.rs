//! The arguments of the embedded TaskManager.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::values;
use crate::config::{parse_address, parse_max_attempts, parse_positive_duration};

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen on; one that others can reach needs an API key
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// The file that holds its tasks
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = values::path())]
    pub db: Option<PathBuf>,
    /// How long a worker may keep a task
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = parse_positive_duration)]
    pub claim_timeout: Duration,
    /// How often a task is handed out before a failure is its end
    #[arg(long, value_name = "N", default_value = "3", value_parser = parse_max_attempts)]
    pub max_attempts: u32,
    /// How long to keep tasks that have completed or failed [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub keep: Option<Duration>,
    /// Fail on purpose, to try clients: drop, reset, deadlock, html, ratelimit, claims=N, latency=RATE:DURATION, published,
    /// seed=N
    #[arg(long, value_name = "KIND=RATE,...", value_delimiter = ',')]
    pub fault: Vec<String>,
}
