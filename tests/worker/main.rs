//! The worker, through the real binary: against the embedded TaskManager, and against what the published one answers;
//! how it delivers, what it shows on `--status-addr`, and what becomes of its children.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod beyond;
#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod clock;
mod delivery;
mod exact;
mod examples;
mod holds;
mod ideas;
mod ideas_elsewhere;
mod limits;
mod logs;
mod long;
mod outages;
mod outcomes;
mod params;
mod polling;
mod pruning;
mod refused;
mod replayed;
mod shortage;
mod signals;
mod slots;
mod start;
mod status;
mod systemd;
mod waits;
mod warm;
