//! The command line, through the real binary: every command but `work`, what it makes of wrong input, and whether the
//! documents are right about it.
#![cfg(feature = "server")]

mod bad_input;
mod commands;
mod documents;
#[path = "../support/mod.rs"]
mod support;
