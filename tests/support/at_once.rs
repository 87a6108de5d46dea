//! Cases of a test that have nothing to do with each other.

use std::sync::Mutex;
use std::thread;

/// Cases that run at the same time: they mostly wait, for processes and for clocks.
const AT_ONCE: usize = 13;

/// Checks all of these, several at the same time.
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
