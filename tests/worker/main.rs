//! The worker, through the real binary: against the embedded TaskManager, and against what the published one answers.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod beyond;
#[cfg(target_os = "linux")]
mod clock;
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
mod published;
mod refused;
mod replayed;
mod rig;
mod shortage;
mod signals;
mod slots;
mod start;
mod systemd;
mod waits;
mod warm;
