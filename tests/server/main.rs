//! The embedded TaskManager, called through a real socket.
#![cfg(feature = "server")]

mod access;
mod api;
mod claims;
mod http;
mod lifecycle;
mod tasks;
mod types;
