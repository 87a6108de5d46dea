//! Commits changes for all calls and syncs them to disk: one commit and one sync for calls that come at about the same
//! time.
//!
//! A commit is only written to the log: it survives the process, but not a power failure. So a call is answered after a
//! sync of the log.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify, OwnedMutexGuard, oneshot};
use tokio::task::{spawn_blocking, yield_now};

use super::envelope::CallError;
use super::error::ServerError;
use super::queue::{Queue, SharedQueue};
use super::storage::Disk;
use crate::failpoint::{self, CallPoints};

/// Commits and syncs the changes of a queue.
pub(super) struct Committer {
    queue: SharedQueue,
    disk: Arc<Disk>,
    sync: Arc<dyn Fn() -> CommitResult + Send + Sync>,
    /// Calls that wait until their changes are on disk.
    waiting: Mutex<Vec<oneshot::Sender<CommitResult>>>,
    has_waiting: Notify,
    /// Number of changes already committed or reported as failed.
    decided: AtomicU64,
    /// Number of failed commits, and the last error.
    failed: Mutex<(u64, String)>,
}

/// Whether changes are on disk; the error is one line.
type CommitResult = Result<(), String>;

impl Committer {
    pub(super) fn new(queue: SharedQueue) -> Self {
        let disk = Arc::clone(&queue.disk);
        Self::with(queue, move || disk.sync())
    }

    fn with(queue: SharedQueue, sync: impl Fn() -> CommitResult + Send + Sync + 'static) -> Self {
        let disk = Arc::clone(&queue.disk);
        let (waiting, has_waiting) = (Mutex::default(), Notify::new());
        let (decided, failed) = (AtomicU64::new(0), Mutex::default());
        Self { queue, disk, sync: Arc::new(sync), waiting, has_waiting, decided, failed }
    }

    /// Checks that the database file was not moved or deleted.
    pub(super) fn check_in_place(&self) -> Result<(), ServerError> {
        self.disk.check_in_place()
    }

    /// Returns the number of failed commits so far.
    fn failures(&self) -> u64 {
        self.failed.lock().0
    }

    /// Fails if more than `failures` commits have failed: one of them may have lost a change that no call waited for.
    fn check_since(&self, failures: u64) -> CommitResult {
        let (count, why) = &*self.failed.lock();
        if *count == failures { Ok(()) } else { Err(why.clone()) }
    }

    /// Waits until all earlier changes are on disk. A commit that failed before this call is not an error here: see
    /// [`Self::check_since`].
    pub(super) async fn wait_committed(&self) -> CommitResult {
        // If the queue is locked, the lock holder may be changing it.
        let is_committed = |queue: MutexGuard<'_, Queue>| queue.changes() == self.decided.load(Ordering::SeqCst);
        if self.queue.try_lock().is_some_and(is_committed) {
            return Ok(());
        }
        let (sender, committed) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.has_waiting.notify_one();
        committed.await.unwrap_or_else(|_| Err("the TaskManager has ended".to_owned()))
    }

    /// Commits changes until the server stops.
    pub(super) async fn run(&self) {
        loop {
            self.has_waiting.notified().await;
            // Calls that have arrived by now share the commit.
            yield_now().await;
            // With the lock held, nothing changes before the commit.
            let queue = self.queue.lock_owned().await;
            let waiting = mem::take(&mut *self.waiting.lock());
            // A short commit blocks this thread, and so other calls, for no longer than a switch of threads would take.
            let is_long = queue.has_long_commit();
            let (decided, sync) = (self.decided.load(Ordering::SeqCst), Arc::clone(&self.sync));
            let commit = move || commit_and_sync(queue, decided, &*sync);
            let committed = if is_long { spawn_blocking(commit).await } else { Ok(commit()) };
            // After a panic, the waiting calls get an error because their senders are dropped.
            let Ok((changes, result)) = committed else { continue };
            if let Err(why) = &result {
                let failed = &mut *self.failed.lock();
                *failed = (failed.0 + 1, why.clone());
            }
            self.decided.store(changes, Ordering::SeqCst);
            for call in waiting {
                // The call may have been cancelled.
                let _ = call.send(result.clone());
            }
        }
    }
}

/// Commits and syncs the changes after the first `decided`. Returns the number of all changes so far, and whether they are
/// on disk. The queue is unlocked before the sync.
fn commit_and_sync(
    mut queue: OwnedMutexGuard<Queue>,
    decided: u64,
    sync: &dyn Fn() -> CommitResult,
) -> (u64, CommitResult) {
    let (changes, committed) = (queue.changes(), queue.commit());
    drop(queue);
    if changes == decided {
        return (changes, committed);
    }
    failpoint::reach("committed");
    (changes, committed.and_then(|()| sync()))
}

