//! The embedded TaskManager, called through a real socket.
#![cfg(feature = "server")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod api;
mod claims;
mod exchange;
mod faults;
mod http;
mod keep;
mod lifecycle;
mod published;
mod serve;
mod tasks;
mod types;
mod waits;
