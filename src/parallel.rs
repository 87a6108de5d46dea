//! Runs work for many items in parallel threads.

use std::thread::{self, Builder};

use parking_lot::Mutex;

/// Runs `work` for all items in parallel, with as many threads as the system provides, and waits for all of them.
pub(crate) fn for_each_parallel<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    for_each_concurrently(items.len(), items, work);
}

/// Runs `work` for all items in order, at most `limit` at a time, and waits for all of them.
pub(crate) fn for_each_concurrently<T: Send>(limit: usize, items: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = limit.min(items.len());
    let left = Mutex::new(items.into_iter());
    let next = || left.lock().next();
    let work_on = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    thread::scope(|scope| {
        // This thread processes the rest.
        let _ = (1..threads).try_for_each(|_| Builder::new().spawn_scoped(scope, work_on).map(drop));
        work_on();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_items_are_processed_in_parallel() {
        let (together, done) = (Barrier::new(8), Mutex::new(Vec::new()));
        for_each_parallel((0..8).collect(), |number| {
            together.wait();
            done.lock().push(number);
        });
        let mut done = done.into_inner();
        done.sort_unstable();
        assert_eq!(done, (0..8).collect::<Vec<_>>());
    }
}
