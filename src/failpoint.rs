//! Points at which tests can kill the process, with `FAILPOINTS='NAME=return'`, inject system errors, or
//! shorten timeouts. They are not part of releases.

use std::io;
use std::time::Duration;

/// Kills the process if a test has activated this point.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) {
    fail::fail_point!(name, |_| {
        // The call does not return.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_: &str) {}

/// The points of a call to the TaskManager, named after its path and the step: `claim:changed`, `tasks:changed`.
#[cfg(feature = "failpoints")]
pub(crate) struct CallPoints(Option<String>);

#[cfg(feature = "failpoints")]
impl CallPoints {
    /// Returns the points of a call. One that only reads has none.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let name = path.rsplit('/').find(|part| !part.is_empty());
        Self(name.filter(|_| method != "GET").map(str::to_owned))
    }

    /// Kills the process if a test has activated this step of the call.
    pub(crate) fn reach(&self, step: &str) {
        if let Self(Some(name)) = self {
            reach(&format!("{name}:{step}"));
        }
    }
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) struct CallPoints;

#[cfg(not(feature = "failpoints"))]
impl CallPoints {
    pub(crate) fn of(_: &str, _: &str) -> Self {
        Self
    }

    // It has a receiver because that of tests needs one.
    #[allow(clippy::unused_self)]
    pub(crate) fn reach(&self, _: &str) {}
}

/// Fails with an error number if a test has activated this point, as in `NAME=return(24)`.
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

/// Returns `short` instead of `normal` if a test has activated this point.
#[cfg(feature = "failpoints")]
pub(crate) fn timeout(name: &str, normal: Duration, short: Duration) -> Duration {
    fail::fail_point!(name, |_| short);
    normal
}

/// Returns `normal`, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn timeout(_: &str, normal: Duration, _: Duration) -> Duration {
    normal
}

/// Activates the points in the environment until the returned value is dropped.
#[cfg(feature = "failpoints")]
#[must_use]
pub(crate) fn set_up() -> impl Sized {
    fail::FailScenario::setup()
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn set_up() -> impl Sized {}
