//! The order of long polls. Those of one type stand in a line, whose first alone looks for a task: when it becomes the
//! first, when it is told that there may be one, and when a claim of the type may have expired. So nobody polls, a task
//! goes to who has waited longest, and a claim that is dropped because its client has left takes nothing: the next in the
//! line looks instead.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// All claims that wait.
#[derive(Default)]
pub(super) struct LongPollQueue(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    /// For each type its claims, by the numbers they drew when they came.
    of_types: HashMap<i64, BTreeMap<u64, Arc<LongPoll>>>,
    drawn: u64,
    closed: bool,
}

impl Lines {
    fn call_first(&self, type_id: i64) {
        if let Some((_, first)) = self.of_types.get(&type_id).and_then(BTreeMap::first_key_value) {
            first.called.notify_one();
        }
    }

    fn is_first(&self, type_id: i64, number: u64) -> bool {
        let first = self.of_types.get(&type_id).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(first, _)| *first == number)
    }

    /// One that waits for several types is there for each.
    fn all(&self) -> impl Iterator<Item = &Arc<LongPoll>> {
        self.of_types.values().flat_map(BTreeMap::values)
    }
}

/// A claim that waits.
struct LongPoll {
    worker_id: String,
    called: Notify,
    over: AtomicBool,
}

impl LongPoll {
    /// Ends the wait; false where it had been ended.
    fn end(&self) -> bool {
        self.called.notify_one();
        !self.over.swap(true, Ordering::Relaxed)
    }
}

impl LongPollQueue {
    /// There may be a task of that type to claim now.
    pub(super) fn tell(&self, type_id: i64) {
        self.lock().call_first(type_id);
    }

    /// Ends all waits of that worker; how many.
    pub(super) fn withdraw(&self, worker_id: &str) -> usize {
        self.lock().all().filter(|waiting| waiting.worker_id == worker_id && waiting.end()).count()
    }

    /// The workers whose claims wait, each with the types that it would take a task of.
    pub(super) fn workers(&self) -> HashMap<String, HashSet<i64>> {
        let lines = self.lock();
        let mut workers: HashMap<String, HashSet<i64>> = HashMap::new();
        for (type_id, line) in &lines.of_types {
            for waiting in line.values() {
                workers.entry(waiting.worker_id.clone()).or_default().insert(*type_id);
            }
        }
        workers
    }

    /// Ends all waits, those to come too.
    pub(super) fn close(&self) {
        let mut lines = self.lock();
        lines.closed = true;
        lines.all().for_each(|waiting| _ = waiting.end());
    }

    pub(super) fn join(&self, types: Vec<i64>, worker_id: &str) -> Place<'_> {
        let mut lines = self.lock();
        lines.drawn += 1;
        let number = lines.drawn;
        let over = AtomicBool::new(lines.closed);
        let waiting = Arc::new(LongPoll { worker_id: worker_id.to_owned(), called: Notify::new(), over });
        for type_id in &types {
            lines.of_types.entry(*type_id).or_default().insert(number, Arc::clone(&waiting));
        }
        Place { queue: self, types, number, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock()
    }
}

/// A place in the line of each of some types. Who drops it leaves, and where it was the first, the next one is called.
pub(super) struct Place<'a> {
    queue: &'a LongPollQueue,
    types: Vec<i64>,
    number: u64,
    waiting: Arc<LongPoll>,
}

impl Place<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.waiting.over.load(Ordering::Relaxed)
    }

    /// The types in whose lines it is the first.
    pub(super) fn first_of(&self) -> Vec<i64> {
        let lines = self.queue.lock();
        self.types.iter().copied().filter(|type_id| lines.is_first(*type_id, self.number)).collect()
    }

    /// Until it is called, but no longer than `until`.
    pub(super) async fn wait(&self, until: Instant) {
        let _ = timeout_at(until, self.waiting.called.notified()).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.queue.lock();
        for type_id in &self.types {
            let was_first = lines.is_first(*type_id, self.number);
            let Some(line) = lines.of_types.get_mut(type_id) else { continue };
            line.remove(&self.number);
            if line.is_empty() {
                lines.of_types.remove(type_id);
            } else if was_first {
                lines.call_first(*type_id);
            }
        }
    }
}
