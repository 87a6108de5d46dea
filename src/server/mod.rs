//! The embedded TaskManager: the documented API on one SQLite file, and a web page.
//!
//! It runs in a thread with a runtime; large calls run in threads of a second one. It logs rejected keys and changes made on the page; all other errors are only
//! in the answers.

mod access;
mod batches;
mod body;
mod committer;
mod console;
mod envelope;
mod error;
mod faults;
mod features;
mod key_limiter;
mod large_calls;
mod long_poll;
mod long_poll_queue;
mod memory_budget;
mod params;
mod published;
mod queue;
mod routes;
mod storage;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower::ServiceExt;

use access::Access;
use committer::Committer;
use envelope::CallError;
pub use error::ServerError;
pub use faults::Faults;
pub use features::OfferedFeatures;
use queue::{Queue, SharedQueue};
use storage::{Disk, Time};

use crate::clock::{Moment, Timestamp, surely_past};
use crate::file_changes::WatchedFile;
use crate::http::{self, ConnectionLimits, HttpListener, RunningServer};
use crate::resources;

/// Minimum length of the key if other machines can reach the server, in characters.
const MIN_KEY_LENGTH: usize = 16;

/// Maximum number of connections: a few thousand workers, each with a long poll and reports.
const MAX_CONNECTIONS: u64 = 4096;

/// Maximum number of tasks that are pruned at once.
const PRUNE_STEP: usize = 200;
/// Pause between two steps, for calls.
const PRUNE_PAUSE: Duration = Duration::from_millis(10);
/// Time between two rounds of pruning.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Returns the limits of connections. They use at most three quarters of the files that the process may open: the database
/// and the handlers of a worker with `--embedded` need some.
fn limits() -> ConnectionLimits {
    let most = resources::open_files_limit().map_or(MAX_CONNECTIONS, |files| MAX_CONNECTIONS.min(files - files / 4));
    ConnectionLimits {
        client_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(3),
        max_connections: usize::try_from(most).unwrap_or(usize::MAX),
    }
}

/// Settings of an embedded TaskManager.
#[derive(Clone)]
pub struct Settings {
    /// The address to listen on. Port 0 means any free port.
    pub listen: SocketAddr,
    /// The SQLite file with types and tasks. It is created, with its parent folders, if it does not exist.
    pub database: PathBuf,
    /// The key that callers must send; at least 16 characters if other machines can reach `listen`. Without a key, only
    /// programs on this machine have access.
    pub api_key: Option<String>,
    /// Time until a claim expires. By default 300 seconds, or 60 seconds if its worker renews it.
    pub claim_timeout: Option<Duration>,
    /// Number of attempts before a task stays failed.
    pub max_attempts: u32,
    /// How long completed and failed tasks are kept; `None` means forever.
    pub retention: Option<Duration>,
    /// Faults to inject, to test clients.
    pub faults: Faults,
}

impl Settings {
    /// Creates settings with the API's defaults: no key, the default time of claims, 3 attempts, no retention, no faults.
    #[must_use]
    pub fn new(listen: SocketAddr, database: PathBuf) -> Self {
        Self {
            listen,
            database,
            api_key: None,
            claim_timeout: None,
            max_attempts: 3,
            retention: None,
            faults: Faults::default(),
        }
    }
}

/// A running embedded TaskManager. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    disk: Arc<Disk>,
    _running: RunningServer,
}

