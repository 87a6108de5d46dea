//! Large calls, worked on beside the thread that serves: megabytes of JSON take a while to read, to store and to write,
//! and others are answered meanwhile.
//!
//! The call moves to another thread whole. So the calls of one connection keep their order, as the HTTP library asks for
//! the next one when the one before is answered.

use std::panic;
use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse, Response};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// The length in bytes, of a body or of an answer, beyond which a call is large.
pub(super) const LARGE: usize = 64 * 1024;
/// The large calls that make progress at the same time.
const THREADS: usize = 2;
/// The large requests whose values are in memory, those included that wait for the check of their params.
const AT_ONCE: usize = 4;

/// The threads for large calls. They start with the first one.
#[derive(Clone)]
pub(super) struct LargeCalls {
    threads: Arc<OnceLock<Threads>>,
    turns: Arc<Semaphore>,
}

impl Default for LargeCalls {
    fn default() -> Self {
        Self { threads: Arc::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // They end by themselves. To wait for them is not allowed to who serves.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl LargeCalls {
    /// Returns when a large request may be read into values. Its turn lasts until what is returned is dropped.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Works on a call beside the thread that serves. Who drops this ends the work where it waits next.
    pub(super) async fn run<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        let Some(threads) = self.threads() else {
            // Where the system has no threads to lend, others have to wait.
            return call.await;
        };
        let mut running = Running(threads.spawn(call));
        match (&mut running.0).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panicked) => panic::resume_unwind(panicked),
                // The threads have ended, and so does the server.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Makes an answer, beside the thread that serves where it is long.
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
            // Where another call was faster, its threads it is.
            let _ = self.threads.set(Threads(Some(runtime)));
        }
        self.threads.get()?.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

/// A call that is worked on.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
