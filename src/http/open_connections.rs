//! The open connections, up to a maximum. A new one may replace an idle one.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connection_handle::ConnectionHandle;

/// The open connections.
pub(super) struct OpenConnections {
    max: usize,
    open: Mutex<ConnectionTable>,
    /// Notified when a connection ends or becomes idle. Only the accept loop waits for it.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct ConnectionTable {
    last_number: u64,
    all: HashMap<u64, (ConnectionHandle, AbortHandle)>,
}

impl OpenConnections {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default(), changed: Arc::default() })
    }

    /// Returns what a connection notifies when it becomes idle.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Spawns the task that serves a connection.
    pub(super) fn start(
        self: &Arc<Self>,
        handle: ConnectionHandle,
        serving: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut open = self.lock();
        open.last_number += 1;
        let guard = ConnectionGuard { connections: Arc::clone(self), number: open.last_number };
        let task = tokio::spawn(async move {
            let _guard = guard;
            serving.await;
        });
        let number = open.last_number;
        open.all.insert(number, (handle, task.abort_handle()));
    }

    /// Waits until there is room for one more, and closes an idle connection for it if necessary.
    pub(super) async fn make_room(&self) {
        while self.lock().all.len() >= self.max && !self.evict_one() {
            self.changed.notified().await;
        }
    }

    /// Closes the connection that has been idle or evictable for longest, authenticated ones last. Returns whether there
    /// was one.
    pub(super) fn evict_one(&self) -> bool {
        let mut open = self.lock();
        let idle =
            open.all.iter().filter_map(|(number, (it, _))| Some((it.is_trusted(), it.evictable_since()?, *number)));
        let Some((.., number)) = idle.min() else { return false };
        if let Some((_, task)) = open.all.remove(&number) {
            task.abort();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.open.lock()
    }
}

/// Removes a connection when it is dropped.
struct ConnectionGuard {
    connections: Arc<OpenConnections>,
    number: u64,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.lock().all.remove(&self.number);
        self.connections.changed.notify_one();
    }
}