impl Server {
    /// Starts a server, which is listening when this returns.
    pub fn start(settings: &Settings) -> Result<Self, ServerError> {
        let key = settings.api_key.as_deref().filter(|key| !key.is_empty());
        check_key(key, settings.listen)?;
        let listener = HttpListener::bind(settings.listen)?;
        let address = listener.address();
        let queue = SharedQueue::new(Queue::open(settings)?, settings.faults.features());
        let committer = Arc::new(Committer::new(queue.clone()));
        let disk = Arc::clone(&queue.disk);
        let long_polls = Arc::clone(&queue.long_polls);
        let pruning = settings.retention.map(|retention| prune(queue.clone(), Arc::clone(&committer), retention));
        let router = router(settings, queue, Arc::clone(&committer), address.port());
        let run = |listener, stopped: oneshot::Receiver<()>| async move {
            tokio::spawn(async move { committer.run().await });
            if let Some(pruning) = pruning {
                tokio::spawn(pruning);
            }
            let stopped = async move {
                let _ = stopped.await;
                long_polls.close();
            };
            http::serve(listener, router, limits(), stopped).await;
        };
        let running = listener.start("taskmanager", run)?;
        Ok(Self { address, disk, _running: running })
    }

    /// Checks that its database was not moved or deleted. If it was, all changes fail until a restart.
    pub fn check_in_place(&self) -> Result<(), ServerError> {
        self.disk.check_in_place()
    }

    /// Returns the files that must stay in place.
    pub(crate) fn files(&self) -> Vec<WatchedFile> {
        self.disk.files()
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the API's URL for clients on this machine: `http://127.0.0.1:PORT/api`.
    #[must_use]
    pub fn api_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}/api", SocketAddr::new(ip, self.address.port()))
    }

    /// Returns the web page's URL for browsers on this machine.
    #[must_use]
    pub fn page_url(&self) -> String {
        self.api_url().trim_end_matches("api").to_owned()
    }

    /// Stops the server after waiting at most a few seconds for active requests, and closes the file.
    pub fn stop(self) {
        drop(self);
    }
}

/// Rejects a missing or short key if other machines can reach the server.
fn check_key(key: Option<&str>, listen: SocketAddr) -> Result<(), ServerError> {
    match key {
        _ if listen.ip().to_canonical().is_loopback() => Ok(()),
        None => Err(ServerError::KeyRequired(listen)),
        Some(key) if key.chars().count() < MIN_KEY_LENGTH => Err(ServerError::KeyTooShort(listen)),
        Some(_) => Ok(()),
    }
}

/// The API under `/api`, with its faults, and the page everywhere else.
fn router(settings: &Settings, queue: SharedQueue, committer: Arc<Committer>, port: u16) -> Router {
    let key = settings.api_key.as_deref().filter(|key| !key.is_empty());
    let access = Arc::new(Access::new(key));
    let api = settings.faults.wrap(routes::router(queue.clone(), Arc::clone(&committer), Arc::clone(&access)));
    let answers = queue.answers.clone();
    let page = console::router(queue, committer, Arc::clone(&access), port);
    // Not by routes: what is caught from a path would be an argument of the calls as well.
    Router::new().fallback(async move |request: Request| {
        let path = request.uri().path();
        let is_call = path == "/api" || path.starts_with("/api/");
        let Ok(answer) = if is_call {
            api.oneshot(access::drop_unauthorized_body(&access, request).await).await
        } else {
            page.oneshot(request).await
        };
        let overloaded = || if is_call { CallError::overloaded().into_response() } else { console::overloaded() };
        answers.reserve_answer(answer).await.unwrap_or_else(overloaded)
    })
}

/// Removes tasks that ended longer ago than `retention`, for as long as the server runs. `committer` commits what is removed.
async fn prune(queue: SharedQueue, committer: Arc<Committer>, retention: Duration) {
    let start = Moment::from(Timestamp::now());
    loop {
        // An error is reported to callers by their own calls; here, the next iteration tries again.
        let more = queue
            .lock()
            .await
            .remove_ended(Time::from(surely_past(start, Timestamp::now())).earlier_by(retention), PRUNE_STEP)
            .unwrap_or(false);
        let _ = committer.wait_committed().await;
        sleep(if more { PRUNE_PAUSE } else { PRUNE_EVERY.min(retention).max(PRUNE_PAUSE) }).await;
    }
}
