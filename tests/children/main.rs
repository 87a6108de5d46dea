//! What a worker's process owes its children and hides from them: in processes of their own, which can be killed.

#![cfg(target_os = "linux")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod binary;
mod group;
mod killed;
mod role;
mod secrecy;