/// Waits until everything an answer may show is on disk, including changes of other calls: a worker that is told that its
/// result has arrived does not send it again.
pub(super) async fn sync_changes(
    State(committer): State<Arc<Committer>>,
    request: Request,
    next: Next,
) -> Result<Response, CallError> {
    let points = CallPoints::of(request.method().as_str(), request.uri().path());
    let failures = committer.failures();
    points.reach("arrived");
    let answer = next.run(request).await;
    points.reach("changed");
    let result = committer.wait_committed().await.and_then(|()| committer.check_since(failures));
    points.reach("synced");
    result.map(|()| answer).map_err(|error| CallError::internal(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Poll;

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Router, middleware};
    use serde_json::json;
    use tempfile::TempDir;
    use tokio::runtime::Builder;
    use tower::ServiceExt;

    use super::*;
    use crate::server::params::NewParams;
    use crate::server::queue::{CheckedTask, Queue};
    use crate::server::{OfferedFeatures, Settings};

    /// Creates a queue with one type, in a temporary folder.
    fn queue() -> (SharedQueue, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(([127, 0, 0, 1], 0).into(), folder.path().join("tasks.db"));
        let mut queue = Queue::open(&settings).unwrap();
        queue.register("a".to_owned(), "1".to_owned(), json!({"type": "object"})).unwrap();
        (SharedQueue::new(queue, OfferedFeatures::NONE), folder)
    }

    fn create(queue: &SharedQueue, n: usize) {
        let params = json!({"n": n});
        let task = CheckedTask { task_type: "a".to_owned(), params: NewParams::of("a", &params), priority: 0 };
        queue.try_lock().unwrap().create(task).unwrap();
    }

    async fn change(State(queue): State<SharedQueue>) {
        create(&queue, fastrand::usize(..));
    }

    fn run(committer: &Arc<Committer>, calls: impl Future<Output = ()>) {
        let committer = Arc::clone(committer);
        Builder::new_current_thread().build().unwrap().block_on(async move {
            tokio::spawn(async move { committer.run().await });
            calls.await;
        });
    }

    /// Changes something by eight calls at once. Returns the number of syncs and of confirmed calls.
    fn eight_at_once(fail: bool) -> (usize, usize) {
        let (queue, _folder) = queue();
        let (made, syncs) = mpsc::channel();
        let committer = Arc::new(Committer::with(queue.clone(), move || {
            made.send(()).map_err(|error| error.to_string())?;
            if fail { Err("full".to_owned()) } else { Ok(()) }
        }));
        let mut confirmed = 0;
        run(&committer, async {
            let call = async |n| {
                create(&queue, n);
                committer.wait_committed().await
            };
            let mut calls: Vec<_> = (0..8).map(call).map(Box::pin).collect();
            // After the first poll, each waits for a sync.
            for call in &mut calls {
                assert!(std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await.is_pending());
            }
            for call in calls {
                confirmed += usize::from(call.await.is_ok());
            }
        });
        (syncs.try_iter().count(), confirmed)
    }

    #[test]
    fn concurrent_calls_share_a_sync() {
        assert_eq!(eight_at_once(false), (1, 8));
    }

    #[test]
    fn a_failed_sync_confirms_no_call() {
        assert_eq!(eight_at_once(true), (1, 0));
    }

    #[test]
    fn no_answer_is_sent_before_its_changes_are_on_disk() {
        let (queue, _folder) = queue();
        let committer = Arc::new(Committer::with(queue.clone(), || Err("full".to_owned())));
        let refuse = async |queue: State<SharedQueue>| {
            change(queue).await;
            StatusCode::NOT_FOUND
        };
        let router = Router::new().route("/", get(async || "read").post(change)).route("/no", post(refuse));
        let router =
            router.layer(middleware::from_fn_with_state(Arc::clone(&committer), sync_changes)).with_state(queue);
        run(&committer, async {
            for (method, path, status) in [("POST", "/", 500), ("GET", "/", 200), ("POST", "/no", 500)] {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                let answer = router.clone().oneshot(request).await.unwrap();
                assert_eq!(answer.status(), status, "{method} {path}");
            }
        });
    }

    #[test]
    fn a_call_whose_change_fails_before_it_ends_is_not_confirmed() {
        let (queue, _folder) = queue();
        let committer = Arc::new(Committer::with(queue.clone(), || Err("full".to_owned())));
        let (changed, written) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (has_changed, go_on) = (Arc::clone(&changed), Arc::clone(&written));
        let large = async move |queue: State<SharedQueue>| {
            change(queue).await;
            has_changed.notify_one();
            go_on.notified().await;
        };
        let router = Router::new().route("/", post(large));
        let router =
            router.layer(middleware::from_fn_with_state(Arc::clone(&committer), sync_changes)).with_state(queue);
        run(&committer, async {
            let request = Request::builder().method("POST").uri("/").body(Body::empty()).unwrap();
            let other = async {
                changed.notified().await;
                assert!(committer.wait_committed().await.is_err());
                written.notify_one();
            };
            let (answer, ()) = tokio::join!(router.oneshot(request), other);
            assert_eq!(answer.unwrap().status(), 500);
        });
    }

    #[test]
    fn a_call_that_reads_an_uncommitted_change_waits_for_the_disk() {
        let (queue, _folder) = queue();
        let committer = Arc::new(Committer::with(queue.clone(), || Err("full".to_owned())));
        run(&committer, async {
            assert!(committer.wait_committed().await.is_err(), "the type is not on disk yet");
            create(&queue, 1);
            let (one, other) = tokio::join!(committer.wait_committed(), committer.wait_committed());
            assert!(one.is_err() && other.is_err());
            assert_eq!(committer.wait_committed().await, Ok(()), "the failure was reported");
        });
    }
}
