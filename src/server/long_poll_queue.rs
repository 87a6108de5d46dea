//! Queues of long polls, one for each type. Only the first claim of a queue looks for a task: when it becomes the first,
//! when it is notified, and when a claim of the type may have expired. So there is no polling, a task goes to the claim
//! that has waited longest, and if a claim is dropped because its client has disconnected, the next one looks instead.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// All waiting claims.
#[derive(Default)]
pub(super) struct LongPollQueue(Mutex<TypeQueues>);

#[derive(Default)]
struct TypeQueues {
    /// The claims of each type, by their numbers in order of arrival.
    by_type: HashMap<i64, BTreeMap<u64, Arc<WaitingClaim>>>,
    last_number: u64,
    closed: bool,
}

impl TypeQueues {
    fn notify_first(&self, type_id: i64) {
        if let Some((_, first)) = self.by_type.get(&type_id).and_then(BTreeMap::first_key_value) {
            first.notify.notify_one();
        }
    }

    fn is_first(&self, type_id: i64, number: u64) -> bool {
        let first = self.by_type.get(&type_id).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(first, _)| *first == number)
    }

    /// Returns all claims; one that waits for several types is included several times.
    fn all(&self) -> impl Iterator<Item = &Arc<WaitingClaim>> {
        self.by_type.values().flat_map(BTreeMap::values)
    }
}

/// A waiting claim.
struct WaitingClaim {
    worker_id: String,
    notify: Notify,
    ended: AtomicBool,
}

impl WaitingClaim {
    /// Ends the wait. Returns false if it had already ended.
    fn end(&self) -> bool {
        self.notify.notify_one();
        !self.ended.swap(true, Ordering::Relaxed)
    }
}

impl LongPollQueue {
    /// Notifies the first claim of a type that there may be a task.
    pub(super) fn notify_first_of(&self, type_id: i64) {
        self.lock().notify_first(type_id);
    }

    /// Ends all waits of a worker. Returns their number.
    pub(super) fn withdraw(&self, worker_id: &str) -> usize {
        self.lock().all().filter(|long_poll| long_poll.worker_id == worker_id && long_poll.end()).count()
    }

    /// Returns the workers with waiting claims, and the types that they wait for.
    pub(super) fn workers(&self) -> HashMap<String, HashSet<i64>> {
        let queues = self.lock();
        let mut workers: HashMap<String, HashSet<i64>> = HashMap::new();
        for (type_id, queue_of_type) in &queues.by_type {
            for long_poll in queue_of_type.values() {
                workers.entry(long_poll.worker_id.clone()).or_default().insert(*type_id);
            }
        }
        workers
    }

    /// Ends all waits, including future ones.
    pub(super) fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        queues.all().for_each(|long_poll| _ = long_poll.end());
    }

    pub(super) fn join(&self, types: Vec<i64>, worker_id: &str) -> QueuePosition<'_> {
        let mut queues = self.lock();
        queues.last_number += 1;
        let number = queues.last_number;
        let ended = AtomicBool::new(queues.closed);
        let long_poll = Arc::new(WaitingClaim { worker_id: worker_id.to_owned(), notify: Notify::new(), ended });
        for type_id in &types {
            queues.by_type.entry(*type_id).or_default().insert(number, Arc::clone(&long_poll));
        }
        QueuePosition { queue: self, types, number, long_poll }
    }

    fn lock(&self) -> MutexGuard<'_, TypeQueues> {
        self.0.lock()
    }
}

/// The position of a claim in the queues of its types. Dropping it leaves the queues and notifies the next claims.
pub(super) struct QueuePosition<'a> {
    queue: &'a LongPollQueue,
    types: Vec<i64>,
    number: u64,
    long_poll: Arc<WaitingClaim>,
}

impl QueuePosition<'_> {
    pub(super) fn is_ended(&self) -> bool {
        self.long_poll.ended.load(Ordering::Relaxed)
    }

    /// Returns the types in whose queues it is the first.
    pub(super) fn types_where_first(&self) -> Vec<i64> {
        let queues = self.queue.lock();
        self.types.iter().copied().filter(|type_id| queues.is_first(*type_id, self.number)).collect()
    }

    /// Waits until it is notified, or until `until`.
    pub(super) async fn wait(&self, until: Instant) {
        let _ = timeout_at(until, self.long_poll.notify.notified()).await;
    }
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        let mut queues = self.queue.lock();
        for type_id in &self.types {
            let was_first = queues.is_first(*type_id, self.number);
            let Some(queue_of_type) = queues.by_type.get_mut(type_id) else { continue };
            queue_of_type.remove(&self.number);
            if queue_of_type.is_empty() {
                queues.by_type.remove(type_id);
            } else if was_first {
                queues.notify_first(*type_id);
            }
        }
    }
}
