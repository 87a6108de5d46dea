//! `prismq` turns any program into a worker of the `PrismQ` `TaskManager`.

pub mod clock;
pub mod config;
pub mod exit;
pub mod handler;
pub mod shutdown;
pub mod store;
pub mod task;
pub mod taskmanager;

/// Runs the program.
#[must_use]
pub fn run() -> exit::Exit {
    exit::Exit::Done
}
pub mod worker;
