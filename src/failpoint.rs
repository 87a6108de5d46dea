//! Points at which a test can kill the process, by `FAILPOINTS='NAME=return'`. In a release they are nothing.

/// Dies here by SIGKILL where a test says so.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) {
    fail::fail_point!(name, |_| {
        // It does not return.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_: &str) {}

/// Reads which points are on; they are off when what this returns is dropped.
#[cfg(feature = "failpoints")]
#[must_use]
pub(crate) fn set_up() -> impl Sized {
    fail::FailScenario::setup()
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn set_up() -> impl Sized {}
