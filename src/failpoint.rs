//! Points at which a test can kill the process, by `FAILPOINTS='NAME=return'`, or have the system refuse something. In a
//! release they are nothing.

use std::io;

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

/// Fails with the error number that a test names, as in `NAME=return(24)`.
#[cfg(feature = "failpoints")]
pub(crate) fn check(name: &str) -> io::Result<()> {
    fail::fail_point!(name, |number: Option<String>| {
        let number = number.and_then(|number| number.parse().ok());
        number.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    });
    Ok(())
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
// Its callers handle the errors that tests ask for.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn check(_: &str) -> io::Result<()> {
    Ok(())
}

/// Reads which points are on; they are off when what this returns is dropped.
#[cfg(feature = "failpoints")]
#[must_use]
pub(crate) fn set_up() -> impl Sized {
    fail::FailScenario::setup()
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn set_up() -> impl Sized {}
