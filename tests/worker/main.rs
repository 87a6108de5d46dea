//! The worker, through the real binary: against the embedded TaskManager, and against what the published one answers.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod outcomes;
mod rig;
