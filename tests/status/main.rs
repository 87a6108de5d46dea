//! What a worker shows on `--status-addr`, through the real binary.
#![cfg(feature = "server")]

#[path = "../worker/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod deploy;
mod endpoint;
mod gone;
mod health;
mod locked;
mod metrics;
mod page;
mod promtool;
mod unwritable;
mod watched;
mod youtube;
