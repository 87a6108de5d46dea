//! State shared between a request and its connection: the client's address, whether the request waits, and whether the
//! connection is to be broken on purpose or may be closed.

use parking_lot::{Mutex, MutexGuard};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;

/// How to break a connection instead of sending the next bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Break {
    /// Close it, as if the program ended.
    Close,
    /// Reset it, as if the machine lost it.
    Reset,
}

/// A connection, as seen by its requests.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionHandle(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    address: SocketAddr,
    broken: OnceLock<Break>,
    pauses: AtomicUsize,
    stage: Mutex<Stage>,
    /// Since when the current request may be dropped to make room for another connection.
    marked_evictable: Mutex<Option<Instant>>,
    /// Number of requests and answers that have started.
    transfers: AtomicU64,
    is_trusted: AtomicBool,
    /// Notified when the connection becomes idle.
    idle: Arc<Notify>,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Waiting for the head of a request since then.
    Idle(Instant),
    /// A request is being received and processed.
    Processing,
    /// The answer is being sent.
    Responding,
}

impl ConnectionHandle {
    /// Creates the handle of a connection from `address`, which notifies `idle` when it becomes idle.
    pub(super) fn new(address: SocketAddr, idle: Arc<Notify>) -> Self {
        Self(Arc::new(ConnectionState {
            address,
            broken: OnceLock::new(),
            pauses: AtomicUsize::new(0),
            stage: Mutex::new(Stage::Idle(Instant::now())),
            marked_evictable: Mutex::default(),
            transfers: AtomicU64::new(0),
            is_trusted: AtomicBool::new(false),
            idle,
        }))
    }

    /// Returns the client's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Breaks the connection when the next bytes are about to be sent.
    pub(crate) fn break_off(&self, how: Break) {
        // Only the first call counts.
        let _ = self.0.broken.set(how);
    }

    pub(super) fn broken(&self) -> Option<Break> {
        self.0.broken.get().copied()
    }

    /// Suspends the time-out of the connection until the guard is dropped.
    pub(crate) fn pause_timeout(&self) -> TimeoutPause {
        self.0.pauses.fetch_add(1, Ordering::Relaxed);
        TimeoutPause(self.clone())
    }

    pub(super) fn is_paused(&self) -> bool {
        self.0.pauses.load(Ordering::Relaxed) > 0
    }

    /// Marks the start of a request, which ends when the guard is dropped.
    pub(super) fn begin_request(&self) -> ActiveRequest {
        *self.marked_evictable() = None;
        *self.stage() = Stage::Processing;
        self.0.transfers.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(self.clone())
    }

    /// Returns the number of requests and answers that have started.
    pub(super) fn transfers(&self) -> u64 {
        self.0.transfers.load(Ordering::Relaxed)
    }

    /// Marks the connection as idle unless a request is being processed. Called when there is nothing to send or receive.
    /// Returns whether it is idle.
    pub(super) fn mark_idle(&self) -> bool {
        let mut stage = self.stage();
        match *stage {
            Stage::Idle(_) => true,
            Stage::Processing => false,
            Stage::Responding => {
                *stage = Stage::Idle(Instant::now());
                self.0.idle.notify_one();
                true
            }
        }
    }

    /// Allows dropping the current request to make room, since its client is not authenticated.
    pub(crate) fn mark_evictable(&self) {
        self.marked_evictable().get_or_insert_with(Instant::now);
        self.0.idle.notify_one();
    }

    /// Whether no request is being processed and no answer sent.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.stage(), Stage::Idle(_))
    }

    /// Returns since when it may be closed to make room, if it may.
    pub(super) fn evictable_since(&self) -> Option<Instant> {
        if let Stage::Idle(since) = *self.stage() { Some(since) } else { *self.marked_evictable() }
    }

    /// Records that the client is authenticated, or needs no key.
    pub(crate) fn trust(&self) {
        self.0.is_trusted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.0.is_trusted.load(Ordering::Relaxed)
    }

    fn marked_evictable(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.marked_evictable.lock()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.stage.lock()
    }
}

/// Marks a request as being processed until it is dropped.
pub(super) struct ActiveRequest(ConnectionHandle);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        *self.0.stage() = Stage::Responding;
        self.0.0.transfers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Suspends the time-out of a connection until it is dropped.
pub(crate) struct TimeoutPause(ConnectionHandle);

impl Drop for TimeoutPause {
    fn drop(&mut self) {
        self.0.0.pauses.fetch_sub(1, Ordering::Relaxed);
    }
}
