//! The worker, through the real binary: against the embedded TaskManager, and against what the published one answers;
//! how it delivers, what it shows on `--status-addr`, and what becomes of its children.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod batches;
#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod claim_ahead;
mod clock;
mod delivery;
mod examples;
mod ideas;
mod ideas_elsewhere;
mod input_limits;
mod large_results;
mod limits;
mod logs;
mod long_polls;
mod number_precision;
mod outages;
mod outcomes;
mod params;
mod persistent;
mod polling;
mod pruning;
mod refused;
mod renewals;
mod replayed;
mod shortage;
mod signals;
mod slots;
mod snooze;
mod start;
mod status;
mod systemd;
