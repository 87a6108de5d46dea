//! The embedded TaskManager: the documented contract of the API, in one SQLite file, and a page for people.
//!
//! It runs in a thread of its own, on a runtime of its own. It logs who was refused and what was changed by hand; what
//! else goes wrong is in the answer to whoever called.

mod access;
mod body;
mod committer;
mod console;
mod envelope;
mod error;
mod faults;
mod guesses;
mod large;
mod long_poll;
mod long_poll_queue;
mod params;
mod published;
mod queue;
mod room;
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
use envelope::Failure;
pub use error::ServerError;
pub use faults::Faults;
use queue::{Queue, Shared};
use storage::{Disk, Time};

use crate::clock::{Moment, Timestamp, surely_past};
use crate::http::{self, Limits, Listener, RunningServer};
use crate::resources;

/// The least characters of a key that protects what others can reach.
const SHORTEST_KEY: usize = 16;

/// How many clients may be connected: a few thousand workers, each of which waits for tasks and reports at once.
const MOST_CONNECTIONS: u64 = 4096;

/// How many tasks are pruned at once, at most.
const PRUNE_STEP: usize = 200;
/// What is left to calls between two steps.
const PRUNE_PAUSE: Duration = Duration::from_millis(10);
/// How soon a task is pruned that may be.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// A quarter of the files that the system lends this process is left for others: the database, and handlers beside an
/// embedded TaskManager.
fn limits() -> Limits {
    let most = resources::most_open_files().map_or(MOST_CONNECTIONS, |files| MOST_CONNECTIONS.min(files - files / 4));
    Limits {
        client_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(3),
        max_connections: usize::try_from(most).unwrap_or(usize::MAX),
    }
}

/// What an embedded TaskManager is started with.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens. Port 0: any free one.
    pub listen: SocketAddr,
    /// The SQLite file with its types and tasks. It is created, with the folders above it, where it is missing.
    pub database: PathBuf,
    /// The key that callers must send; at least 16 characters where other machines can reach `listen`. None, or an empty
    /// one: programs on this machine need none, others get none.
    pub api_key: Option<String>,
    /// How long a claim lasts before the task may be handed out again.
    pub claim_timeout: Duration,
    /// How often a task may fail before it stays failed.
    pub max_attempts: u32,
    /// How long tasks are kept that have completed or failed. None: for ever.
    pub keep: Option<Duration>,
    /// What goes wrong on purpose. Nothing, unless clients are to be tried.
    pub faults: Faults,
}

impl Settings {
    /// Settings with the API's defaults: no key, claims of 300 seconds, 3 attempts, all kept, no faults.
    #[must_use]
    pub fn new(listen: SocketAddr, database: PathBuf) -> Self {
        Self {
            listen,
            database,
            api_key: None,
            claim_timeout: Duration::from_secs(300),
            max_attempts: 3,
            keep: None,
            faults: Faults::default(),
        }
    }
}

/// An embedded TaskManager that runs. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    disk: Arc<Disk>,
    _running: RunningServer,
}

impl Server {
    /// Starts one; it listens when this returns.
    pub fn start(settings: &Settings) -> Result<Self, ServerError> {
        let key = settings.api_key.as_deref().filter(|key| !key.is_empty());
        check_key(key, settings.listen)?;
        let listener = Listener::bind(settings.listen)?;
        let address = listener.address();
        let queue = Shared::new(Queue::open(settings)?);
        let committer = Arc::new(Committer::new(queue.clone()));
        let disk = Arc::clone(&queue.disk);
        let long_polls = Arc::clone(&queue.long_polls);
        let pruning = settings.keep.map(|keep| prune(queue.clone(), Arc::clone(&committer), keep));
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

    /// Whether its database is still where it was. If not, it refuses every change, and is to be started again.
    pub fn check_in_place(&self) -> Result<(), ServerError> {
        self.disk.check_in_place()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients on this machine call it by: `http://127.0.0.1:PORT/api`.
    #[must_use]
    pub fn api_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}/api", SocketAddr::new(ip, self.address.port()))
    }

    /// Its page for people, as a browser on this machine calls it.
    #[must_use]
    pub fn page_url(&self) -> String {
        self.api_url().trim_end_matches("api").to_owned()
    }

    /// Stops it: requests in flight are finished, for a few seconds at most, and the file is closed.
    pub fn stop(self) {
        drop(self);
    }
}

/// Refuses a key that others could guess.
fn check_key(key: Option<&str>, listen: SocketAddr) -> Result<(), ServerError> {
    match key {
        _ if listen.ip().to_canonical().is_loopback() => Ok(()),
        None => Err(ServerError::KeyRequired(listen)),
        Some(key) if key.chars().count() < SHORTEST_KEY => Err(ServerError::KeyTooShort(listen)),
        Some(_) => Ok(()),
    }
}

/// The API under `/api`, with its faults, and the page everywhere else.
fn router(settings: &Settings, queue: Shared, committer: Arc<Committer>, port: u16) -> Router {
    let key = settings.api_key.as_deref().filter(|key| !key.is_empty());
    let access = Arc::new(Access::new(key));
    let api = settings.faults.over(routes::router(queue.clone(), Arc::clone(&committer), Arc::clone(&access)));
    let answers = queue.answers.clone();
    let page = console::router(queue, committer, Arc::clone(&access), port);
    // Not by routes: what is caught from a path would be an argument of the calls as well.
    Router::new().fallback(async move |request: Request| {
        let path = request.uri().path();
        let is_call = path == "/api" || path.starts_with("/api/");
        let Ok(answer) = if is_call {
            api.oneshot(access::spare_body(&access, request).await).await
        } else {
            page.oneshot(request).await
        };
        let no_room = || if is_call { Failure::no_room().into_response() } else { console::no_room() };
        answers.hold_answer(answer).await.unwrap_or_else(no_room)
    })
}

/// Removes tasks that ended longer ago than `keep`, for as long as the server runs. `committer` commits what is removed.
async fn prune(queue: Shared, committer: Arc<Committer>, keep: Duration) {
    let start = Moment::from(Timestamp::now());
    loop {
        // Nobody listens to an error here. Whoever calls hears of it, and the next look is the next try.
        let more = queue
            .lock()
            .await
            .remove_ended(Time::from(surely_past(start, Timestamp::now())).earlier_by(keep), PRUNE_STEP)
            .unwrap_or(false);
        let _ = committer.catch_up().await;
        sleep(if more { PRUNE_PAUSE } else { PRUNE_EVERY.min(keep).max(PRUNE_PAUSE) }).await;
    }
}
