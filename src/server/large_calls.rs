//! Runs large calls in other threads, so that megabytes of JSON do not block other calls.
//!
//! The whole call moves to another thread, so the calls of a connection keep their order: the HTTP library reads the next
//! request after the previous one is answered.

use std::panic;
use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse, Response};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// A call is large if its body or its answer is longer than this, in bytes.
pub(super) const LARGE: usize = 64 * 1024;
/// Number of threads for large calls.
const THREADS: usize = 2;
/// Maximum number of large requests that are parsed at the same time, including those waiting for a schema check.
const MAX_CONCURRENT: usize = 4;

/// The threads for large calls, started with the first one.
#[derive(Clone)]
pub(super) struct LargeCalls {
    threads: Arc<OnceLock<Threads>>,
    permits: Arc<Semaphore>,
}

impl Default for LargeCalls {
    fn default() -> Self {
        Self { threads: Arc::default(), permits: Arc::new(Semaphore::new(MAX_CONCURRENT)) }
    }
}

struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // They end by themselves. An async thread must not wait for them.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl LargeCalls {
    /// Waits until a large request may be parsed. It counts until the permit is dropped.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Runs a call in the large-call threads. Dropping the future aborts the call at its next await point.
    pub(super) async fn run<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        let Some(threads) = self.threads() else {
            // Without threads, other calls have to wait.
            return call.await;
        };
        let mut running = AbortOnDrop(threads.spawn(call));
        match (&mut running.0).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panicked) => panic::resume_unwind(panicked),
                // The threads have ended because the server is stopping.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Encodes an answer, in the large-call threads if it is long.
    pub(super) async fn answer(&self, length: usize, answer: impl IntoResponse + Send + 'static) -> Response {
        if length <= LARGE {
            return answer.into_response();
        }
        self.run(async move { answer.into_response() }).await
    }

    fn threads(&self) -> Option<Handle> {
        if self.threads.get().is_none() {
            let mut builder = Builder::new_multi_thread();
            let runtime = builder.worker_threads(THREADS).thread_name("large calls").enable_time().build().ok()?;
            // If another call was faster, use its threads.
            let _ = self.threads.set(Threads(Some(runtime)));
        }
        self.threads.get()?.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

/// A running call that is aborted when dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
