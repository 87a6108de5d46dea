//! The pages for people, in a real browser.
#![cfg(feature = "server")]

mod browser;
mod console;
mod report;
#[path = "../worker/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
#[path = "../status/watched.rs"]
mod watched;

mod worker;
