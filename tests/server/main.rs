//! The embedded TaskManager, called through a real socket.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod api;
mod batches;
mod browser;
mod claims;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod disk;
mod exchange;
mod faults;
mod fields;
mod forms;
mod http;
mod kills;
mod large;
mod lifecycle;
mod long_polls;
mod page;
mod published;
mod renewals;
mod reports;
mod retention;
mod schemas;
mod serve;
mod sessions;
mod tasks;
mod types;
mod waiter;
