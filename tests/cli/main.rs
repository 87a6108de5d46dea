//! The command line of the real binary: every command but `work`, invalid input, and whether the documents are correct.
#![cfg(feature = "server")]

mod bad_input;
mod commands;
mod documents;
#[path = "../support/mod.rs"]
mod support;
