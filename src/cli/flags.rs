//! The command line as one source of settings.

use super::{Cli, Command, GlobalArgs, WorkerArgs};
use crate::config::Flags;

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
