//! The connections that are open: so many at most. The place of one that is idle is given to who comes next.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::handle::ConnectionHandle;

/// The connections that are open.
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// One has ended, or become idle. Only the one who accepts waits for it.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Open {
    last: u64,
    all: HashMap<u64, (ConnectionHandle, AbortHandle)>,
}

impl Connections {
    /// None yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), changed: Arc::default() })
    }

    /// What a new connection tells when it becomes idle.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Starts the conversation on a connection.
    pub(super) fn start(
        self: &Arc<Self>,
        handle: ConnectionHandle,
        conversation: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut open = self.lock();
        open.last += 1;
        let place = Place { connections: Arc::clone(self), number: open.last };
        let task = tokio::spawn(async move {
            let _place = place;
            conversation.await;
        });
        let number = open.last;
        open.all.insert(number, (handle, task.abort_handle()));
    }

    /// Returns when there is room for one more. A connection that is idle is closed for it.
    pub(super) async fn make_room(&self) {
        while self.lock().all.len() >= self.most && !self.close_idlest() {
            self.changed.notified().await;
        }
    }

    /// Closes the connection that has been idle, or given up, for longest; one whose client may call only after all others.
    /// Whether there was one.
    pub(super) fn close_idlest(&self) -> bool {
        let mut open = self.lock();
        let idle =
            open.all.iter().filter_map(|(number, (it, _))| Some((it.is_trusted(), it.closable_since()?, *number)));
        let Some((.., number)) = idle.min() else { return false };
        if let Some((_, task)) = open.all.remove(&number) {
            task.abort();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

/// The place of a connection, which is free when this is dropped.
struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().all.remove(&self.number);
        self.connections.changed.notify_one();
    }
}
