//! `prismq` turns any program into a worker of the `PrismQ` `TaskManager`.

pub mod clock;
pub mod exit;
pub mod shutdown;
pub mod store;
pub mod task;
pub mod taskmanager;

/// Runs the program.
#[must_use]
pub fn run() -> exit::Exit {
    exit::Exit::Done
}
