//! Sets the clock for programs in a sandbox, not that of the machine.

use std::fs;
use std::process::Command;

use super::Sandbox;

/// Makes [`set_clock`] work for a sandbox.
pub(crate) fn with_clock(sandbox: Sandbox) -> Sandbox {
    let source = sandbox.write("set_clock.c", include_str!("set_clock.c"));
    let library = sandbox.path("set_clock.so");
    // The C compiler that is needed for SQLite as well.
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    let (library, clock) = (library.to_str().unwrap().to_owned(), sandbox.path("clock").to_str().unwrap().to_owned());
    sandbox.env("LD_PRELOAD", &library).env("CLOCK", &clock)
}

/// Sets the clock of a sandbox to this many seconds after that of the machine.
pub(crate) fn set_clock(sandbox: &Sandbox, seconds: i64) {
    let new = sandbox.write("clock.new", seconds.to_string());
    fs::rename(new, sandbox.path("clock")).unwrap();
}
