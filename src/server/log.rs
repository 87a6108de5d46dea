//! Syncs of SQLite's write-ahead log to disk, shared by calls.
//!
//! A commit is only written to the log: it survives the death of the process, not a power cut. So what a call has
//! changed is confirmed after a sync of the log. Calls that come at about the same time share one, and others are worked
//! while it runs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::envelope::Failure;

/// The log of an open database.
pub(super) struct Log {
    file: Arc<File>,
    /// How many syncs were asked for.
    asked: AtomicU64,
    /// How many of those are done. Whoever holds it syncs, also for those who ask until it starts.
    done: Mutex<u64>,
}

impl Log {
    /// The log of an open `database`: it lies beside it, under this name, for as long as it is open.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let mut path = database.canonicalize()?.into_os_string();
        path.push("-wal");
        Ok(Self::of(File::options().read(true).write(true).open(path)?))
    }

    fn of(file: File) -> Self {
        Self { file: Arc::new(file), asked: AtomicU64::new(0), done: Mutex::new(0) }
    }

    /// Returns when all that was committed before is on disk.
    async fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        self.join(move || file.sync_data()).await
    }

    /// Returns after a sync that began after this call: one that somebody else makes, or one that it makes itself.
    async fn join(&self, sync: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.done.lock().await;
        if *done < number {
            let asked = self.asked.load(Ordering::SeqCst);
            spawn_blocking(sync).await.map_err(io::Error::other)??;
            *done = asked;
        }
        Ok(())
    }
}

/// Has what a call has changed on disk before its answer leaves.
pub(super) async fn sync_changes(
    State(log): State<Arc<Log>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let changes = request.method() != Method::GET;
    let answer = next.run(request).await;
    let done = answer.status().is_success() || answer.status().is_redirection();
    if !changes || !done {
        return Ok(answer);
    }
    log.sync().await.map(|()| answer).map_err(|error| Failure::internal(&error))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::task::Poll;

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Router, middleware};
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;
    use tower::ServiceExt;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    /// Lets eight calls ask while a sync runs; how many syncs they made, and how many of them ended well.
    fn eight_at_once(fail: bool) -> (usize, usize) {
        let log = Log::of(tempfile::tempfile().unwrap());
        let (made, count) = mpsc::channel();
        let ended_well = runtime().block_on(async {
            let (let_go, held) = mpsc::channel();
            let (begun, first) = oneshot::channel();
            let sync = move || {
                begun.send(()).unwrap();
                held.recv().map_err(io::Error::other)
            };
            let eight = async {
                first.await.unwrap();
                let ask = |_| {
                    let made = made.clone();
                    log.join(move || {
                        made.send(()).unwrap();
                        if fail { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
                    })
                };
                // Each has asked when it was polled once.
                let mut asking: Vec<_> = (0..8).map(ask).map(Box::pin).collect();
                for ask in &mut asking {
                    assert!(std::future::poll_fn(|context| Poll::Ready(ask.as_mut().poll(context))).await.is_pending());
                }
                let_go.send(()).unwrap();
                let mut ended_well = 0;
                for ask in asking {
                    ended_well += usize::from(ask.await.is_ok());
                }
                ended_well
            };
            let (first, ended_well) = tokio::join!(log.join(sync), eight);
            first.unwrap();
            ended_well
        });
        drop(made);
        (count.iter().count(), ended_well)
    }

    #[test]
    fn calls_that_ask_while_a_sync_runs_share_the_next() {
        assert_eq!(eight_at_once(false), (1, 8));
    }

    #[test]
    fn nobody_relies_on_a_sync_that_failed() {
        assert_eq!(eight_at_once(true), (8, 0));
    }

    #[test]
    fn a_change_is_not_confirmed_where_its_sync_fails() {
        // A pipe takes no sync.
        let (_, writer) = io::pipe().unwrap();
        let log = Arc::new(Log::of(File::from(OwnedFd::from(writer))));
        let router = Router::new().route("/", get(async || "read").post(async || "written"));
        let router: Router = router.route("/no", post(async || StatusCode::NOT_FOUND));
        let router = router.route("/moved", post(async || StatusCode::SEE_OTHER));
        let router = router.layer(middleware::from_fn_with_state(log, sync_changes));
        for (method, path, status) in
            [("GET", "/", 200), ("POST", "/", 500), ("POST", "/moved", 500), ("POST", "/no", 404)]
        {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = runtime().block_on(router.clone().oneshot(request)).unwrap();
            assert_eq!(answer.status(), status, "{method} {path}");
        }
    }
}
