//! Independent cases of a test.

use std::sync::Mutex;
use std::thread;

/// Number of concurrent cases: they mostly wait for processes and clocks.
const AT_ONCE: usize = 13;

/// Checks all cases, several concurrently.
#[track_caller]
pub(crate) fn at_once<T: Send>(cases: impl IntoIterator<Item = T, IntoIter: Send>, check: impl Fn(T) + Sync) {
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    check(case);
                }
            });
        }
    });
}
