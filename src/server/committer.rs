//! Commits of what calls have changed, and syncs of it to disk, shared by calls.
//!
//! A commit is only written to the log: it survives the death of the process, not a power cut. So a call is answered
//! after a sync of the log. Calls that come at about the same time, or while a sync runs, share one.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify, OwnedMutexGuard, oneshot};
use tokio::task::spawn_blocking;

use super::envelope::CallError;
use super::error::ServerError;
use super::queue::{Queue, SharedQueue};
use super::storage::Disk;

/// What commits the changes of a queue.
pub(super) struct Committer {
    queue: SharedQueue,
    disk: Arc<Disk>,
    sync: Arc<dyn Fn() -> Written + Send + Sync>,
    /// Calls that are to be answered when what the queue has changed by now is on disk.
    waiting: Mutex<Vec<oneshot::Sender<Written>>>,
    called: Notify,
    /// The changes that were written, or that calls were told of that they were not.
    known: AtomicU64,
    /// The number of writes that failed, and why the last one did.
    failed: Mutex<(u64, String)>,
}

/// Why it could not be, for a person.
type Written = Result<(), String>;

impl Committer {
    pub(super) fn new(queue: SharedQueue) -> Self {
        let disk = Arc::clone(&queue.disk);
        Self::with(queue, move || disk.sync())
    }

    fn with(queue: SharedQueue, sync: impl Fn() -> Written + Send + Sync + 'static) -> Self {
        let disk = Arc::clone(&queue.disk);
        let (waiting, called) = (Mutex::default(), Notify::new());
        let (known, failed) = (AtomicU64::new(0), Mutex::default());
        Self { queue, disk, sync: Arc::new(sync), waiting, called, known, failed }
    }

    /// Whether the database is where it was when it was opened.
    pub(super) fn check_in_place(&self) -> Result<(), ServerError> {
        self.disk.check_in_place()
    }

    /// Returns the number of writes that failed so far.
    fn failures(&self) -> u64 {
        self.failed.lock().0
    }

    /// Fails if a write failed after there were `failures`: it may have been of a change that did not wait for it.
    fn check_since(&self, failures: u64) -> Written {
        let (count, why) = &*self.failed.lock();
        if *count == failures { Ok(()) } else { Err(why.clone()) }
    }

    /// Returns when all that was changed before is on disk, or was written in vain while nobody waited for it: see
    /// [`Self::check_since`].
    pub(super) async fn catch_up(&self) -> Written {
        // Who has the queue may be changing it.
        let is_free = |queue: MutexGuard<'_, Queue>| queue.changes() == self.known.load(Ordering::SeqCst);
        if self.queue.try_lock().is_some_and(is_free) {
            return Ok(());
        }
        let (sender, written) = oneshot::channel();
        self.waiting.lock().push(sender);
        self.called.notify_one();
        written.await.unwrap_or_else(|_| Err("the TaskManager has ended".to_owned()))
    }

    /// Writes what calls change, for as long as the server runs.
    pub(super) async fn run(&self) {
        loop {
            self.called.notified().await;
            // Nobody changes anything from here to the commit.
            let queue = self.queue.lock_owned().await;
            let waiting = mem::take(&mut *self.waiting.lock());
            // A short one by this thread, whose other calls wait meanwhile: handing it to another thread and back takes as
            // long.
            let is_long = queue.is_long();
            let write = writing(queue, self.known.load(Ordering::SeqCst), Arc::clone(&self.sync));
            let written = if is_long { spawn_blocking(write).await } else { Ok(write()) };
            // Where it panicked, all that wait are told that it has ended.
            let Ok((changes, written)) = written else { continue };
            if let Err(why) = &written {
                let failed = &mut *self.failed.lock();
                *failed = (failed.0 + 1, why.clone());
            }
            self.known.store(changes, Ordering::SeqCst);
            for call in waiting {
                // Its client may have left.
                let _ = call.send(written.clone());
            }
        }
    }
}

/// Commits and syncs what was changed since `known`; how many changes that were, together with all before, and whether
/// they are on disk.
fn writing(
    mut queue: OwnedMutexGuard<Queue>,
    known: u64,
    sync: Arc<dyn Fn() -> Written + Send + Sync>,
) -> impl FnOnce() -> (u64, Written) {
    move || {
        let (changes, committed) = (queue.changes(), queue.commit());
        drop(queue);
        if changes == known {
            return (changes, committed);
        }
        (changes, committed.and_then(|()| sync()))
    }
}

/// Has on disk what an answer may tell of, before it leaves. That includes what other calls have changed: a worker that is
/// told that its result has arrived does not send it again.
pub(super) async fn sync_changes(
    State(committer): State<Arc<Committer>>,
    request: Request,
    next: Next,
) -> Result<Response, CallError> {
    let failures = committer.failures();
    let answer = next.run(request).await;
    let written = committer.catch_up().await.and_then(|()| committer.check_since(failures));
    written.map(|()| answer).map_err(|error| CallError::internal(&error))
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

    /// A queue with a type, in a folder of its own.
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

    /// Has eight calls change something; how many syncs that takes, and how many of the calls are confirmed.
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
                committer.catch_up().await
            };
            let mut calls: Vec<_> = (0..8).map(call).map(Box::pin).collect();
            // Each has asked when it was polled once.
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
    fn calls_that_come_at_the_same_time_share_a_sync() {
        assert_eq!(eight_at_once(false), (1, 8));
    }

    #[test]
    fn nobody_relies_on_a_sync_that_failed() {
        assert_eq!(eight_at_once(true), (1, 0));
    }

    #[test]
    fn nothing_is_answered_that_is_not_on_disk() {
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
    fn a_call_that_goes_on_while_its_change_fails_is_not_confirmed() {
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
                assert!(committer.catch_up().await.is_err());
                written.notify_one();
            };
            let (answer, ()) = tokio::join!(router.oneshot(request), other);
            assert_eq!(answer.unwrap().status(), 500);
        });
    }

    #[test]
    fn who_reads_what_another_has_changed_waits_for_the_disk_too() {
        let (queue, _folder) = queue();
        let committer = Arc::new(Committer::with(queue.clone(), || Err("full".to_owned())));
        run(&committer, async {
            assert!(committer.catch_up().await.is_err(), "the type is not on disk yet");
            create(&queue, 1);
            let (one, other) = tokio::join!(committer.catch_up(), committer.catch_up());
            assert!(one.is_err() && other.is_err());
            assert_eq!(committer.catch_up().await, Ok(()), "all that there is to tell was told");
        });
    }
}
