//! A clock that a test sets, for all that runs in a sandbox: that of the machine is left alone.

use std::fs;
use std::process::Command;

use super::Sandbox;

/// The same sandbox, whose time of day [`set_clock`] sets.
pub(crate) fn with_clock(sandbox: Sandbox) -> Sandbox {
    let source = sandbox.write("set_clock.c", include_str!("set_clock.c"));
    let library = sandbox.path("set_clock.so");
    // The C compiler that SQLite takes as well.
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    let (library, clock) = (library.to_str().unwrap().to_owned(), sandbox.path("clock").to_str().unwrap().to_owned());
    sandbox.env("LD_PRELOAD", &library).env("CLOCK", &clock)
}

/// Sets the clock of a sandbox: so many seconds from that of the machine.
pub(crate) fn set_clock(sandbox: &Sandbox, seconds: i64) {
    let new = sandbox.write("clock.new", seconds.to_string());
    fs::rename(new, sandbox.path("clock")).unwrap();
}
