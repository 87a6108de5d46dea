//! Every command but `work`, through the real binary: what it prints where, as text and as JSON, and its exit code.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod bulk;
mod claim;
mod claim_run;
mod completions;
mod connections;
mod copies;
mod create;
mod crowds;
mod damage;
mod demo;
mod failures;
mod health;
mod init;
mod journal;
mod proxy;
mod refusals;
mod report;
mod results;
mod rig;
mod serve;
mod settings;
mod signals;
mod socks;
mod stats;
mod story;
mod tasks;
mod terminal;
mod tls;
mod types;
mod usage;
mod wait;
