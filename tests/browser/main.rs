//! The pages for people, in a real browser.
#![cfg(feature = "server")]

mod browser;
mod console;
mod report;
#[path = "../support/mod.rs"]
mod support;

mod worker;
