//! Handlers that read YouTube through its Data API, version 3, with a daily quota and a cache of videos that all workers
//! with the same results file share.
//!
//! Each task has a session. Its calls are charged to the [`Ledger`], and their answers become records.

mod address;
mod api;
mod cache;
mod calls;
mod failure;
mod ledger;
mod params;
mod quota;
mod records;
mod run;
mod session;
mod subtitles;
mod text;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use self::api::{Api, ApiError};
use self::calls::SEARCH_UNITS;
use self::failure::{ApiFailure, FailureKind};
use self::params::Request;
use self::run::TaskRun;
use self::session::{ApiSession, TaskError};
use crate::handler::{Handler, Redactor, Run};
use crate::shutdown::CancelToken;
use crate::task::{Claim, ErrorType, Outcome};

pub use ledger::Ledger;
#[cfg(feature = "internals")]
pub use ledger::Spent;
pub(crate) use ledger::{QuotaEvent, QuotaListener, SharedLedger};
pub use quota::Budget;

/// The names of the handlers.
pub(crate) const NAMES: [&str; 3] = ["youtube.video", "youtube.search", "youtube.channel"];

/// The oldest video on YouTube, used to check a key.
const ANY_VIDEO: &str = "jNQXAC9IVRw";

/// Settings of the handlers.
#[derive(Clone)]
pub struct Settings {
    /// The URL of the API, without a slash at the end.
    pub url: String,
    /// The API key. It is never shown.
    pub key: Option<String>,
    /// The quota and the cache; `None` disables both.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Whether to fetch subtitles with `yt-dlp`.
    pub subtitles: bool,
}

/// Returns the handler called `name`, if it is one of `NAMES`.
#[must_use]
pub fn handler(name: &str, settings: Settings) -> Option<Arc<dyn Handler>> {
    let kind = Kind::ALL.into_iter().zip(NAMES).find(|(_, its_name)| *its_name == name)?.0;
    let redactor = Redactor::new(settings.key.as_deref());
    let api = Api::new(&settings.url, settings.key.as_deref());
    Some(Arc::new(YouTubeHandler { kind, api, redactor, settings }))
}

/// Returns the JSON Schema of the params that the handler called `name` takes.
pub(crate) fn schema(name: &str) -> Option<Value> {
    let text = match name {
        "youtube.video" => include_str!("../../schemas/youtube.video.json"),
        "youtube.search" => include_str!("../../schemas/youtube.search.json"),
        "youtube.channel" => include_str!("../../schemas/youtube.channel.json"),
        _ => return None,
    };
    // The files are part of the program, and tests parse each of them.
    Some(serde_json::from_str(text).expect("the file holds JSON"))
}

/// Returns the default handler of the well-known task types.
#[must_use]
pub(crate) fn default_handler(task_type: &str) -> Option<&'static str> {
    match task_type {
        "PrismQ.YouTube.Video.Single" => Some("youtube.video"),
        "PrismQ.YouTube.Video.Search" => Some("youtube.search"),
        "PrismQ.YouTube.Channel.Scrape" => Some("youtube.channel"),
        _ => None,
    }
}

/// Checks the key with a single call that costs one unit. The error is one line.
pub(crate) fn check_key(settings: &Settings, timeout: Duration) -> Result<(), String> {
    let api = Api::new(&settings.url, settings.key.as_deref());
    if !api.has_key() {
        return Err(no_key());
    }
    let query = vec![("part", "id".to_owned()), ("id", ANY_VIDEO.to_owned())];
    match api.list("videos", &query, timeout, &CancelToken::new(None)) {
        // If the quota is used up, the key is valid.
        Err(ApiError::Refused(ApiFailure { kind, reason })) if kind != FailureKind::Quota => {
            Err(Redactor::new(settings.key.as_deref()).text(&reason).into_owned())
        }
        // The unit is charged after the call, since the key can be checked even if the quota is used up.
        _ => settings.ledger.as_ref().map_or(Ok(()), |ledger| ledger.spend(1).map(drop)),
    }
}

fn no_key() -> String {
    "no YouTube API key: set YOUTUBE_API_KEY, or YOUTUBE_API_KEY_FILE to a file that contains it".into()
}

/// The kind of task.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Video,
    Search,
    Channel,
}

impl Kind {
    /// In the order of `NAMES`.
    const ALL: [Self; 3] = [Self::Video, Self::Search, Self::Channel];

    /// Parses the params of a task.
    fn request(self, params: &Value) -> Result<Request, String> {
        Ok(match self {
            Self::Video => Request::Video(params::video(params)?),
            Self::Search => Request::Search(params::search(params)?),
            Self::Channel => Request::Uploads(params::uploads(params)?),
        })
    }

    /// Returns the minimum cost of a successful task.
    fn units(self) -> u64 {
        match self {
            Self::Video => 1,
            Self::Search => SEARCH_UNITS + 1,
            Self::Channel => 3,
        }
    }
}

/// A handler that reads videos.
struct YouTubeHandler {
    kind: Kind,
    api: Api,
    redactor: Redactor,
    settings: Settings,
}

impl Handler for YouTubeHandler {
    fn run(&self, claim: &Claim, run: &Run<'_>) -> Outcome {
        let outcome = self.work(claim, run).map_or_else(Outcome::from, Outcome::success);
        self.redactor.outcome(outcome)
    }

    fn check(&self) -> Result<(), String> {
        if self.api.has_key() { Ok(()) } else { Err(no_key()) }
    }

    fn not_before(&self) -> Option<Timestamp> {
        // If the ledger cannot be read, the task reports that.
        let day = self.settings.ledger.as_ref()?.budget().ok()?;
        (day.left() < self.kind.units()).then_some(day.resets_at)
    }
}

impl YouTubeHandler {
    fn work(&self, claim: &Claim, run: &Run<'_>) -> Result<Value, TaskError> {
        let request = self.kind.request(&claim.task.params);
        let request = request.map_err(|error| TaskError::Failed(ErrorType::Validation, error))?;
        self.check().map_err(TaskError::Key)?;
        let session = ApiSession::new(&self.api, self.settings.ledger.as_deref(), run);
        let reading = TaskRun { claim, session: &session, subtitles: self.settings.subtitles };
        let mut data = reading.data(&request)?;
        data["quota"] = session.quota();
        Ok(data)
    }
}
